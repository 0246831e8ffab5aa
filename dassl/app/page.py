"""The page: what a visitor sees and may do. Gradio draws it; dassl/app/runs.py answers."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import gradio as gr

from dassl.app.markup import answers_html, message_html, preview_html
from dassl.app.runs import MOST_PIXELS, Runs, Visit
from dassl.app.uploads import MOST_BYTES, Uploads
from dassl.utils.errors import UserError, out_of_memory

TITLE = "SoftCPT: try a run"
ALL = "All side by side"
FORGOTTEN = 3600  # seconds after which a page that was left alone needs its picture again
MOST_TOP, USUAL_TOP = 20, 5
_LIMITS = f"Up to {MOST_BYTES // 1_000_000} MB and {MOST_PIXELS // 1_000_000} megapixels; deleted once it is answered."
_EMPTY = '<p class="softcpt-quiet">The answers appear here.</p>'


class Page:
    """What the controls do. Each function returns a value for each control that it changes."""

    def __init__(self, runs: Runs, folder: Uploads) -> None:
        self.runs, self._folder = runs, folder

    def uploaded(self, file: Any, visit: Visit, choice: str, top: float) -> tuple[Any, ...]:
        """A file was dropped; returns [upload, visit, preview, message, answers]."""
        if file is None:
            return (gr.skip(),) * 5
        name = str(file.get("orig_name") or "the file")
        try:
            with _memory_explained(), self._folder.taken(str(file["path"])) as path:
                visit, picture = self.runs.look(visit, path, name)
                return None, visit, preview_html(picture, name), "", self._answers(visit, choice, top)
        except UserError as error:
            return None, Visit(names=visit.names), "", _wrong(error), _EMPTY

    def asked(self, visit: Visit, choice: str, top: float) -> tuple[str, str]:
        """Other runs or another number of classes; returns [message, answers]."""
        try:
            with _memory_explained():
                return "", self._answers(visit, choice, top)
        except UserError as error:
            return _wrong(error), _EMPTY

    def chosen(self, visit: Visit, task: str) -> Any:
        """A task was chosen; returns [names]."""
        return self._names(visit, task)

    def renamed(self, visit: Visit, choice: str, top: float, task: str, text: str) -> tuple[Any, ...]:
        """Class names were edited; returns [visit, names, message, answers]."""
        try:
            with _memory_explained():
                visit, refusals = self.runs.rename(visit, self._shown(choice), task, text)
                said = [f"{task}: {len(visit.names[task])} class names are in use.", *refusals]
                return visit, gr.skip(), message_html(said, wrong=False), self._answers(visit, choice, top)
        except UserError as error:
            return gr.skip(), gr.skip(), _wrong(error), gr.skip()

    def restored(self, visit: Visit, choice: str, top: float, task: str) -> tuple[Any, ...]:
        """The runs' own class names are wanted; returns as :meth:`renamed`."""
        visit = self.runs.restore(visit, task)
        return visit, self._names(visit, task), *self.asked(visit, choice, top)

    def _names(self, visit: Visit, task: str) -> Any:
        return gr.update(value="\n".join(self.runs.class_names(visit, task)), label=f"Class names of {task}")

    def _shown(self, choice: str) -> list[str]:
        return [choice] if choice in self.runs.names else self.runs.names

    def _answers(self, visit: Visit, choice: str, top: float) -> str:
        found = self.runs.answers(visit, self._shown(choice), min(max(int(top), 1), MOST_TOP))
        return answers_html(found) or _EMPTY


@dataclass
class _Controls:
    """What stands on the page."""

    visit: gr.State
    upload: gr.File
    preview: gr.HTML
    run: gr.Radio
    top: gr.Slider
    task: gr.Dropdown
    names: gr.Textbox
    use: gr.Button
    restore: gr.Button
    message: gr.HTML
    answers: gr.HTML


def build(runs: Runs, folder: Uploads) -> gr.Blocks:
    """The page, ready to be served."""
    with gr.Blocks(title=TITLE, analytics_enabled=False, fill_width=True) as blocks:
        _wire(_controls(runs), Page(runs, folder))
    blocks.state_session_capacity = 100
    blocks.queue(max_size=32, api_open=False)
    return blocks


def theme() -> gr.themes.Base:
    """Gradio's plain theme with the fonts of the system and more contrast."""
    plain = gr.themes.Default(primary_hue="blue", font=["system-ui", "sans-serif"], font_mono=["monospace"])
    return plain.set(
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_300",
        block_title_text_color="*neutral_700",
        block_label_text_color="*neutral_700",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_hover="*primary_700",
    )


def _controls(runs: Runs) -> _Controls:
    several, first = len(runs.names) > 1, runs.tasks[0]
    visit = gr.State(Visit(), time_to_live=FORGOTTEN)
    gr.HTML('<h1 class="softcpt-title">Try it</h1>')
    with gr.Row():
        with gr.Column(scale=1, min_width=280):
            upload = gr.File(label="Picture: drop it here, or press to pick one", height=150, elem_id="picture")
            gr.HTML(f'<p class="softcpt-quiet">{_LIMITS}</p>')
            preview = gr.HTML("", elem_id="preview")
            choices = [ALL, *runs.names] if several else runs.names
            run = gr.Radio(choices, value=choices[0], label="Run", visible=several, elem_id="run")
            top = gr.Slider(1, MOST_TOP, USUAL_TOP, step=1, label="Classes shown for each task", elem_id="top")
            message = gr.HTML("", elem_id="message")
            with gr.Accordion("Other class names", open=False, elem_id="editor"):
                task = gr.Dropdown(runs.tasks, value=first, label="Task", visible=len(runs.tasks) > 1, elem_id="task")
                names = gr.Textbox(
                    "\n".join(runs.class_names(Visit(), first)),
                    label=f"Class names of {first}",
                    info="One a line. Shift+Enter uses them.",
                    lines=6,
                    max_lines=12,
                    elem_id="names",
                )
                with gr.Row():
                    use = gr.Button("Use these names", variant="primary", size="sm", min_width=120)
                    restore = gr.Button("The run's own", size="sm", min_width=120)
        with gr.Column(scale=2, min_width=280):
            answers = gr.HTML(_EMPTY, elem_id="answers")
    return _Controls(visit, upload, preview, run, top, task, names, use, restore, message, answers)


def _wire(on: _Controls, page: Page) -> None:
    # One computation at a time: the runs share the machine's memory and threads.
    rules = {"concurrency_id": "model", "concurrency_limit": 1, "api_visibility": "private"}
    shown, told = [on.visit, on.run, on.top], [on.message, on.answers]
    # The file is taken as it was uploaded: Gradio's own preparation would leave another one behind.
    on.upload.upload(
        page.uploaded, [on.upload, *shown], [on.upload, on.visit, on.preview, *told], preprocess=False, **rules
    )
    for control in (on.run.change, on.top.change):
        control(page.asked, shown, told, trigger_mode="always_last", **rules)
    on.task.change(page.chosen, [on.visit, on.task], on.names, **rules)
    for event in (on.use.click, on.names.submit):
        event(page.renamed, [*shown, on.task, on.names], [on.visit, on.names, *told], **rules)
    on.restore.click(page.restored, [*shown, on.task], [on.visit, on.names, *told], **rules)


def _wrong(error: UserError) -> str:
    return message_html(str(error).split("\n"), wrong=True)


@contextmanager
def _memory_explained() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError("the memory ran out; give a smaller picture, or start the page with fewer runs") from error
