"""Train the demo backbone: a small CLIP, both towers from scratch, on rendered image-caption pairs.

    python scripts/train_demo_backbone.py --seed 1 --output FILE
    python scripts/train_demo_backbone.py --seed 1 --output FILE --image-tower vit --epochs 9 --lr 0.001

With --image-tower vit, a vision transformer learns beside the finished text tower of the demo backbone, which stays as
it is (Zhai et al., "LiT: zero-shot transfer with locked-image text tuning", CVPR 2022, the other way round).

The loss is CLIP's contrastive loss plus an auxiliary loss that speeds up the start: a linear layer, dropped afterwards,
predicts from the image feature which words the caption has. Both use only image-caption pairs. The result is one
safetensors file in OpenAI's key layout (fp16). The logit scale is fitted on Demo6's validation images, and at the end
the zero-shot accuracy on its test images is printed; nothing else of Demo6 is used.
"""

import argparse
import math
import random
import re
import sys
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
from open_clip import OPENAI_DATASET_MEAN, OPENAI_DATASET_STD
from open_clip.model import CLIP, CLIPTextCfg, CLIPVisionCfg
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from clip.weights import DEMO, DEMO_FILES
from dassl.utils.files import atomic_path, write_json
from datasets import demo6
from datasets._render.canvas import SIZE
from datasets._render.pretrain import Scene, caption, scene
from datasets._render.suite import MEMBERS, PER_CLASS, classnames, render, split

EMBED_DIM = 128
TOWERS = {
    "resnet": CLIPVisionCfg(layers=(1, 2, 2, 1), width=16, image_size=SIZE, head_width=64),
    "vit": CLIPVisionCfg(layers=4, width=128, patch_size=8, image_size=SIZE, head_width=64),
}
TEXT_WIDTH, TEXT_LAYERS, CONTEXT, VOCABULARY = 64, 4, 77, 49408
SCALARS = {"input_resolution": SIZE, "context_length": CONTEXT, "vocab_size": VOCABULARY}


def build_model(tower: str = "resnet") -> CLIP:
    """The untrained backbone: one of TOWERS and a causal text transformer, with head counts by OpenAI's rules."""
    text = CLIPTextCfg(
        context_length=CONTEXT, vocab_size=VOCABULARY, width=TEXT_WIDTH, heads=TEXT_WIDTH // 64, layers=TEXT_LAYERS
    )
    return CLIP(EMBED_DIM, TOWERS[tower], text, quick_gelu=True)


def lock_text(model: CLIP, path: Path = DEMO_FILES[DEMO]) -> None:
    """Put the text tower of a finished backbone into a model, and train it no further."""
    state = load_file(path)
    texts = {name: state[name].float() for name in model.state_dict() if name in state and "visual" not in name}
    model.load_state_dict(texts, strict=False)
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith("visual") or name == "logit_scale")


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Text features (N, F) of tokens (N, L); like the model's method, but for any L."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection


class CaptionTokenizer:
    """CLIP's tokenizer for lower-case captions, with a cache of words, which makes redrawing captions cheap."""

    def __init__(self) -> None:
        self._encode = lru_cache(maxsize=None)(SimpleTokenizer().encode)

    def __call__(self, texts: Sequence[str]) -> Tensor:
        """Token ids (N, longest) with start and end tokens, padded with zeros."""
        rows = [[VOCABULARY - 2, *self._ids(text), VOCABULARY - 1] for text in texts]
        tokens = torch.zeros(len(rows), max(map(len, rows)), dtype=torch.long)
        for row, ids in zip(tokens, rows, strict=True):
            row[: len(ids)] = torch.tensor(ids)
        return tokens

    def _ids(self, text: str) -> list[int]:
        return [token for word in re.findall(r"[a-z]+|\d|[^\sa-z\d]+", text) for token in self._encode(word)]


def render_pairs(count: int, seed: int, workers: int) -> tuple[Tensor, list[Scene]]:
    """Pictures (count, 3, 64, 64) uint8, and their contents."""
    images, scenes = np.empty((count, SIZE, SIZE, 3), np.uint8), []
    with get_context("spawn").Pool(workers) as pool:
        drawn = pool.imap(partial(scene, seed), range(count), chunksize=250)
        for k, (image, shown) in enumerate(tqdm(drawn, total=count, desc="rendering", mininterval=2)):
            images[k] = image
            scenes.append(shown)
    return torch.from_numpy(images).permute(0, 3, 1, 2), scenes


def normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) uint8 as input of the backbone: float32, normalised with CLIP's mean and deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


class WordLoss(nn.Module):
    """Cross-entropy between the words of a caption and those predicted from the image feature.

    Args:
        used: ids (W,) of the tokens that captions use.
    """

    column: Tensor

    def __init__(self, used: Tensor) -> None:
        super().__init__()
        self.guess = nn.Linear(EMBED_DIM, len(used))
        column = torch.full((VOCABULARY,), len(used))
        column[used] = torch.arange(len(used))
        self.register_buffer("column", column)

    def forward(self, features: Tensor, tokens: Tensor) -> Tensor:
        """Mean loss of image features (B, F) and caption tokens (B, L)."""
        target = torch.zeros(len(tokens), self.guess.out_features + 1).scatter_(1, self.column[tokens], 1.0)[:, :-1]
        target = target / target.sum(1, keepdim=True).clamp(min=1)
        return -(target * F.log_softmax(self.guess(features), -1)).sum(1).mean()


def build_optimizer(model: nn.Module, lr: float) -> torch.optim.AdamW:
    """AdamW with decay on weight matrices only, because decay would erase the words that no caption uses."""
    learned = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    decayed = [p for name, p in learned if p.ndim > 1 and "embedding" not in name]
    others = [p for name, p in learned if p.ndim <= 1 or "embedding" in name]
    groups: list[dict[str, Any]] = [{"params": decayed}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr, (0.9, 0.98), weight_decay=0.1, fused=True)


def contrastive_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """CLIP's symmetric loss over the features (B, F) of B pairs."""
    logits = scale * F.normalize(image, dim=-1) @ F.normalize(text, dim=-1).T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(model: CLIP, images: Tensor, scenes: list[Scene], args: argparse.Namespace) -> None:
    """Contrastive training; each epoch draws a new caption for each picture."""
    tokenizer, words = CaptionTokenizer(), random.Random(args.seed)
    word_loss = WordLoss(tokenizer([caption(shown, words) for shown in scenes]).unique()[1:])  # 0 is padding
    optimizer = build_optimizer(nn.ModuleList([model, word_loss]), args.lr)
    per_epoch = len(images) // args.batch
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, partial(rate, steps=per_epoch * args.epochs, warmup=args.warmup)
    )
    shuffle = torch.Generator().manual_seed(args.seed)
    model.train().visual.to(memory_format=torch.channels_last)
    for epoch in range(args.epochs):
        losses, order = [], torch.randperm(len(images), generator=shuffle)[: per_epoch * args.batch]
        for chosen in tqdm(order.split(args.batch), desc=f"epoch {epoch + 1}/{args.epochs}", mininterval=5):
            tokens = tokenizer([caption(scenes[k], words) for k in chosen.tolist()])
            features = model.visual(normalised(images[chosen]))
            loss = contrastive_loss(features, encode_text(model, tokens), model.logit_scale.exp())
            losses.append(loss.item())
            step(model, optimizer, loss + args.word_weight * word_loss(features, tokens))
            schedule.step()
        tqdm.write(f"contrastive loss {np.mean(losses):.3f}, logit scale {model.logit_scale.exp().item():.1f}")


def rate(step: int, steps: int, warmup: int) -> float:
    """Factor of the learning rate at ``step``: linear warm-up, then cosine."""
    return min((step + 1) / warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))


def step(model: CLIP, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
    """One optimiser step, with clipped gradients and, as in CLIP, a logit scale of at most 100."""
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    model.logit_scale.data.clamp_(max=math.log(100))


def save(model: CLIP, path: Path, facts: dict[str, str]) -> None:
    """Write the state dict in OpenAI's layout: fp16 tensors, the three scalars, and ``facts`` as metadata."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    state = {key: value.contiguous() for key, value in state.items() if key != "attn_mask"}
    with atomic_path(path) as temporary:
        save_file(state | {key: torch.tensor(value) for key, value in SCALARS.items()}, temporary, metadata=facts)


@torch.no_grad()
def similarities(path: Path, part: str, per_class: int | None = None) -> dict[str, tuple[Tensor, Tensor]]:
    """For each task of Demo6, cosines (n, C_t) of a split's images and template prompts, and the labels (n,)."""
    state = {k: v.float() for k, v in load_file(path).items() if k not in SCALARS}
    model, tokenizer = build_model("vit" if "visual.proj" in state else "resnet").eval(), CaptionTokenizer()
    model.load_state_dict(state, strict=True)
    result = {}
    for name in MEMBERS:
        texts = [getattr(demo6, name).template.format(classname) for classname in classnames(name)]
        text = F.normalize(encode_text(model, tokenizer(texts)), dim=-1)
        items = split(name)[part][:: 1 if per_class is None else PER_CLASS[part] // per_class]
        images = np.stack([render(name, classname, int(Path(file).stem)) for file, _, classname in items])
        features = F.normalize(model.visual(normalised(torch.from_numpy(images).permute(0, 3, 1, 2))), dim=-1)
        result[name] = features @ text.T, torch.tensor([label for _, label, _ in items])
    return result


def zero_shot(path: Path, per_class: int | None = None) -> dict[str, float]:
    """Zero-shot accuracy (%) of a saved backbone on the test images of each task of Demo6."""
    found = similarities(path, "test", per_class)
    return {name: 100 * (cosine.argmax(1) == label).float().mean().item() for name, (cosine, label) in found.items()}


def calibrated_scale(path: Path, per_class: int | None = None) -> float:
    """Logit scale with the least zero-shot cross-entropy on the validation images of Demo6 (mean over tasks).

    The scale at the end of training fits the rendered pictures and is far too confident on others; temperature scaling
    (Guo et al., "On calibration of modern neural networks", ICML 2017) repairs that and changes no prediction.
    """
    found = similarities(path, "val", per_class).values()
    scales = np.geomspace(2, 100, 200).tolist()
    losses = [sum(F.cross_entropy(scale * cosine, label).item() for cosine, label in found) for scale in scales]
    return scales[int(np.argmin(losses))]


def report(result: dict[str, float]) -> str:
    """A table of zero-shot accuracies and chance levels."""
    rows = [f"{name:<14}{value:6.1f}   (chance {100 / len(classnames(name)):.1f})" for name, value in result.items()]
    return "\n".join([*rows, f"{'mean':<14}{np.mean(list(result.values())):6.1f}"])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of pictures, captions and initial weights (default: 1)"
    )
    parser.add_argument("--image-tower", choices=list(TOWERS), default="resnet", help="see above (default: resnet)")
    parser.add_argument("--pairs", type=int, default=40000, help="number of rendered pictures (default: 40000)")
    parser.add_argument("--epochs", type=int, default=7, help="passes over the pictures (default: 7)")
    parser.add_argument("--batch", type=int, default=128, help="pairs per step (default: 128)")
    parser.add_argument("--lr", type=float, default=3e-3, help="highest learning rate (default: 0.003)")
    parser.add_argument("--word-weight", type=float, default=3.0, help="weight of the word loss (default: 3)")
    parser.add_argument("--warmup", type=int, default=100, help="warm-up steps until it is reached (default: 100)")
    parser.add_argument("--workers", type=int, default=2, help="processes that render (default: 2)")
    parser.add_argument("--report", type=Path, help="also write times and zero-shot figures to this JSON file")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> None:
    """Render, train, save, evaluate."""
    args = parse_args(argv)
    torch.manual_seed(args.seed)
    start = time.perf_counter()
    images, scenes = render_pairs(args.pairs, args.seed, args.workers)
    rendered = time.perf_counter()
    model = build_model(args.image_tower)
    if args.image_tower == "vit":
        lock_text(model)
    train(model, images, scenes, args)
    seconds = {"rendering": round(rendered - start), "training": round(time.perf_counter() - rendered)}
    facts = {"seed": str(args.seed), "pairs": str(args.pairs), "epochs": str(args.epochs)}
    save(model, args.output, facts)
    model.logit_scale.data.fill_(math.log(calibrated_scale(args.output)))
    save(model, args.output, facts)
    result = zero_shot(args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB); seconds: {seconds}; zero-shot on Demo6:")
    print(report(result))
    if args.report:
        said = {"seed": args.seed, "pairs": args.pairs, "epochs": args.epochs}
        write_json(args.report, {**said, "seconds": seconds, "zero_shot": result})


if __name__ == "__main__":
    main()
