"""Frozen CLIP backbones by name: ``load`` and what it returns."""

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import open_clip
import torch
from open_clip.modified_resnet import ModifiedResNet
from PIL import Image
from torch import Tensor, nn
from torchvision import transforms

from clip.architecture import Style
from clip.loading import Wish, load_network
from clip.local import has_places, local_features
from clip.names import available_models
from clip.openclip import IMAGE_MEAN, IMAGE_STD, Preparation
from clip.precision import Precision, choose_precision
from clip.projection import before_projection
from clip.text import TextEncoder
from clip.tokenizer import Tokenizer, openai_tokenizer
from clip.visual_tokens import TowerSizes, encode_with_tokens, tower_sizes

__all__ = ["IMAGE_MEAN", "IMAGE_STD", "Backbone", "available_models", "image_transform", "load"]

Preprocess = Callable[[Image.Image], Tensor]


class Backbone(nn.Module):
    """Both encoders of a frozen CLIP.

    No parameter requires a gradient, and ``train`` leaves the network in evaluation mode, because its batch norms must
    use their stored statistics.

    Attributes:
        name: the name it was loaded by.
        precision: the precision in force, "fp32", "fp16", "bf16" or "amp".
        dtype: dtype of the features.
        digest: SHA-256 of the fp32 weights in hexadecimal, independent of file format and precision.
        image_size: side of the input image in pixels.
        preparation: how images are resized and normalised.
        tokenizer: turns texts into this text tower's tokens.
        embed_dim: F, width of the features.
        text_width: D, width of token embeddings and so of learned context vectors.
        context_length: longest text in tokens.
        logit_scale: exp of the temperature parameter, the factor in front of cosine similarities.
        logit_bias: added to the scaled cosines by models trained with a sigmoid (SigLIP), 0 for others. It is the same
            for all classes and so changes no softmax.
        visual: the image tower.
        text: the text tower, which also encodes learned prompts.
    """

    def __init__(
        self,
        model: Any,
        precision: Precision,
        *,
        name: str,
        digest: str,
        tokenizer: Tokenizer | None = None,
        preparation: Preparation | None = None,
        text_encoding: str = "auto",
        text_chunk: int = 0,
        text_memory: int = 0,
    ) -> None:
        super().__init__()
        self.name = name
        self.precision = precision.name
        self.dtype = precision.features
        self.digest = digest
        self.preparation = preparation or Preparation()
        self.visual = _only_features(model.visual)
        if isinstance(self.visual, ModifiedResNet):
            self.visual.to(memory_format=torch.channels_last)  # faster convolutions
        self.tokenizer = tokenizer or openai_tokenizer()
        self.text = TextEncoder(
            model,
            precision,
            tokenizer=self.tokenizer,
            encoding=text_encoding,
            chunk=text_chunk,
            memory=text_memory,
        )
        self.logit_scale = float(model.logit_scale.detach().exp())
        bias = getattr(model, "logit_bias", None)
        self.logit_bias = 0.0 if bias is None else float(bias.detach())
        size = model.visual.image_size
        self.image_size: int = size[0] if isinstance(size, tuple) else size
        self.text_width, self.embed_dim = self.text.width, self.text.feature_width
        self.context_length: int = self.text.facts.length
        self._precision = precision
        self.requires_grad_(False)
        self.eval()

    @property
    def image_mean(self) -> tuple[float, ...]:
        """Of the three channels."""
        return self.preparation.mean

    @property
    def image_std(self) -> tuple[float, ...]:
        """Of the three channels."""
        return self.preparation.std

    @property
    def interpolation(self) -> str:
        """How images are resized."""
        return self.preparation.interpolation

    def train(self, mode: bool = True) -> "Backbone":
        """Stay in evaluation mode; ``mode`` is ignored."""
        return super().train(False)

    def encode_image(self, images: Tensor) -> Tensor:
        """Features of normalised images.

        Args:
            images: (B, 3, H, W) floating, H = W = ``image_size``.

        Returns:
            (B, F) in the encoders' dtype, not L2-normalised.
        """
        with self._precision.autocast():
            return self.visual(images.to(self._image_dtype))

    @property
    def _image_dtype(self) -> torch.dtype:
        """That of the image tower's first matrix."""
        return next(weight.dtype for weight in self.visual.parameters() if weight.ndim > 3)

    @torch.no_grad()
    def encode_before_projection(self, images: Tensor) -> Tensor:
        """Features (B, W) of normalised images from before the last projection, in the encoders' dtype."""
        with self._precision.autocast():
            return before_projection(self.visual, images.to(self._image_dtype))

    @property
    def tower_sizes(self) -> TowerSizes:
        """Sizes of the image tower (BackboneError if it takes no learned tokens)."""
        return tower_sizes(self.visual, self.name)

    def encode_with_tokens(
        self, images: Tensor, tokens: Tensor, *, again: bool = False, norm_first: bool = False
    ) -> Tensor:
        """Features of normalised images with learned tokens in the image tower, differentiable in the tokens.

        Args:
            images: (B, 3, H, W) floating, H = W = ``image_size``.
            tokens: (n, m, d), m tokens for each of the first n blocks; see ``clip.visual_tokens``.
            again: compute the blocks again in the backward pass, which needs less memory.
            norm_first: whether the tokens of the first block pass the norm before it.

        Returns:
            (B, F) in the encoders' dtype, not L2-normalised.
        """
        ways = {"again": again, "norm_first": norm_first}
        with self._precision.autocast():
            return encode_with_tokens(self.visual, images.to(self._image_dtype), tokens, **ways)

    @property
    def has_places(self) -> bool:
        """Whether ``encode_local`` works with this image tower."""
        return has_places(self.visual)

    def encode_local(self, images: Tensor) -> Tensor:
        """Features of normalised images and of their P places (7 x 7 for RN50, 14 x 14 for ViT-B/16).

        Args:
            images: (B, 3, H, W) floating, H = W = ``image_size``.

        Returns:
            (B, 1 + P, F) in the encoders' dtype, not L2-normalised; row 0 is that of ``encode_image``.
        """
        with self._precision.autocast():
            return local_features(self.visual, images.to(self._image_dtype))

    def encode_text(self, tokens: Tensor) -> Tensor:
        """Features of plain texts: (N, L) token ids -> (N, F) in the encoders' dtype, not L2-normalised."""
        return self.text.encode_tokens(tokens)

    def tokenize(self, texts: str | Sequence[str]) -> Tensor:
        """Rows (N, L) of this text tower's tokens; raises TooLongError for a text that does not fit."""
        return self.tokenizer(texts)


def _only_features(visual: Any) -> Any:
    """The image tower, without the tokens that CoCa's also returns for its decoder."""
    if getattr(visual, "output_tokens", False):
        visual = copy.copy(visual)  # with the same weights
        visual.output_tokens = False
    return visual


def load(
    name: str,
    device: str | torch.device = "cpu",
    *,
    weights: str | Path = "",
    arch: str = "",
    activation: str = "",
    head_widths: tuple[int, int] = (0, 0),
    precision: str = "fp32",
    text_encoding: str = "auto",
    text_chunk: int = 0,
    text_memory: int = 0,
) -> tuple[Backbone, Preprocess]:
    """Load a frozen backbone.

    Args:
        name: one of OpenAI's names, open_clip's ``MODEL:TAG``, ``hf-hub:OWNER/NAME``, ``local-dir:PATH``, or the path
            of a file (TorchScript archive, state dict, safetensors) or of a folder in open_clip's or transformers'
            layout. Published weights are downloaded if no copy is found.
        device: where the encoders run; fixed here, because the precision depends on it.
        weights: for published names, a file, or a folder to look in first and to download to; "" looks in
            ``$XDG_CACHE_HOME/clip``, ``~/.cache/clip`` and the Hub's cache.
        arch: open_clip's name of the architecture of a file whose tensors do not show it.
        activation, head_widths: facts that tensors do not show: "quickgelu" or "gelu", and the width of an attention
            head of the image tower and of the text tower. Required for files that are not OpenAI's; the head widths
            only for sizes that open_clip does not list.
        precision: "fp32", "fp16", "bf16", or "amp" (fp32 weights under autocast). fp16 becomes fp32 on a CPU.
        text_encoding: "auto", "cut", or "plain" to run all 77 columns of every prompt; see ``TextEncoder``.
        text_chunk: prompts encoded at once, 0 chooses by the free memory; see ``TextEncoder``.
        text_memory: bytes to choose by instead; 0: half of the free memory.

    Returns:
        The backbone, and the test-time transform from a PIL image to a (3, H, W) tensor.

    Raises:
        BackboneError: an unknown name or option; weights that are missing, damaged, not finite, not a CLIP, or of
            another network than the named one; a file whose activation or head widths are unknown.
    """
    name, device = str(name), torch.device(device)
    chosen = choose_precision(precision, device)
    wish = Wish(Style(activation, (head_widths[0], head_widths[1])), arch)
    found = load_network(name, weights, wish, chosen.cast_dtype)
    parts: dict[str, Any] = {"tokenizer": found.tokenizer, "preparation": found.preparation}
    texts: dict[str, Any] = {"text_encoding": text_encoding, "text_chunk": text_chunk, "text_memory": text_memory}
    backbone = Backbone(found.model, chosen, name=name, digest=found.digest, **parts, **texts).to(device)
    return backbone, image_transform(backbone.image_size, found.preparation)


def image_transform(size: int, preparation: Preparation | None = None) -> Preprocess:
    """Test-time transform of a PIL image to a normalised (3, size, size) fp32 tensor.

    Args:
        preparation: how; None: OpenAI's, which is the shorter side to ``size`` (bicubic) and a centre crop.
    """
    way = preparation or Preparation()
    if way.resize != "shortest":
        # open_clip's own, which takes lists of values.
        return open_clip.image_transform(
            size,
            is_train=False,
            mean=way.mean,
            std=way.std,
            resize_mode=way.resize,
            interpolation=way.interpolation,
        )
    return transforms.Compose(
        [
            _to_rgb,
            transforms.Resize(size, interpolation=transforms.InterpolationMode(way.interpolation)),
            transforms.CenterCrop(size),
            transforms.ToTensor(),
            transforms.Normalize(way.mean, way.std),
        ]
    )


def _to_rgb(image: Image.Image) -> Image.Image:
    return image.convert("RGB")
