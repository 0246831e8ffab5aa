"""Small random CLIPs in OpenAI's layout, files of them, and plain computations to compare with."""

import warnings
from functools import lru_cache
from pathlib import Path

import open_clip
import torch
from hypothesis import strategies as st
from open_clip.model import CLIP
from torch import Tensor, nn

SIZES = {
    "vit": {
        "embed_dim": 24,
        "vision_cfg": {"layers": 2, "width": 64, "patch_size": 16, "image_size": 32},
        "text_cfg": {"width": 128, "heads": 2, "layers": 2},
    },
    "rn": {
        "embed_dim": 40,
        "vision_cfg": {"layers": (1, 2, 1, 1), "width": 16, "image_size": 64},
        "text_cfg": {"width": 64, "heads": 1, "layers": 2},
    },
}


def ordinary_text(max_size: int) -> st.SearchStrategy[str]:
    """Any text but the special tokens, which open_clip spells in its own way."""
    characters = st.characters(exclude_categories=("Cs",), exclude_characters="<")
    return st.text(characters, min_size=1, max_size=max_size)


def random_model(kind: str, seed: int = 0) -> CLIP:
    """A small open_clip network whose every tensor, batch-norm statistics included, is random."""
    model = CLIP(**SIZES[kind], quick_gelu=True).eval()
    generator = torch.Generator().manual_seed(seed)
    state = model.state_dict()
    for key, value in state.items():
        if value.is_floating_point() and key != "logit_scale":
            noise = torch.randn(value.shape, generator=generator)
            norm_scale = value.ndim == 1 and key.endswith((".weight", ".running_var"))
            spread = 0.1 if value.ndim == 1 or "embedding" in key else value[0].numel() ** -0.5
            state[key] = noise.abs() + 0.5 if norm_scale else noise * spread
    model.load_state_dict(state)
    return model.requires_grad_(False)


def openai_state(model: CLIP) -> dict[str, Tensor]:
    """The state dict as OpenAI publishes it, with its three scalars."""
    scalars = {"input_resolution": 32, "context_length": model.context_length, "vocab_size": model.vocab_size}
    return model.state_dict() | {key: torch.tensor(value) for key, value in scalars.items()}


def save_torchscript(state: dict[str, Tensor], path: Path) -> None:
    """Write a TorchScript archive whose state dict is ``state``."""
    root = nn.Module()
    for key, value in state.items():
        *parents, leaf = key.split(".")
        module = root
        for name in parents:
            if not hasattr(module, name):
                module.add_module(name, nn.Module())
            module = getattr(module, name)
        module.register_buffer(leaf, value)
    save_script(root, path)


def save_script(module: nn.Module, path: Path) -> Path:
    """Write a module as a TorchScript archive, with its program; returns the path."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.jit.script(module).save(str(path))
    return path


class Hostile(nn.Module):
    """Its archive writes a file when torch loads it: the program in it does, and no Python is needed."""

    def __init__(self, target: str) -> None:
        super().__init__()
        self.target = target

    @torch.jit.export
    def __getstate__(self) -> tuple[str, bool]:
        return self.target, self.training

    @torch.jit.export
    def __setstate__(self, state: tuple[str, bool]) -> None:
        self.target = state[0]
        written = torch.from_file(self.target, shared=True, size=16).fill_(42)
        self.training = bool(written[0] > 0)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x


@lru_cache(maxsize=1)
def open_clip_tokenizer() -> open_clip.SimpleTokenizer:
    """open_clip's own tokenizer; building it takes a while."""
    return open_clip.SimpleTokenizer()


def padded_features(
    model: CLIP, names: list[str], contexts: Tensor, *, position: str = "end", phrase: str = ""
) -> Tensor:
    """Prompt features over all 77 columns, put together piece by piece: names, contexts (N, M, D) -> (N, F)."""
    n_ctx, half = contexts.shape[1], contexts.shape[1] // 2
    tokenizer = open_clip_tokenizer()
    names = [name.replace("_", " ") for name in names]
    placeholder = phrase.replace("_", " ") if phrase else " ".join(["X"] * n_ctx)
    tokens = tokenizer([f"{placeholder} {name}." if placeholder else f"{name}." for name in names])
    rows = []
    ends = tokens.argmax(1)
    for row, name, context, end in zip(model.token_embedding(tokens), names, contexts, ends.tolist(), strict=True):
        count = min(len(tokenizer.encode(name)), end - 1 - n_ctx)
        start, own, rest = row[:1], row[1 + n_ctx : 1 + n_ctx + count], row[1 + n_ctx + count :]
        order = {
            "end": [start, context, own, rest],
            "middle": [start, context[:half], own, context[half:], rest],
            "front": [start, own, context, rest],
        }[position]
        rows.append(torch.cat(order))
    hidden = model.transformer(torch.stack(rows) + model.positional_embedding, attn_mask=model.attn_mask)
    return model.ln_final(hidden)[torch.arange(len(names)), ends] @ model.text_projection
