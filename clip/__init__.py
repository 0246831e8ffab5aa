"""Frozen CLIP backbones by name, their tokenizer, and the exact encoding of learned prompts.

Built on open_clip, which supplies the networks, the published addresses and the byte-pair vocabulary.
"""

from clip.backbones import IMAGE_MEAN, IMAGE_STD, Backbone, available_models, image_transform, load
from clip.errors import BackboneError, TooLongError
from clip.text import PromptLayout, TextEncoder, phrase_words, prompt_layout
from clip.tokenizer import same_tokens, token_count, tokenize

__all__ = [
    "IMAGE_MEAN",
    "IMAGE_STD",
    "Backbone",
    "BackboneError",
    "PromptLayout",
    "TextEncoder",
    "TooLongError",
    "available_models",
    "image_transform",
    "load",
    "phrase_words",
    "prompt_layout",
    "same_tokens",
    "token_count",
    "tokenize",
]
