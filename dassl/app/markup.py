"""HTML of the answers. All texts from outside (names of runs, tasks, classes and files) are escaped."""

import base64
import io
from collections.abc import Sequence
from html import escape

from PIL import Image

from dassl.app.runs import RunAnswer, TaskAnswer
from dassl.utils.texts import printable

_SIDE = 640  # pixels of the preview
_TINY = 128

CSS = """
.softcpt-runs { display: grid; gap: 16px; grid-template-columns: repeat(auto-fit, minmax(min(100%, 210px), 1fr)); }
.softcpt-run { min-width: 0; max-width: 640px; border: 1px solid var(--border-color-primary); border-radius: 8px;
  padding: 12px 16px; background: var(--block-background-fill); color: var(--body-text-color); }
.softcpt-run h2 { font-size: 1.1rem; margin: 0 0 4px; overflow-wrap: anywhere; }
.softcpt-run h3 { font-size: 1rem; margin: 14px 0 4px; overflow-wrap: anywhere; }
.softcpt-run ol { list-style: none; margin: 0; padding: 0; }
.softcpt-run li { display: grid; grid-template-columns: minmax(0, 1fr) auto; column-gap: 12px; margin: 0 0 8px; }
.softcpt-run li > span { overflow-wrap: anywhere; line-height: 1.35; }
.softcpt-run .share { font-variant-numeric: tabular-nums; text-align: right; }
.softcpt-run .bar { grid-column: 1 / -1; height: 8px; border-radius: 4px; overflow: hidden; margin-top: 3px;
  background: var(--softcpt-track); }
.softcpt-run .bar > span { display: block; height: 100%; border-radius: 4px; background: var(--softcpt-bar); }
.softcpt-run li:first-child > .name, .softcpt-run li:first-child > .share { font-weight: 600; }
.softcpt-quiet { color: var(--softcpt-quiet); font-size: 0.9rem; margin: 2px 0; overflow-wrap: anywhere; }
.softcpt-message { border-left: 4px solid var(--softcpt-bar); padding: 8px 12px; margin: 0 0 8px; border-radius: 4px;
  background: var(--block-background-fill); color: var(--body-text-color); overflow-wrap: anywhere; }
.softcpt-message.wrong { border-left-color: var(--softcpt-wrong); }
.softcpt-message p { margin: 0; }
#message:not(:has(.softcpt-message)), #preview:not(:has(img)) { display: none; }
.softcpt-picture { margin: 0; text-align: center; }
.softcpt-picture img { display: block; max-width: 100%; max-height: 300px; margin: 0 auto; border-radius: 6px; }
.softcpt-picture img.tiny { width: min(100%, 192px); image-rendering: pixelated; }
:root, .gradio-container { --softcpt-bar: #1d64c8; --softcpt-track: #dde3ec; --softcpt-quiet: #4a5261;
  --softcpt-wrong: #b3261e; }
.dark, .dark .gradio-container { --softcpt-bar: #7db0ff; --softcpt-track: #3a4150; --softcpt-quiet: #bcc4d2;
  --softcpt-wrong: #ff8a80; }
"""


def answers_html(answers: Sequence[RunAnswer]) -> str:
    """The answers of runs, side by side where there is room."""
    return f'<div class="softcpt-runs">{"".join(map(_run, answers))}</div>' if answers else ""


def message_html(lines: Sequence[str], *, wrong: bool) -> str:
    """What happened, a paragraph for each line; screen readers say it at once."""
    if not lines:
        return ""
    kind, role = (" wrong", "alert") if wrong else ("", "status")
    return (
        f'<div class="softcpt-message{kind}" role="{role}">{"".join(f"<p>{_text(each)}</p>" for each in lines)}</div>'
    )


def preview_html(image: Image.Image, file: str) -> str:
    """A smaller copy of a picture, inside the page; a very small one is shown larger than it is."""
    tiny = max(image.size) <= _TINY
    kind = ' class="tiny"' if tiny else ""
    caption = f'<figcaption class="softcpt-quiet">{_text(file)}: {image.width:,} x {image.height:,} pixels</figcaption>'
    source = _data_url(image, "PNG" if tiny else "JPEG")
    return f'<figure class="softcpt-picture"><img{kind} src="{source}" alt="{_text(file)}">{caption}</figure>'


def _data_url(image: Image.Image, form: str) -> str:
    copy, written = image.copy(), io.BytesIO()
    copy.thumbnail((_SIDE, _SIDE))
    copy.save(written, form)
    return f"data:image/{form.lower()};base64,{base64.b64encode(written.getvalue()).decode()}"


def _run(answer: RunAnswer) -> str:
    parts = [f"<h2>{_text(answer.run)}</h2>"]
    if answer.refused:
        parts.append(f'<p class="softcpt-quiet">Its own class names, because {_text(answer.refused)}</p>')
    return f'<section class="softcpt-run">{"".join([*parts, *map(_task, answer.tasks)])}</section>'


def _task(answer: TaskAnswer) -> str:
    bars = "".join(_bar(each.name, each.probability) for each in answer.classes)
    left, share = answer.others
    sum_of_others = f": {share:.1%}" if answer.threshold is None else ""
    rest = f'<p class="softcpt-quiet">{_classes(left)}{sum_of_others}</p>' if left else ""
    notes = [("with your class names", answer.renamed), ("calibrated", answer.calibrated)]
    said = ", ".join(text for text, holds in notes if holds)
    if answer.threshold is not None:
        several = sum(each.probability >= answer.threshold for each in answer.classes)
        said = ", ".join(filter(None, [said, f"{several} predicted, from {answer.threshold:.1%} on"]))
    note = f'<p class="softcpt-quiet">{said}</p>' if said else ""
    return f"<h3>{_text(answer.task)}</h3>{note}<ol>{bars}</ol>{rest}"


def _classes(count: int) -> str:
    return f"{count:,} other class{'' if count == 1 else 'es'}"


def _bar(name: str, probability: float) -> str:
    bar = f'<span class="bar" aria-hidden="true"><span style="width:{probability:.2%}"></span></span>'
    return f'<li><span class="name">{_text(name)}</span><span class="share">{probability:.1%}</span>{bar}</li>'


def _text(text: str) -> str:
    return escape(printable(text)).replace("{", "&#123;").replace("$", "&#36;")
