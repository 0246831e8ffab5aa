"""What is told of the context of a finished run."""

from dataclasses import dataclass

from dassl.explain.similarity import Similarity, check_some, similarities
from dassl.explain.words import FoundWords, WordFinder
from dassl.inference.classifier import Classifier, ExportedClassifier
from dassl.utils.errors import UserError


@dataclass(frozen=True)
class Interpretation:
    """Words and similarities of a run.

    Attributes:
        words: of each context; None: they were not asked for.
        similarities: of the tasks; none where they share one context, or one task was asked for.
    """

    run: str
    trainer: str
    words: FoundWords | None
    similarities: list[Similarity]


def interpret(
    classifier: Classifier, *, task: str | int | None = None, top_k: int = 5, words: bool = True, compare: bool = False
) -> Interpretation:
    """Find the words near the context vectors of a run, and compare its tasks.

    Args:
        task: words of this task only, without a comparison.
        top_k: words for each vector.
        words: look for words.
        compare: the comparison is what was asked for, so that its absence is an error.

    Raises:
        UserError: an exported file, a method without context vectors, no such task, or nothing to compare.
    """
    if isinstance(classifier, ExportedClassifier):
        raise UserError(f"{classifier.folder} is an exported file, which has no context vectors; give the run folder")
    trainer, number = classifier.trainer, None if task is None else classifier.task_number(task)
    contexts = trainer.contexts()
    found = similarities(trainer, contexts) if number is None else []
    if compare:
        check_some(found, trainer)
    asked = [each for each in contexts if number is None or number in each.tasks]
    near = WordFinder(trainer.vocabulary()).of(asked, top_k=top_k) if words else None
    return Interpretation(str(classifier.folder), trainer.cfg.TRAINER.NAME, near, found)
