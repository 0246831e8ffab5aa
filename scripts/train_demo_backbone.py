"""Train the demo backbone: a small CLIP, both towers from scratch, on rendered image-caption pairs.

    python scripts/train_demo_backbone.py --seed 1 --output FILE

The result is one safetensors file in OpenAI's key layout (fp16). At the end its zero-shot accuracy on the test images of
Demo6 is printed; nothing else of Demo6 is looked at.
"""

import argparse
import json
import math
import random
import re
import sys
import time
from collections.abc import Sequence
from functools import lru_cache, partial
from multiprocessing import get_context
from pathlib import Path

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

from datasets import demo6
from datasets._render.canvas import SIZE
from datasets._render.pretrain import Scene, caption, scene
from datasets._render.suite import MEMBERS, classnames, render, split

EMBED_DIM, WIDTH, BLOCKS = 128, 16, (1, 2, 2, 1)
TEXT_WIDTH, TEXT_LAYERS, CONTEXT, VOCABULARY = 64, 4, 77, 49408
SCALARS = {"input_resolution": SIZE, "context_length": CONTEXT, "vocab_size": VOCABULARY}


def build_model() -> CLIP:
    """The untrained backbone: ModifiedResNet and a causal text transformer, head counts by OpenAI's rules."""
    vision = CLIPVisionCfg(layers=BLOCKS, width=WIDTH, image_size=SIZE, head_width=64)
    text = CLIPTextCfg(context_length=CONTEXT, vocab_size=VOCABULARY, width=TEXT_WIDTH, heads=TEXT_WIDTH // 64, layers=TEXT_LAYERS)
    return CLIP(EMBED_DIM, vision, text, quick_gelu=True)


def encode_text(model: CLIP, tokens: Tensor) -> Tensor:
    """Text features (N, F) of tokens (N, L); like the model's own method, for any L."""
    length = tokens.shape[1]
    x = model.token_embedding(tokens) + model.positional_embedding[:length]
    x = model.ln_final(model.transformer(x, attn_mask=model.attn_mask[:length, :length]))
    return x[torch.arange(len(x)), tokens.argmax(1)] @ model.text_projection


class CaptionTokenizer:
    """CLIP's tokenizer for lower-case captions, remembering each word so that redrawing captions is cheap."""

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
    """Pictures (count, 3, 64, 64) uint8 and what they show."""
    images, scenes = np.empty((count, SIZE, SIZE, 3), np.uint8), []
    with get_context("spawn").Pool(workers) as pool:
        drawn = pool.imap(partial(scene, seed), range(count), chunksize=250)
        for k, (image, shown) in enumerate(tqdm(drawn, total=count, desc="rendering", mininterval=2)):
            images[k] = image
            scenes.append(shown)
    return torch.from_numpy(images).permute(0, 3, 1, 2), scenes


def normalised(images: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) uint8 as the backbone wants them: float32, CLIP's mean and deviation."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (OPENAI_DATASET_MEAN, OPENAI_DATASET_STD))
    return ((images.float() / 255 - mean) / std).contiguous(memory_format=torch.channels_last)


def build_optimizer(model: CLIP, lr: float) -> torch.optim.AdamW:
    """AdamW with decay on weight matrices only: decay would wipe out the words that no caption uses."""
    decayed = [p for name, p in model.named_parameters() if p.ndim > 1 and "embedding" not in name]
    others = [p for name, p in model.named_parameters() if p.ndim <= 1 or "embedding" in name]
    return torch.optim.AdamW([{"params": decayed}, {"params": others, "weight_decay": 0.0}], lr, (0.9, 0.98), weight_decay=0.1)


def contrastive_loss(model: CLIP, images: Tensor, tokens: Tensor) -> Tensor:
    """CLIP's symmetric loss over a batch of pairs."""
    image = F.normalize(model.visual(images), dim=-1)
    text = F.normalize(encode_text(model, tokens), dim=-1)
    logits = model.logit_scale.exp() * image @ text.T
    target = torch.arange(len(logits))
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def train(model: CLIP, images: Tensor, scenes: list[Scene], args: argparse.Namespace) -> None:
    """Contrastive training; every epoch words each picture anew."""
    tokenizer, words = CaptionTokenizer(), random.Random(args.seed)
    shuffle = torch.Generator().manual_seed(args.seed)
    optimizer = build_optimizer(model, args.lr)
    steps = len(images) // args.batch * args.epochs
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / args.warmup, 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    model.train().visual.to(memory_format=torch.channels_last)
    bar = tqdm(total=steps, desc="training", mininterval=5)
    for epoch in range(args.epochs):
        losses = []
        for chosen in torch.randperm(len(images), generator=shuffle).split(args.batch)[: len(images) // args.batch]:
            tokens = tokenizer([caption(scenes[k], words) for k in chosen.tolist()])
            loss = contrastive_loss(model, normalised(images[chosen]), tokens)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            model.logit_scale.data.clamp_(max=math.log(100))
            losses.append(loss.item())
            bar.update()
        scale = model.logit_scale.exp().item()
        tqdm.write(f"epoch {epoch + 1}/{args.epochs}: loss {np.mean(losses):.3f}, logit scale {scale:.1f}")
    bar.close()


def save(model: CLIP, path: Path, facts: dict[str, str]) -> None:
    """Write the state dict in OpenAI's layout: fp16 tensors, the three scalars, and ``facts`` as metadata."""
    state = {key: value.half() if value.is_floating_point() else value for key, value in model.state_dict().items()}
    state = {key: value.contiguous() for key, value in state.items() if key != "attn_mask"}
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.part")
    save_file(state | {key: torch.tensor(value) for key, value in SCALARS.items()}, temporary, metadata=facts)
    temporary.replace(path)


@torch.no_grad()
def zero_shot(path: Path, per_class: int | None = None) -> dict[str, float]:
    """Zero-shot accuracy (%) of a saved backbone on the test images of each task of Demo6, with the task's template."""
    model, tokenizer = build_model().eval(), CaptionTokenizer()
    model.load_state_dict({k: v.float() for k, v in load_file(path).items() if k not in SCALARS}, strict=True)
    result = {}
    for name in MEMBERS:
        texts = [getattr(demo6, name).template.format(classname) for classname in classnames(name)]
        text = F.normalize(encode_text(model, tokenizer(texts)), dim=-1)
        items = split(name)["test"][:: 1 if per_class is None else 32 // per_class]
        images = np.stack([render(name, classname, int(Path(file).stem)) for file, _, classname in items])
        features = model.visual(normalised(torch.from_numpy(images).permute(0, 3, 1, 2)))
        hits = (features @ text.T).argmax(1) == torch.tensor([label for _, label, _ in items])
        result[name] = 100 * hits.float().mean().item()
    return result


def report(result: dict[str, float]) -> str:
    """A table of zero-shot accuracies beside chance."""
    rows = [f"{name:<14}{value:6.1f}   (chance {100 / len(classnames(name)):.1f})" for name, value in result.items()]
    return "\n".join([*rows, f"{'mean':<14}{np.mean(list(result.values())):6.1f}"])


def parse_args(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Command-line flags."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--output", type=Path, required=True, help="safetensors file to write")
    parser.add_argument("--seed", type=int, default=1, help="seed of pictures, captions and starting values (default: 1)")
    parser.add_argument("--pairs", type=int, default=40000, help="number of rendered pictures (default: 40000)")
    parser.add_argument("--epochs", type=int, default=12, help="passes over the pictures (default: 12)")
    parser.add_argument("--batch", type=int, default=256, help="pairs per step (default: 256)")
    parser.add_argument("--lr", type=float, default=1e-3, help="highest learning rate (default: 0.001)")
    parser.add_argument("--warmup", type=int, default=100, help="steps until it is reached (default: 100)")
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
    model = build_model()
    train(model, images, scenes, args)
    seconds = {"rendering": round(rendered - start), "training": round(time.perf_counter() - rendered)}
    save(model, args.output, {"seed": str(args.seed), "pairs": str(args.pairs), "epochs": str(args.epochs)})
    result = zero_shot(args.output)
    print(f"wrote {args.output} ({args.output.stat().st_size / 1e6:.1f} MB); seconds: {seconds}; zero-shot on Demo6:")
    print(report(result))
    if args.report:
        facts = {"seed": args.seed, "pairs": args.pairs, "epochs": args.epochs, "seconds": seconds, "zero_shot": result}
        args.report.write_text(json.dumps(facts, indent=2) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
