"""Small networks of every kind that open_clip builds, with random weights, and a tokenizer of another kind than CLIP's.

Text towers are small; image towers are the smallest of timm with the pool of the published models.
"""

import re
import zlib
from functools import lru_cache
from typing import Any

import torch
from open_clip.coca_model import CoCa
from open_clip.model import CLIP, CustomTextCLIP
from torch import Tensor, nn

from clip.backbones import Backbone
from clip.precision import choose_precision
from clip.tokenizer import BytePairs, Tokenizer, foreign

VIT = {"layers": 1, "width": 64, "head_width": 32, "patch_size": 16, "image_size": 32}
TEXT = {"width": 48, "heads": 3, "layers": 2}


def timm_tower(name: str, pool: str, side: int, **more: Any) -> dict[str, Any]:
    """The description of an image tower of timm."""
    return {"timm_model_name": name, "timm_pool": pool, "timm_proj": None, "image_size": side, **more}


# As in open_clip's descriptions of the published models, but small.
CONFIGS: dict[str, dict[str, Any]] = {
    "GELU": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT},
    "QuickGELU": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": TEXT, "quick_gelu": True},
    "layer scale": {"embed_dim": 24, "vision_cfg": VIT, "text_cfg": {**TEXT, "ls_init_value": 0.5}},
    "SigLIP": {
        "embed_dim": 48,
        "init_logit_bias": -10,
        "custom_text": True,
        "vision_cfg": timm_tower("test_vit3", "map", 160, timm_proj="linear"),
        "text_cfg": {
            **TEXT,
            "context_length": 24,
            "vocab_size": 500,
            "hf_tokenizer_name": "words",
            "no_causal_mask": True,
            "proj_bias": True,
            "pool_type": "last",
            "norm_kwargs": {"eps": 1e-6},
            "act_kwargs": {"approximate": "tanh"},
        },
    },
    "CoCa": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": {**VIT, "attentional_pool": True, "attn_pooler_heads": 4, "output_tokens": True},
        "text_cfg": {**TEXT, "context_length": 40, "embed_cls": True, "output_tokens": True},
        "multimodal_cfg": {**TEXT, "context_length": 40, "vocab_size": 49408, "attn_pooler_heads": 3},
    },
    "EVA02": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": timm_tower("eva02_tiny_patch14_224", "token", 224),
        "text_cfg": TEXT,
    },
    "PE-Core": {
        "embed_dim": 64,
        "custom_text": True,
        "vision_cfg": timm_tower("vit_pe_core_tiny_patch16_384", "map", 384),
        "text_cfg": {"width": 64, "heads": 2, "layers": 3, "context_length": 32},
    },
    "MobileCLIP-S": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": timm_tower("fastvit_t8", "avg", 256),
        "text_cfg": {**TEXT, "no_causal_mask": True},
    },
    "MobileCLIP-B": {
        "embed_dim": 24,
        "custom_text": True,
        "vision_cfg": timm_tower("test_vit", "token", 160),
        "text_cfg": {**TEXT, "no_causal_mask": False},
    },
    "ConvNeXt": {
        "embed_dim": 24,
        "vision_cfg": timm_tower("test_convnext", "", 160, timm_proj="linear"),
        "text_cfg": TEXT,
    },
    "MetaCLIP 2": {  # another end token, read by its id
        "embed_dim": 24,
        "vision_cfg": VIT,
        "text_cfg": {**TEXT, "vocab_size": 500, "hf_tokenizer_name": "words", "pool_type": "eos", "eos_id": 2},
    },
}
TREE = {"GELU", "QuickGELU", "layer scale", "EVA02", "PE-Core", "MobileCLIP-B", "ConvNeXt", "MetaCLIP 2"}


@lru_cache(maxsize=len(CONFIGS))
def network(kind: str) -> nn.Module:
    """open_clip's network with random weights; not to be changed."""
    config = {key: value for key, value in CONFIGS[kind].items() if key != "custom_text"}
    build = CoCa if "multimodal_cfg" in config else CustomTextCLIP if "custom_text" in CONFIGS[kind] else CLIP
    torch.manual_seed(0)
    model = build(**config).eval().requires_grad_(False)
    # The published start of a training is near the identity: larger values show what a tower does.
    for name, value in model.named_parameters():
        if "logit" not in name and not name.startswith(("visual.trunk", "text_decoder")):
            value.add_(torch.randn_like(value) * 0.05)
    return model


class Words:
    """A tokenizer of words in the manner of open_clip's others: no start, punctuation dropped, its own padding."""

    def __init__(self, start: tuple[int, ...] = (), end: int = 1, pad_id: int = 1, size: int = 500) -> None:
        self.start, self.end, self.pad_id, self.size = list(start), end, pad_id, size
        self.tokenizer = self  # open_clip's wrap one of Hugging Face

    def __len__(self) -> int:
        return self.size

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Invented spellings, as SentencePiece marks the start of a word."""
        return [f"\u2581word{number}" if number % 2 else f"piece{number}" for number in ids]

    def __call__(self, texts: list[str], context_length: int) -> Tensor:
        rows = []
        for text in texts:
            words = re.sub(r"[^\w\s]", "", text.lower()).split()
            ids = [4 + zlib.crc32(word.encode()) % (self.size - 4) for word in words]
            row = [*self.start, *ids[: context_length - len(self.start) - 1], self.end]
            rows.append(row + [self.pad_id] * (context_length - len(row)))
        return torch.tensor(rows)


def tokenizer_for(kind: str) -> Tokenizer:
    """The tokenizer of a network of ``CONFIGS``."""
    text = CONFIGS[kind]["text_cfg"]
    length = text.get("context_length", 77)
    if "hf_tokenizer_name" not in text:
        return BytePairs(length)
    words = Words((0,), end=2, pad_id=1) if text["pool_type"] == "eos" else Words()
    return foreign(words, length)


def small_backbone(kind: str, *, precision: str = "fp32", **options: Any) -> Backbone:
    """A network of ``CONFIGS`` as a frozen backbone."""
    chosen = choose_precision(precision, torch.device("cpu"))
    given: dict[str, Any] = {"name": kind, "digest": kind, "tokenizer": tokenizer_for(kind), **options}
    return Backbone(network(kind), chosen, **given)
