"""CoCoOp: a small network reads the image and shifts the context of the class prompts.

Zhou, Yang, Loy, Liu: "Conditional prompt learning for vision-language models", CVPR 2022.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

import clip
from clip.device import to_device
from clip.text import PromptLayout
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import Context, contexts_of
from dassl.utils.tools import derived_seed
from trainers._own_task import Block, OwnTaskTuner
from trainers._prompts import EncoderModule, check_phrase, normal_parameter

REDUCTION = 16


class ShiftedContext(nn.Module):
    """Context vectors ctx (M, D) and the network pi that shifts all M of them by one vector for each image.

    pi = Linear(F, F // 16) - ReLU - Linear(F // 16, D), with biases.
    """

    def __init__(self, backbone: clip.Backbone, n_ctx: int, phrase: str, *, seed: int) -> None:
        super().__init__()
        key, width, hidden = "prompt_learner", backbone.text_width, max(1, backbone.embed_dim // REDUCTION)
        self.ctx = normal_parameter((n_ctx, width), seed=seed, name=f"{key}.ctx")
        if phrase:
            self.ctx = nn.Parameter(backbone.text.phrase_vectors(phrase).clone())
        self.meta_net = nn.Sequential()
        self.meta_net.add_module("linear1", keyed_linear(backbone.embed_dim, hidden, seed=seed, name=f"{key}.linear1"))
        self.meta_net.add_module("relu", nn.ReLU())
        self.meta_net.add_module("linear2", keyed_linear(hidden, width, seed=seed, name=f"{key}.linear2"))

    def forward(self, image: Tensor) -> Tensor:
        """Contexts of images: (B, F) normalised -> (B, M, D)."""
        return self.ctx + self.meta_net(image)[:, None]


def keyed_linear(inputs: int, outputs: int, *, seed: int, name: str) -> nn.Linear:
    """A linear layer with PyTorch's default start, U(-1, 1) / sqrt(inputs), drawn only from the seed and the name."""
    layer = nn.utils.skip_init(nn.Linear, inputs, outputs)
    generator = torch.Generator().manual_seed(derived_seed("init", seed, name))
    bound = inputs**-0.5
    with torch.no_grad():
        for parameter in (layer.weight, layer.bias):
            parameter.uniform_(-bound, bound, generator=generator)
    return layer


class ConditionalPrompts(EncoderModule):
    """Class prompts with a context for each image."""

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int) -> None:
        super().__init__(backbone.text)
        n_ctx, phrase = options.N_CTX, options.CTX_INIT
        self.prompt_learner = ShiftedContext(backbone, n_ctx, phrase, seed=seed)
        self._names = [backbone.text.layout(task.classnames, n_ctx=n_ctx, phrase=phrase) for task in tasks]
        self._repeated: dict[tuple[int, int, int, int], tuple[PromptLayout, Tensor]] = {}

    def layout(self, task: int, first: int, last: int, *, images: int) -> tuple[PromptLayout, Tensor]:
        """The prompts of a task's classes first .. last - 1, once for each image, and the image of each prompt.

        Both are cached: the encoder finds its plans by them.
        """
        key = (task, first, last, images)
        if key not in self._repeated:
            classes = torch.arange(first, last, device=self._names[task].slots.device)
            image = torch.arange(images, device=classes.device).repeat_interleave(len(classes))
            self._repeated[key] = self._names[task].select(classes.repeat(images)), image
        return self._repeated[key]

    def forward(self, contexts: Tensor, task: int, first: int, last: int) -> Tensor:
        """Features of a task's classes first .. last - 1 under each context.

        Args:
            contexts: (b, M, D), one for each image.

        Returns:
            (b, last - first, F), not normalised.
        """
        layout, group = self.layout(task, first, last, images=len(contexts))
        return self.encoder(layout, contexts, group).view(len(contexts), last - first, -1)


@TRAINER_REGISTRY.register()
class CoCoOp(OwnTaskTuner):
    """Image-conditioned context.

    With x = d(image feature), d the L2 normalisation: the prompts of this image's classes have the context
    ctx + pi(x), so each (image, class) pair has its own text. An image meets only the classes of its own tasks, which
    changes neither loss nor metric. At most CHUNK texts are encoded at once; if a step has more, the backward pass
    encodes each chunk again, with the same gradient.
    """

    model: ConditionalPrompts
    section = "COCOOP"
    no_table = "its class features are computed for each image"
    config_keys = (
        Key("TRAINER.COCOOP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.COCOOP.N_CTX", 16, "context vectors of the class prompts", check=at_least(1)),
        Key("TRAINER.COCOOP.CTX_INIT", "", "initial words of the context"),
        Key("TRAINER.COCOOP.CHUNK", 512, "prompts per chunk at most; each image and class has one", check=at_least(1)),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a phrase of another length than the context."""
        o = cfg.TRAINER.COCOOP
        check_phrase(o.CTX_INIT, o.N_CTX, "TRAINER.COCOOP.CTX_INIT")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> ConditionalPrompts:
        """The model."""
        return ConditionalPrompts(backbone, tasks, self.options, seed=self.cfg.SEED)

    def learned_modules(self) -> dict[str, nn.Module]:
        """Context and network in one folder, as in the original."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def contexts(self) -> list[Context]:
        """The static part of the context."""
        note = "the static part; for each image the network adds one vector to all of them"
        return contexts_of(self.model.get_parameter("prompt_learner.ctx"), self.dm.tasks, "all", note=note)

    @torch.no_grad()
    def place_cosines(self, local: Tensor, task: int, label: Tensor) -> Tensor:
        """Cosines with the class features that each image makes."""
        places = functional.normalize(local, dim=-1)
        contexts = self.model.get_submodule("prompt_learner")(places[:, 0])
        texts = [self.model(contexts[n, None], task, c, c + 1)[0, 0] for n, c in enumerate(label.tolist())]
        text = functional.normalize(torch.stack(texts).float(), dim=-1)
        return torch.einsum("bpf,bf->bp", places[:, 1:], text).cpu()

    def pairs_at_once(self, features: Tensor) -> int:
        """Prompts in a chunk."""
        return self.options.CHUNK

    def block_logits(self, features: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
        """Cosine of each image with its own class features, times the scale. ``features``: (B, F)."""
        image = functional.normalize(features.float(), dim=-1)
        contexts = self.model.prompt_learner(image)
        again = torch.is_grad_enabled() and sum(block.pairs for block in blocks) > self.pairs_at_once(features)
        return [self._cosines(image, contexts, block, again=again) for block in blocks]

    def _cosines(self, image: Tensor, contexts: Tensor, block: Block, *, again: bool) -> Tensor:
        offset = int(self.dm.offsets[block.task])
        rows = to_device(block.rows, image.device)
        what = (contexts[rows], block.task, block.start - offset, block.stop - offset)
        if again:
            text = checkpoint(self.model, *what, use_reentrant=False, preserve_rng_state=False)
        else:
            text = self.model(*what)
        text = functional.normalize(text.float(), dim=-1)
        return self.backbone.logit_scale * torch.einsum("bf,bcf->bc", image[rows], text)
