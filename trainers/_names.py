"""Check names as CLIP reads them: equal tokens, and names that are too long."""

import logging
from collections.abc import Sequence

import clip
from clip.tokenizer import Tokenizer, openai_tokenizer, quote
from dassl.data.datum import Task
from dassl.utils.errors import UserError

_log = logging.getLogger(__name__)


def check_names(tasks: Sequence[Task], tokenizer: Tokenizer | None = None) -> None:
    """Refuse own tasks and classes whose names CLIP cannot tell apart; for registered data sets only warn.

    Args:
        tokenizer: the backbone's; None: OpenAI's.

    Raises:
        UserError: two names have the same tokens, or one has none.
    """
    tokenizer = tokenizer or openai_tokenizer()
    for task in tasks:
        for name, other in tokenizer.same(task.classnames):
            text = _same(f"task {task.name!r}", "class", _placed(task, name), other and _placed(task, other))
            if task.places:
                raise UserError(f"{text}; rename one with classes: {{LABEL: CLASS NAME}}")
            _log.warning("%s, and predictions cannot tell them apart", text)
    own = {task.name for task in tasks if task.places}
    for name, other in tokenizer.same([task.name for task in tasks]):
        text = _same("DATASET.TASKS" if own else "the suite", "task", repr(name), other and repr(other))
        if own & {name, other}:
            raise UserError(f"{text}; rename one with name:")
        _log.warning("%s", text)


def explain_too_long(error: clip.TooLongError, tasks: Sequence[Task]) -> UserError:
    """The error of a prompt that is too long, with its name, place and remedy."""
    classes = [(task, name) for task in tasks for name in task.classnames if name.replace("_", " ") in error.text]
    task, name = max(classes, key=lambda pair: len(pair[1]), default=(None, ""))
    named = max((task.name for task in tasks if task.name.replace("_", " ") in error.text), key=len, default="")
    others = "shorten the template or the context (N_CTX)"
    if len(named) > len(name):
        return UserError(f"task {quote(named)}: {error.fact}; give the task a shorter name with name:, or {others}")
    if task is None:
        return UserError(str(error))
    shorter = "give the class a shorter name with classes: {LABEL: SHORTER NAME}, or " if task.places else ""
    return UserError(f"task {task.name!r}: class {_placed(task, name)}: {error.fact}; {shorter}{others}")


def _same(place: str, kind: str, name: str, other: str) -> str:
    if not other:
        return f"{place}: {kind} {name} has no text that CLIP reads"
    return f"{place}: {kind} names {other} and {name} are the same to CLIP (equal tokens)"


def _placed(task: Task, name: str) -> str:
    place = task.places.get(name)
    return quote(name) + (f" ({place})" if place else "")
