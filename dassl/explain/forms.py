"""How words and similarities are written: tables for people, CSV, or one JSON object."""

import csv
import json
from collections.abc import Callable, Sequence
from typing import TextIO

from dassl.engine.contexts import Context
from dassl.explain.interpreting import Interpretation
from dassl.explain.similarity import Similarity
from dassl.explain.words import DRAWS, RULE, SEED, SHARE, ContextWords, FoundWords, NearWords, Word, conclusion
from dassl.utils.texts import spreadsheet_cell, visible_line

_COLUMNS = (
    *("prompts", "owner", "origin", "vector", "norm", "rank", "word", "kind", "distance"),
    *("random_least", "random_middle", "may_mean"),
)
_PIECE = "-"  # behind a token that more letters follow


def write_table(content: Interpretation, stream: TextIO) -> None:
    """Tables for people, with the conclusion behind the words."""
    if content.words is not None:
        stream.write("\n".join(_word_lines(content.words)) + "\n")
    for each in content.similarities:
        stream.write("\n".join(_similarity_lines(each)) + "\n")


def write_csv(content: Interpretation, stream: TextIO) -> None:
    """A row for each word, or, where words were not asked for, for each pair of tasks."""
    rows = csv.writer(stream, lineterminator="\n")
    for row in _pair_rows(content.similarities) if content.words is None else _word_rows(content.words):
        rows.writerow([spreadsheet_cell(visible_line(str(cell))) for cell in row])


def write_json(content: Interpretation, stream: TextIO) -> None:
    """One object with everything."""
    told: dict[str, object] = {"run": content.run, "trainer": content.trainer}
    if content.words is not None:
        told["yardstick"] = {"draws": DRAWS, "seed": SEED, "share": SHARE, "rule": RULE}
        told["conclusion"] = conclusion(content.words)
        told["token_norms"] = _named(content.words.token_norms)
        told["contexts"] = [_context_object(each) for each in content.words.contexts]
    told["similarity"] = [
        {"what": each.what, "tasks": each.tasks, "cosines": each.cosines.tolist()} for each in content.similarities
    ]
    json.dump(told, stream, indent=2, ensure_ascii=True, allow_nan=False)
    stream.write("\n")


FORMATS: dict[str, Callable[[Interpretation, TextIO], None]] = {
    "table": write_table,
    "csv": write_csv,
    "json": write_json,
}


def _word_lines(words: FoundWords) -> list[str]:
    lines = [line for each in words.contexts for line in _context_lines(each)]
    least, middle, largest = words.token_norms
    return [
        *lines,
        conclusion(words),
        f"Columns: vector; norm (tokens have {least:.3f} to {largest:.3f}, middle {middle:.3f}); least and middle "
        f"distance of {DRAWS} random vectors of that norm (seed {SEED}) from their nearest words; nearest words with "
        f"distances. A token with {_PIECE} behind it is a piece of a word.",
    ]


def _context_lines(each: ContextWords) -> list[str]:
    head = f"{each.context.prompts} of {_owner(each.context)}, {each.context.origin}"
    head += f" ({each.context.note})" if each.context.note else ""
    rows = [(str(n), *_cells(near)) for n, near in enumerate(each.vectors, 1)]
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    lines = ["  ".join((*map(str.rjust, row[:4], widths), row[4])) for row in rows]
    return [visible_line(head), *(f"  {line}" for line in lines), ""]


def _cells(near: NearWords) -> tuple[str, ...]:
    words = ", ".join(f"{_shown(word)} {word.distance:.3f}" for word in near.words)
    least, middle, _ = near.random
    return f"{near.norm:.3f}", f"{least:.3f}", f"{middle:.3f}", f"{'*' if near.may_mean else ' '} {words}"


def _shown(word: Word) -> str:
    text = visible_line(word.text).replace(" ", "\\x20")
    return text + _PIECE if word.kind == "piece" else text


def _owner(context: Context) -> str:
    return context.owner or ("all tasks" if len(context.tasks) > 1 else "all classes")


def _similarity_lines(each: Similarity) -> list[str]:
    names = [visible_line(name) for name in each.tasks]
    width, digits = max(map(len, names)), len(str(len(names)))
    heads = "  ".join(f"{number:>5}" for number in range(1, len(names) + 1))
    lines = ["", f"similarity of the tasks: cosine of {each.what}", f"{'':{digits + width + 2}} {heads}"]
    for number, (name, row) in enumerate(zip(names, each.cosines.tolist(), strict=True), 1):
        cells = "  ".join(f"{value:5.2f}" for value in row)
        lines.append(f"{number:>{digits}}  {name:{width}} {cells}")
    return lines


def _word_rows(words: FoundWords) -> list[list[object]]:
    rows: list[list[object]] = [list(_COLUMNS)]
    for each in words.contexts:
        owner = [each.context.prompts, _owner(each.context), each.context.origin]
        for number, near in enumerate(each.vectors, 1):
            least, middle, _ = near.random
            yardstick = [f"{least:.6f}", f"{middle:.6f}", "yes" if near.may_mean else "no"]
            for rank, word in enumerate(near.words, 1):
                found = [number, f"{near.norm:.6f}", rank, word.text, word.kind, f"{word.distance:.6f}"]
                rows.append([*owner, *found, *yardstick])
    return rows


def _pair_rows(similarities: Sequence[Similarity]) -> list[list[object]]:
    rows: list[list[object]] = [["what", "task", "other_task", "cosine"]]
    for each in similarities:
        for name, values in zip(each.tasks, each.cosines.tolist(), strict=True):
            pairs = zip(each.tasks, values, strict=True)
            rows += [[each.what, name, other, f"{value:.6f}"] for other, value in pairs]
    return rows


def _context_object(each: ContextWords) -> dict[str, object]:
    context = each.context
    facts = {"prompts": context.prompts, "owner": context.owner, "origin": context.origin, "note": context.note}
    return {**facts, "tasks": list(context.tasks), "vectors": [_vector_object(near) for near in each.vectors]}


def _vector_object(near: NearWords) -> dict[str, object]:
    words = [{"word": word.text, "kind": word.kind, "distance": word.distance} for word in near.words]
    return {"norm": near.norm, "words": words, "random": _named(near.random), "may_mean": near.may_mean}


def _named(values: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("least", "middle", "largest"), values, strict=True))
