"""Texts as token ids: OpenAI's byte pairs, and the tokenizers of other backbones, in rows of fixed length."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import open_clip
import regex
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from clip.errors import BackboneError, TooLongError

CONTEXT_LENGTH = 77
LONGEST_QUOTE = 60
WORD_END = "</w>"
SPECIAL_TOKENS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}
# Marks of other tokenizers: a token that begins a word (SentencePiece, byte-level pairs), one that continues it (BERT).
WORD_STARTS = ("\u2581", "\u0120")
CONTINUED = "##"


class Tokenizer(ABC):
    """Text to token ids.

    Attributes:
        length: columns of a row, the longest text with start and end.
        start, end: the ids around a text; ``end`` has at least one.
        pad_id: the id behind the end.
        size: number of ids, without those that stand for nothing.
    """

    length: int
    start: tuple[int, ...]
    end: tuple[int, ...]
    pad_id: int
    size: int

    @abstractmethod
    def ids(self, text: str) -> list[int]:
        """Ids of the text alone, of whatever length."""

    @abstractmethod
    def vocabulary(self) -> tuple[tuple[str, str], ...]:
        """Text and kind of each token, by its id.

        A "word" ends where the token does (or starts there, where the tokenizer marks starts), a "piece" is joined to
        other letters, "special" are the start and the end of a text.
        """

    def placeholders(self, text: str, count: int) -> list[int]:
        """Ids of ``text`` behind ``count`` ids that context vectors will replace."""
        return [*self.ids("a")[:1] * count, *self.ids(text)]

    def ending(self, row: Sequence[int]) -> int:
        """The column of the first end token; a text may contain one, and is read no further."""
        return row.index(self.end[-1], len(self.start))

    def encode(self, text: str) -> list[int]:
        """Ids of ``text`` between those of the start and of the end."""
        return [*self.start, *self.ids(text), *self.end]

    def count(self, name: str) -> int:
        """Number of ids of ``name``, without start and end."""
        return len(self.ids(name))

    def __call__(self, texts: str | Sequence[str], *, length: int = 0, truncate: bool = False) -> Tensor:
        """Turn texts into rows of token ids.

        Args:
            texts: one text or several.
            length: number of columns; 0: the tokenizer's.
            truncate: cut a longer text so that its last token is the end token, instead of refusing it.

        Returns:
            (N, length) int64: start, the text, end, padding.

        Raises:
            TooLongError: a text does not fit and ``truncate`` is off.
        """
        length = length or self.length
        texts = [texts] if isinstance(texts, str) else texts
        rows = [self.encode(text) for text in texts]
        for index, (text, row) in enumerate(zip(texts, rows, strict=True)):
            if len(row) <= length:
                continue
            if not truncate:
                fact = f"the text {quote(text)} has {len(row)} tokens with start and end, but only {length} fit"
                raise TooLongError(text, fact, "shorten it or allow truncation (truncate=True)")
            rows[index] = [*row[: length - len(self.end)], *self.end]
        return pad(rows, length, self.pad_id)

    def same(self, names: Sequence[str]) -> list[tuple[str, str]]:
        """(name, earlier name) of different names that the model cannot tell apart ("_" is a space).

        The tokenizer folds case, blanks, normal forms and widths of letters, curly quotes and HTML entities, and reads
        nothing after an end token. Names are compared without and, as in prompts, with a dot at the end. A name
        without a token is paired with "".
        """
        first: dict[tuple[str, tuple[int, ...]], str] = {}
        pairs: dict[tuple[str, str], None] = {}
        for name in dict.fromkeys(names):
            for ending in ("", "."):
                row = self.encode(name.replace("_", " ") + ending)
                other = first.setdefault((ending, tuple(row[: self.ending(row)])), name)
                if other != name:
                    pairs[name, other] = None
            if not self.count(name.replace("_", " ")):
                pairs[name, ""] = None
        return list(pairs)


class BytePairs(Tokenizer):
    """OpenAI's byte pairs, which most CLIPs have.

    Args:
        length: columns of a row.
        clean: open_clip's name of what is done to a text first; "lower" in OpenAI's models.
    """

    pad_id = 0

    def __init__(self, length: int = CONTEXT_LENGTH, clean: str = "lower") -> None:
        self.length = length
        self._pairs = _byte_pairs(clean)
        self.start, self.end = (self._pairs.sot_token_id,), (self._pairs.eot_token_id,)
        self.size = self._pairs.vocab_size

    def ids(self, text: str) -> list[int]:
        """Ids of the text alone."""
        return self._pairs.encode(text)

    def placeholders(self, text: str, count: int) -> list[int]:
        """As CoOp writes them, with the word X."""
        return self.ids(" ".join([*["X"] * count, text]))

    def vocabulary(self) -> tuple[tuple[str, str], ...]:
        """Text and kind of each token; bytes that are not UTF-8 by themselves are escaped, such as ``\\xc3``."""
        return _byte_pair_vocabulary()


@lru_cache(maxsize=4)
def _byte_pairs(clean: str) -> SimpleTokenizer:
    """open_clip's tokenizer, with the two special tokens spelt as in OpenAI's vocabulary."""
    tokenizer = SimpleTokenizer(clean=clean)
    pattern = tokenizer.pat.pattern
    for theirs, openai in SPECIAL_TOKENS.items():
        pattern = pattern.replace(theirs, regex.escape(openai))
        tokenizer.encoder[openai] = tokenizer.encoder.pop(theirs)
        tokenizer.cache[openai] = tokenizer.cache.pop(theirs).replace(theirs, openai)
    tokenizer.pat = regex.compile(pattern, regex.IGNORECASE)
    return tokenizer


@lru_cache(maxsize=1)
def _byte_pair_vocabulary() -> tuple[tuple[str, str], ...]:
    tokenizer = _byte_pairs("lower")
    by_id = sorted(tokenizer.encoder.items(), key=lambda item: item[1])
    special = set(SPECIAL_TOKENS.values())
    return tuple((token, "special") if token in special else _told(token, tokenizer.byte_decoder) for token, _ in by_id)


def _told(token: str, byte_of: Mapping[str, int]) -> tuple[str, str]:
    kind = "word" if token.endswith(WORD_END) else "piece"
    content = bytes(byte_of[letter] for letter in token.removesuffix(WORD_END))
    return content.decode("utf-8", "backslashreplace"), kind


class Foreign(Tokenizer):
    """Another tokenizer of open_clip, known only by the rows that it makes.

    Args:
        rows: texts and number of columns -> (N, columns) int64, as open_clip's tokenizers.
        length: columns of a row.
        vocabulary: the tokens by id, as the tokenizer spells them; none: they cannot be shown.
    """

    def __init__(
        self, rows: Callable[[list[str], int], Tensor], length: int, vocabulary: Callable[[], Sequence[str]] | None
    ) -> None:
        self.length, self._rows, self._spelt = length, rows, vocabulary
        empty, letter = (self._row(text, 16) for text in ("", "a"))
        # The row of an empty text is start, end and padding; it has in common with another text what is in front.
        self.pad_id = empty[-1]
        front = next(i for i, (mine, theirs) in enumerate(zip(empty, letter, strict=True)) if mine != theirs)
        self.start = tuple(empty[:front])
        self.end = tuple(_stripped(empty[front:], self.pad_id)) or (self.pad_id,)
        self.size = len(vocabulary()) if vocabulary is not None else 0

    def _row(self, text: str, length: int) -> list[int]:
        return self._rows([text], length)[0].tolist()

    def ids(self, text: str) -> list[int]:
        """Ids of the text alone."""
        # A token stands for a byte at least, but normal forms of letters may be longer.
        row = _stripped(self._row(text, 4 * len(text.encode()) + 16), self.pad_id)
        row = row[len(self.start) :]
        return row[: len(row) - len(self.end)] if tuple(row[-len(self.end) :]) == self.end else row

    def vocabulary(self) -> tuple[tuple[str, str], ...]:
        """Text and kind of each token."""
        if self._spelt is None:
            raise BackboneError("this backbone's tokenizer cannot show its tokens, so no words are near its context")
        special = {*self.start, *self.end, self.pad_id}
        spelt = enumerate(self._spelt())
        return tuple((token, "special") if number in special else _spelling(token) for number, token in spelt)


def _stripped(row: list[int], pad_id: int) -> list[int]:
    end = len(row)
    while end and row[end - 1] == pad_id:
        end -= 1
    return row[:end]


def _spelling(token: str) -> tuple[str, str]:
    if token.startswith(WORD_STARTS):
        return token[1:], "word"
    return token.removeprefix(CONTINUED), "piece"


def tokenizer_of(name: str, text_config: Mapping[str, Any]) -> Tokenizer:
    """The tokenizer of a backbone.

    Args:
        name: open_clip's name of the model, for which it knows the tokenizer.
        text_config: ``text_cfg`` of its description.

    Raises:
        BackboneError: it needs a package or a file that is not there.
    """
    length = int(text_config.get("context_length", CONTEXT_LENGTH))
    if mode := text_config.get("tokenizer_mode"):
        raise BackboneError(f"{name} wants texts tokenised in the mode {mode!r}, which is not supported")
    asked = dict(text_config.get("tokenizer_kwargs") or {})
    if not text_config.get("hf_tokenizer_name"):
        return BytePairs(length, str(asked.get("clean", "lower")))
    try:
        found = open_clip.get_tokenizer(name, context_length=length)
    except ImportError as error:
        raise BackboneError(
            f"the tokenizer of {name} ({text_config['hf_tokenizer_name']}) needs the package transformers; install it "
            "(pip install transformers)"
        ) from error
    except (OSError, ValueError) as error:
        said = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BackboneError(
            f"the tokenizer of {name} ({text_config['hf_tokenizer_name']}) is not on this machine and cannot be "
            f"fetched ({said[:200]}); fetch it on a machine with a network"
        ) from error
    return foreign(found, length)


def foreign(tokenizer: Any, length: int) -> Foreign:
    """One of open_clip's tokenizers that wrap a Hugging Face one."""
    inner = getattr(tokenizer, "tokenizer", None)
    spelt = None if inner is None else lambda: inner.convert_ids_to_tokens(list(range(len(inner))))
    return Foreign(lambda texts, columns: tokenizer(texts, context_length=columns), length, spelt)


@lru_cache(maxsize=1)
def openai_tokenizer() -> BytePairs:
    """That of OpenAI's models."""
    return BytePairs()


def vocabulary_size() -> int:
    """Number of token ids of OpenAI's models, the start and end tokens included (49,408)."""
    return openai_tokenizer().size


def vocabulary() -> tuple[tuple[str, str], ...]:
    """Text and kind of each token of OpenAI's models."""
    return openai_tokenizer().vocabulary()


def token_count(name: str) -> int:
    """Number of OpenAI's tokens of ``name``, without start and end tokens."""
    return openai_tokenizer().count(name)


def encode(text: str) -> list[int]:
    """OpenAI's token ids of ``text`` between the start token and the end token, of whatever length."""
    return openai_tokenizer().encode(text)


def same_tokens(names: Sequence[str]) -> list[tuple[str, str]]:
    """Pairs of names that OpenAI's models cannot tell apart; see ``Tokenizer.same``."""
    return openai_tokenizer().same(names)


def pad(rows: Sequence[list[int]], length: int, pad_id: int = 0) -> Tensor:
    """Stack rows of ids into one (N, ``length``) int64 tensor, ``pad_id`` after each row's end."""
    padded = torch.full((len(rows), length), pad_id, dtype=torch.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = torch.tensor(row)
    return padded


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH, *, truncate: bool = False) -> Tensor:
    """Rows of OpenAI's tokens; see ``Tokenizer.__call__``."""
    return openai_tokenizer()(texts, length=context_length, truncate=truncate)


def quote(text: str) -> str:
    """The text for a message of one line, cut if it is long."""
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")
