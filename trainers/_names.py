"""Names as CLIP reads them: what two names have in common, and which are too long."""

import logging
from collections.abc import Sequence

import clip
from dassl.data.datum import Task
from dassl.utils.errors import UserError

_SHOWN = 60

_log = logging.getLogger(__name__)


def check_names(tasks: Sequence[Task]) -> None:
    """Refuse names of one's own tasks and classes that are one to CLIP, and warn of those of registered data sets.

    Raises:
        UserError: two names have the same tokens, or one has none.
    """
    for task in tasks:
        for name, other in clip.same_tokens(task.classnames):
            text = _same(f"task {task.name!r}", "class", _placed(task, name), other and _placed(task, other))
            if task.places:
                raise UserError(f"{text}; rename one with classes: {{LABEL: CLASS NAME}}")
            _log.warning("%s, and predictions cannot tell them apart", text)
    own = {task.name for task in tasks if task.places}
    for name, other in clip.same_tokens([task.name for task in tasks]):
        text = _same("DATASET.TASKS" if own else "the suite", "task", repr(name), other and repr(other))
        if own & {name, other}:
            raise UserError(f"{text}; rename one with name:")
        _log.warning("%s", text)


def explain_too_long(error: clip.TooLongError, tasks: Sequence[Task]) -> UserError:
    """The error of a prompt that does not fit, with the name that is to blame, its place and what can be done."""
    classes = [(task, name) for task in tasks for name in task.classnames if name.replace("_", " ") in error.text]
    named = [task for task in tasks if task.name.replace("_", " ") in error.text]
    longest = max(classes, key=lambda pair: len(pair[1]), default=None)
    task = max(named, key=lambda task: len(task.name), default=None)
    fits = f"has {error.tokens} tokens in its prompt, with start, end and context, and CLIP reads 77"
    if longest is not None and (task is None or len(longest[1]) >= len(task.name)):
        task, name = longest
        remedy = "classes: {LABEL: SHORTER NAME}" if task.places else "a shorter template or context (N_CTX)"
        return UserError(f"task {task.name!r}: class {_placed(task, name)} {fits}; mend it with {remedy}")
    if task is not None:
        return UserError(f"task {_short(task.name)} {fits}; give it a shorter name with name:")
    return UserError(str(error))


def _same(place: str, kind: str, name: str, other: str) -> str:
    if not other:
        return f"{place}: {kind} {name} has no text that CLIP reads"
    return f"{place}: {kind} names {other} and {name} are one to CLIP (the same tokens)"


def _placed(task: Task, name: str) -> str:
    place = task.places.get(name)
    return _short(name) + (f" ({place})" if place else "")


def _short(name: str) -> str:
    return repr(name if len(name) <= _SHOWN else f"{name[:_SHOWN]}...")
