"""PLOT: several contexts, compared with an image's local features by optimal transport.

Chen, Yao, Song, Li, Rao, Zhang: "PLOT: Prompt learning with optimal transport for vision-language models", ICLR 2023.
Letters: N contexts, P places of an image (7 x 7 for RN50), M context vectors.
"""

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint
from yacs.config import CfgNode

import clip
from clip.device import to_device
from clip.text import POSITIONS
from dassl.config import PRECISIONS, Key, at_least
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.engine import TRAINER_REGISTRY
from dassl.engine.contexts import CLASS_PROMPTS, Context, contexts_of
from dassl.engine.published import Published
from dassl.utils.errors import UserError
from trainers._own_task import Block, OwnTaskTuner
from trainers._prompts import EncoderModule, check_phrase, normal_parameter
from trainers._transport import steps_needed, transport_cosines
from trainers.base import check_places

_PROGRAM = "plot-coop/train.py, which overrides the config file"  # else 200 epochs, batches of 128
VALUES_AT_ONCE = 1 << 25  # cosines in a block: 128 MiB for them and as much for the kernel, the plan, a product


class SeveralPrompts(EncoderModule):
    """N prompts for each class; ``prompt_learner.ctx`` is (N, M, D), or (N, C, M, D) if each class has its own."""

    _group: Tensor | None

    def __init__(self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int) -> None:
        super().__init__(backbone.text)
        names, count, n_ctx = flat_classnames(tasks), options.N, options.N_CTX
        layout = backbone.text.layout(names, n_ctx=n_ctx, position=options.CLASS_TOKEN_POSITION)
        self._layout = layout.select(torch.arange(len(names), device=layout.slots.device).repeat(count))
        group = None if options.CSC else torch.arange(count).repeat_interleave(len(names))
        self.register_buffer("_group", group, persistent=False)
        self._shape = (count, len(names))
        shape = (*(self._shape if options.CSC else (count,)), n_ctx, backbone.text_width)
        self.prompt_learner = nn.Module()
        self.prompt_learner.ctx = normal_parameter(shape, seed=seed, name="prompt_learner.ctx")
        if options.CTX_INIT:
            # If a phrase has more tokens than words, the first N_CTX tokens are used.
            start = torch.stack([backbone.text.phrase_vectors(phrase) for phrase in phrases(options.CTX_INIT)])
            start = start[:, None] if options.CSC else start
            self.prompt_learner.ctx = nn.Parameter(start.expand(shape).clone())

    def forward(self) -> Tensor:
        """Class features under each context (N, C, F), not normalised."""
        contexts = self.prompt_learner.get_parameter("ctx").flatten(0, -3)
        return self.encoder(self._layout, contexts, self._group).view(*self._shape, -1)


def phrases(words: str) -> list[str]:
    """The N phrases of CTX_INIT."""
    return [phrase.strip() for phrase in words.split(";")]


@TRAINER_REGISTRY.register()
class PLOT(OwnTaskTuner):
    """Prompts by optimal transport.

    With S the cosines of an image's P local features and a class's N prompts, and T the plan of least cost 1 - S under
    entropy EPSILON (Sinkhorn in fp32, no gradient): logit = s * sum T * S. An image meets only the classes of its own
    tasks. In training the Sinkhorn iterations of a batch stop together, as in the original; in evaluation those of
    each image stop separately, so that no score depends on other images.
    """

    section = "PLOT"
    no_table = "it compares several prompts of a class with the local features of each image by optimal transport"
    whole_tasks = True
    config_keys = (
        Key("TRAINER.PLOT.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
        Key("TRAINER.PLOT.N", 4, "contexts, and so prompts, per class", check=at_least(1)),
        Key("TRAINER.PLOT.N_CTX", 16, "context vectors of each prompt", check=at_least(1)),
        Key("TRAINER.PLOT.CSC", False, "N contexts per class"),
        Key("TRAINER.PLOT.CTX_INIT", "", "initial words of the contexts: N phrases, separated by ;"),
        Key("TRAINER.PLOT.CLASS_TOKEN_POSITION", "end", "position of the name in the prompts", POSITIONS),
        Key("TRAINER.PLOT.GLOBAL_LOGITS", False, "add the global feature's logits, as the original does on ImageNet"),
    )
    published = (
        Published({"OPTIM.MAX_EPOCH": 50}, _PROGRAM, shots=(1,)),
        Published({"OPTIM.MAX_EPOCH": 100}, _PROGRAM, shots=(2, 3, 4, 5, 6, 7)),
        Published({"OPTIM.MAX_EPOCH": 50}, _PROGRAM, datasets=("ImageNet",)),
        Published({"TRAINER.PLOT.GLOBAL_LOGITS": True}, "plot-coop/trainers/plot.py", datasets=("ImageNet",)),
        Published(
            {"DATALOADER.TRAIN_X.BATCH_SIZE": 32}, _PROGRAM, datasets=("OxfordFlowers", "FGVCAircraft", "StanfordCars")
        ),
    )

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse phrases of another number or length than the contexts."""
        o = cfg.TRAINER.PLOT
        if not o.CTX_INIT:
            return
        given = phrases(o.CTX_INIT)
        if len(set(given)) != o.N:
            raise UserError(
                f"TRAINER.PLOT.CTX_INIT {o.CTX_INIT!r}: TRAINER.PLOT.N is {o.N}, and contexts that start from the same "
                "words would stay the same; give N different phrases with ; between them"
            )
        for phrase in given:
            check_phrase(phrase, o.N_CTX, "TRAINER.PLOT.CTX_INIT")

    def before_data(self) -> None:
        """Refuse a backbone without local features before any image is read."""
        super().before_data()
        check_places(self.backbone)

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> SeveralPrompts:
        """The model."""
        return SeveralPrompts(backbone, tasks, self.options, seed=self.cfg.SEED)

    def learned_modules(self) -> dict[str, nn.Module]:
        """The contexts."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def contexts(self) -> list[Context]:
        """The contexts of each of the N prompts."""
        found: list[Context] = []
        for number, vectors in enumerate(self.model.get_parameter("prompt_learner.ctx"), 1):
            prompts = f"{CLASS_PROMPTS}, number {number} of {self.options.N}"
            found += contexts_of(vectors, self.dm.tasks, "class" if self.options.CSC else "all", prompts=prompts)
        return found

    @property
    def encoder_id(self) -> str:
        """Stored features are local ones."""
        return f"{super().encoder_id}-local"

    def encode_images(self, images: Tensor) -> Tensor:
        """(B, 3, H, W) -> (B, 1 + P, F) float32, not normalised: the global feature and those of the places."""
        with torch.no_grad():
            return self.backbone.encode_local(images.to(self.device, non_blocking=True)).float()

    def place_cosines(self, local: Tensor, task: int, label: Tensor) -> Tensor:
        """The largest cosine over the prompts of the class."""
        assert self._class_features is not None, "before_test() encodes the class names"
        column = (label + self.dm.offsets[task]).to(self.device)
        places, text = (functional.normalize(each.float(), dim=-1) for each in (local[:, 1:], self._class_features))
        return torch.einsum("bpf,nbf->bpn", places, text[:, column]).amax(dim=2).cpu()

    def pairs_at_once(self, features: Tensor) -> int:
        """Pairs of which VALUES_AT_ONCE cosines are made; ``features``: (B, 1 + P, F)."""
        return max(1, VALUES_AT_ONCE // ((features.shape[1] - 1) * self.options.N))

    def before_test(self) -> None:
        """Encode the prompts once for the whole evaluation."""
        with torch.no_grad():
            self._class_features = self.within_memory(self.model)

    def block_logits(self, features: Tensor, blocks: Sequence[Block]) -> list[Tensor]:
        """Scaled cosines under the transport plans; ``features``: (B, 1 + P, F)."""
        learns = torch.is_grad_enabled()
        prompts = self.model() if learns else self.class_features
        image, text = (functional.normalize(each.float(), dim=-1) for each in (features, prompts))
        rows = [to_device(block.rows, image.device) for block in blocks]
        pairs = [(image[r, 1:], text[:, b.start : b.stop]) for r, b in zip(rows, blocks, strict=True)]
        steps, most = steps_needed(pairs, together=learns)
        # With several full blocks, none is stored for the backward pass.
        again = learns and sum(block.pairs for block in blocks) > self.pairs_at_once(features)
        cosine = partial(checkpoint, transport_cosines, use_reentrant=False) if again else transport_cosines
        cosines = [cosine(pair, count, most) for pair, count in zip(pairs, steps, strict=True)]
        if self.options.GLOBAL_LOGITS:
            mean = functional.normalize(prompts.float().mean(dim=0), dim=-1)
            whole = (image[r, 0] @ mean[b.start : b.stop].T for r, b in zip(rows, blocks, strict=True))
            cosines = list(map(torch.add, cosines, whole))
        return [self.backbone.logit_scale * each for each in cosines]
