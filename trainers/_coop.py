"""Shared by the methods of the CoOp family: config keys, class prompts, words of hand-written prompts."""

import re
from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn
from yacs.config import CfgNode

import clip
from clip.text import POSITIONS
from dassl.config import PRECISIONS, Key, at_least
from dassl.config.keys import coerce
from dassl.data.columns import flat_classnames
from dassl.data.datum import Task
from dassl.engine.contexts import Context, contexts_of
from trainers._prompts import ContextPrompts, check_phrase
from trainers.base import PromptTuner

OWN_WORDS = "True"  # the value of CTX_INIT that means the method's own words
PHRASE = "a photo of a"


def parse_start(value: Any) -> tuple[str, list[str]]:
    """Parse CTX_INIT: words, True (the method's own words), or False or nothing (random)."""
    text = str(value).strip()
    if text.lower() in ("true", "false"):
        return OWN_WORDS if text.lower() == "true" else "", []
    try:
        return coerce(value, ""), []
    except TypeError as error:
        return "", [f"is {value!r}: {error}"]


def start_phrase(options: CfgNode) -> str:
    """Words that CoOp's and KgCoOp's context starts from; "": random."""
    return PHRASE if options.CTX_INIT == OWN_WORDS else options.CTX_INIT


COOP_KEYS = (
    Key("TRAINER.COOP.PREC", "fp16", "precision of the frozen encoders", PRECISIONS),
    Key("TRAINER.COOP.N_CTX", 16, "context vectors of the class prompts", check=at_least(1)),
    Key("TRAINER.COOP.CSC", False, "one context per class"),
    Key(
        "TRAINER.COOP.CTX_INIT",
        "",
        "initial words of the context; True: the method's own words; False or empty: random",
        parse=parse_start,
    ),
    Key("TRAINER.COOP.CLASS_TOKEN_POSITION", "end", "position of the class name", POSITIONS),
)


def template_phrase(task: Task) -> str:
    """A task's template with all its words before the class name.

    Words after the name move to the front: "a photo of a {}, a type of pet." becomes "a type of pet, a photo of a".
    Without words before the name, they are joined to it: "{} texture." becomes "a texture of". A template that is only
    the name becomes "a photo of a". For its data sets this gives ProGrad's own table.
    """
    before, _, rest = task.template.partition("{}")
    before, behind = before.strip(" ,."), rest.strip(" ,.")
    if before or not behind:
        return ", ".join(part for part in (behind, before) if part) or PHRASE
    if rest.startswith(","):
        return f"{behind},"
    article = "" if re.match(r"(a|an|the) ", behind) else "an " if behind[0] in "aeiou" else "a "
    return f"{article}{behind} of"


def prompts_with(phrases: Sequence[str], names: Sequence[str]) -> list[str]:
    """The texts "phrase name." ("_" in a name becomes a space)."""
    return [f"{phrase} {name.replace('_', ' ')}." for phrase, name in zip(phrases, names, strict=True)]


class ClassPrompts(nn.Module):
    """One context for all classes, or one per class; ``ctx`` is (M, D) or (C, M, D)."""

    def __init__(
        self, backbone: clip.Backbone, tasks: Sequence[Task], options: CfgNode, *, seed: int, phrase: str = ""
    ) -> None:
        super().__init__()
        self.prompt_learner = ContextPrompts(
            backbone.text,
            flat_classnames(tasks),
            n_ctx=options.N_CTX,
            position=options.CLASS_TOKEN_POSITION,
            phrase=phrase,
            context="own" if options.CSC else "shared",
            seed=seed,
            key="prompt_learner.ctx",
        )

    def forward(self, columns: Tensor | None = None) -> Tensor:
        """Class features (C, F), not normalised."""
        assert columns is None, "the methods of this family have no class sub-sampling"
        return self.prompt_learner()


class CoOpTuner(PromptTuner):
    """A method that learns the context of CoOp's class prompts."""

    section = "COOP"
    config_keys: tuple[Key, ...] = COOP_KEYS

    def check_cfg(self, cfg: CfgNode) -> None:
        """Refuse a phrase of another length than the context."""
        check_phrase(start_phrase(cfg.TRAINER.COOP), cfg.TRAINER.COOP.N_CTX, "TRAINER.COOP.CTX_INIT")

    def build_prompts(self, backbone: clip.Backbone, tasks: Sequence[Task]) -> nn.Module:
        """The class prompts."""
        phrase = start_phrase(self.options)
        return ClassPrompts(backbone, tasks, self.options, seed=self.cfg.SEED, phrase=phrase)

    def learned_modules(self) -> dict[str, nn.Module]:
        """One folder, as in the original."""
        return {"prompt_learner": self.model.get_submodule("prompt_learner")}

    def contexts(self) -> list[Context]:
        """The context of all classes, or of each."""
        context = self.model.get_parameter("prompt_learner.ctx")
        return contexts_of(context, self.dm.tasks, "class" if self.options.CSC else "all")
