"""CLIP's byte-pair tokenizer with fixed-length rows."""

from collections.abc import Mapping, Sequence
from functools import lru_cache

import regex
import torch
from open_clip.tokenizer import SimpleTokenizer
from torch import Tensor

from clip.errors import TooLongError

CONTEXT_LENGTH = 77
LONGEST_QUOTE = 60
WORD_END = "</w>"


SPECIAL_TOKENS = {"<start_of_text>": "<|startoftext|>", "<end_of_text>": "<|endoftext|>"}


@lru_cache(maxsize=1)
def _tokenizer() -> SimpleTokenizer:
    """open_clip's tokenizer, with the two special tokens spelt as in OpenAI's vocabulary."""
    tokenizer = SimpleTokenizer()
    pattern = tokenizer.pat.pattern
    for theirs, openai in SPECIAL_TOKENS.items():
        pattern = pattern.replace(theirs, regex.escape(openai))
        tokenizer.encoder[openai] = tokenizer.encoder.pop(theirs)
        tokenizer.cache[openai] = tokenizer.cache.pop(theirs).replace(theirs, openai)
    tokenizer.pat = regex.compile(pattern, regex.IGNORECASE)
    return tokenizer


def vocabulary_size() -> int:
    """Number of token ids, the start and end tokens included (49,408)."""
    return _tokenizer().vocab_size


@lru_cache(maxsize=1)
def vocabulary() -> tuple[tuple[str, str], ...]:
    """Text and kind of each token, by its id.

    A "word" ends where the token does, a "piece" is followed by more letters, "special" are the start and the end of a
    text. Bytes that are not UTF-8 by themselves are escaped, such as ``\\xc3``.
    """
    tokenizer = _tokenizer()
    by_id = sorted(tokenizer.encoder.items(), key=lambda item: item[1])
    special = set(SPECIAL_TOKENS.values())
    return tuple((token, "special") if token in special else _told(token, tokenizer.byte_decoder) for token, _ in by_id)


def _told(token: str, byte_of: Mapping[str, int]) -> tuple[str, str]:
    kind = "word" if token.endswith(WORD_END) else "piece"
    content = bytes(byte_of[letter] for letter in token.removesuffix(WORD_END))
    return content.decode("utf-8", "backslashreplace"), kind


def token_count(name: str) -> int:
    """Number of byte-pair tokens of ``name``, without start and end tokens."""
    return len(_tokenizer().encode(name))


def encode(text: str) -> list[int]:
    """Token ids of ``text`` between the start token and the end token, of whatever length."""
    tokenizer = _tokenizer()
    return [tokenizer.sot_token_id, *tokenizer.encode(text), tokenizer.eot_token_id]


def same_tokens(names: Sequence[str]) -> list[tuple[str, str]]:
    """(name, earlier name) of different names that the model cannot tell apart ("_" is a space).

    The tokenizer folds case, blanks, normal forms and widths of letters, curly quotes and HTML entities, and reads
    nothing after an end token. Names are compared without and, as in prompts, with a dot at the end. A name without a
    token is paired with "".
    """
    first: dict[tuple[str, tuple[int, ...]], str] = {}
    pairs: dict[tuple[str, str], None] = {}
    for name in dict.fromkeys(names):
        for ending in ("", "."):
            row = encode(name.replace("_", " ") + ending)
            other = first.setdefault((ending, tuple(row[: row.index(row[-1])])), name)
            if other != name:
                pairs[name, other] = None
        if not token_count(name.replace("_", " ")):
            pairs[name, ""] = None
    return list(pairs)


def pad(rows: Sequence[list[int]], length: int) -> Tensor:
    """Stack rows of ids into one (N, ``length``) int64 tensor, zeros after each row's end."""
    padded = torch.zeros(len(rows), length, dtype=torch.int64)
    for target, row in zip(padded, rows, strict=True):
        target[: len(row)] = torch.tensor(row)
    return padded


def tokenize(texts: str | Sequence[str], context_length: int = CONTEXT_LENGTH, *, truncate: bool = False) -> Tensor:
    """Turn texts into token ids.

    Args:
        texts: one text or several.
        context_length: number of columns.
        truncate: cut a longer text so that its last token is the end token, instead of refusing it.

    Returns:
        (N, context_length) int64: start token, the text, end token, zeros.

    Raises:
        TooLongError: a text does not fit and ``truncate`` is off.
    """
    rows = [encode(text) for text in ([texts] if isinstance(texts, str) else texts)]
    for index, row in enumerate(rows):
        if len(row) <= context_length:
            continue
        if not truncate:
            text = texts if isinstance(texts, str) else texts[index]
            fact = f"the text {quote(text)} has {len(row)} tokens with start and end, but only {context_length} fit"
            raise TooLongError(text, fact, "shorten it or allow truncation (truncate=True)")
        rows[index] = [*row[: context_length - 1], row[-1]]
    return pad(rows, context_length)


def quote(text: str) -> str:
    """The text for a message of one line, cut if it is long."""
    return repr(text if len(text) <= LONGEST_QUOTE else f"{text[:LONGEST_QUOTE]}...")
