"""The words of the vocabulary that context vectors are nearest to, and how near random vectors come to a word.

CoOp's authors show the words nearest to their learned vectors, by Euclidean distance between embeddings (Zhou et al.,
"Learning to prompt for vision-language models", IJCV 2022, section 4.3). A nearest word always exists, so its distance
needs a yardstick: that of random vectors of the same norm.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor
from torch.nn import functional

from dassl.engine.contexts import Context, Vocabulary

DRAWS, SEED = 200, 0
SHARE = 0.9
RULE = (
    f"a word may mean something if its distance is below {SHARE:g} times the least distance at which any of {DRAWS} "
    "random vectors of the same norm lies from a word"
)
_AT_ONCE = 256  # vectors; their products with 49,408 words take 50 MB
_SPARE = 16  # words beyond those asked for, whose distances are computed exactly


@dataclass(frozen=True)
class Word:
    """A token near a vector; ``kind`` as in :class:`Vocabulary`."""

    text: str
    kind: str
    distance: float


@dataclass(frozen=True)
class NearWords:
    """What one context vector is near to.

    Attributes:
        norm: its length.
        words: the nearest tokens, the nearest one first.
        random: least, middle and largest distance of the random vectors of this norm from their nearest tokens.
    """

    norm: float
    words: tuple[Word, ...]
    random: tuple[float, float, float]

    @property
    def nearer(self) -> bool:
        """Whether the nearest word is nearer than any random vector comes to one."""
        return self.words[0].distance < self.random[0]

    @property
    def may_mean(self) -> bool:
        """Whether the nearest word may mean something, by ``RULE``."""
        return self.words[0].distance < SHARE * self.random[0]


@dataclass(frozen=True)
class ContextWords:
    """A context with what each of its vectors is near to."""

    context: Context
    vectors: tuple[NearWords, ...]


@dataclass(frozen=True)
class FoundWords:
    """The words of some contexts.

    Attributes:
        token_norms: least, middle and largest length of the tokens' embeddings: a vector that is much longer is far
            from every word.
    """

    contexts: list[ContextWords]
    token_norms: tuple[float, float, float]

    @property
    def vectors(self) -> list[NearWords]:
        """Those of all contexts."""
        return [each for context in self.contexts for each in context.vectors]


class WordFinder:
    """Finds the words nearest to vectors."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.vocabulary, self._embeddings = vocabulary, vocabulary.embeddings
        self._squares = self._embeddings.double().square().sum(dim=1).float()
        draws = torch.randn(DRAWS, self._embeddings.shape[1], generator=torch.Generator().manual_seed(SEED))
        self._products = functional.normalize(draws, dim=1) @ self._embeddings.T
        self.random = lru_cache(maxsize=None)(self._random)

    def of(self, contexts: Sequence[Context], *, top_k: int) -> FoundWords:
        """The ``top_k`` nearest words of every vector of some contexts; there is at least one."""
        rows = iter(self.near(torch.cat([each.vectors for each in contexts]), top_k=top_k))
        found = [ContextWords(each, tuple(next(rows) for _ in each.vectors)) for each in contexts]
        return FoundWords(found, _range(self._squares.sqrt()))

    def near(self, vectors: Tensor, *, top_k: int) -> list[NearWords]:
        """The ``top_k`` nearest words of each vector (N, D)."""
        return [each for part in vectors.split(_AT_ONCE) for each in self._near(part, min(top_k, len(self._squares)))]

    def _near(self, vectors: Tensor, top_k: int) -> list[NearWords]:
        # |v - e|^2 - |v|^2: good enough to choose words by, too coarse for the distance of a vector that is a word.
        rough = self._squares - 2 * vectors @ self._embeddings.T
        chosen = rough.topk(min(top_k + _SPARE, rough.shape[1]), dim=1, largest=False).indices.sort(dim=1).values
        exact = (self._embeddings[chosen].double() - vectors.double()[:, None]).norm(dim=2)
        distances, order = exact.sort(dim=1, stable=True)
        tokens = chosen.gather(1, order)[:, :top_k].tolist()
        norms = vectors.double().norm(dim=1).tolist()
        return [
            NearWords(norm, tuple(map(self._word, ids, row)), self.random(float(f"{norm:.3g}")))
            for norm, ids, row in zip(norms, tokens, distances[:, :top_k].tolist(), strict=True)
        ]

    def _word(self, token: int, distance: float) -> Word:
        return Word(self.vocabulary.texts[token], self.vocabulary.kinds[token], distance)

    def _random(self, norm: float) -> tuple[float, float, float]:
        """Least, middle and largest distance of random vectors of a norm from their nearest words."""
        nearest = (self._squares - 2 * norm * self._products).amin(dim=1) + norm**2
        return _range(nearest.clamp_min(0).sqrt())


def _range(values: Tensor) -> tuple[float, float, float]:
    """Least, middle and largest value."""
    return float(values.min()), float(values.median()), float(values.max())


def conclusion(found: FoundWords) -> str:
    """What the words of a run mean, in a sentence."""
    vectors = found.vectors
    count, nearer = (sum(getattr(each, name) for each in vectors) for name in ("may_mean", "nearer"))
    bound = f"{SHARE:g} times the least distance of {DRAWS} random vectors of the same norm"
    if not count:
        return (
            f"The words mean nothing: of {_vectors(len(vectors))} none is nearer to a word than {bound} "
            f"({nearer:,} below that distance itself)."
        )
    rest = "" if count == len(vectors) else "; the words of the others mean nothing"
    return (
        f"The words of {count:,} of {_vectors(len(vectors))} may mean something (marked *): they are nearer than "
        f"{bound}{rest}."
    )


def _vectors(count: int) -> str:
    return f"{count:,} vector{'s' * (count != 1)}"
