"""Builds the optimiser that the OPTIM node describes."""

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils.errors import UserError


def build_optimizer(model: nn.Module, optim_cfg: CfgNode) -> torch.optim.Optimizer:
    """One optimiser over all parameters of ``model`` that require a gradient.

    With STAGED_LR, child modules outside NEW_LAYERS learn with LR * BASE_LR_MULT.

    Raises:
        UserError: the settings contradict each other, e.g. Nesterov momentum without momentum.
    """
    named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
    groups: list[dict[str, Any]] = [{"params": [p for _, p in named]}]
    if optim_cfg.STAGED_LR:
        groups = _staged_groups(named, optim_cfg)
    try:
        return _OPTIMIZERS[optim_cfg.NAME](groups, optim_cfg)
    except ValueError as error:
        raise UserError(f"OPTIM: {optim_cfg.NAME} refuses these settings ({error})") from error


def _staged_groups(named: Iterable[tuple[str, nn.Parameter]], optim_cfg: CfgNode) -> list[dict[str, Any]]:
    base: dict[str, Any] = {"params": [], "lr": optim_cfg.LR * optim_cfg.BASE_LR_MULT}
    new: dict[str, Any] = {"params": [], "lr": optim_cfg.LR}
    for name, parameter in named:
        group = new if name.split(".")[0] in optim_cfg.NEW_LAYERS else base
        group["params"].append(parameter)
    return [group for group in (base, new) if group["params"]]


def _sgd(groups: list[dict[str, Any]], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        groups,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        dampening=cfg.SGD_DAMPNING,
        nesterov=cfg.SGD_NESTEROV,
    )


def _rmsprop(groups: list[dict[str, Any]], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(
        groups, lr=cfg.LR, momentum=cfg.MOMENTUM, weight_decay=cfg.WEIGHT_DECAY, alpha=cfg.RMSPROP_ALPHA
    )


def _adam(groups: list[dict[str, Any]], cfg: CfgNode) -> torch.optim.Optimizer:
    kinds = {"adam": torch.optim.Adam, "amsgrad": torch.optim.Adam, "adamw": torch.optim.AdamW}
    kind = kinds.get(cfg.NAME, torch.optim.RAdam)
    extra = {"amsgrad": True} if cfg.NAME == "amsgrad" else {}
    betas = (cfg.ADAM_BETA1, cfg.ADAM_BETA2)
    return kind(groups, lr=cfg.LR, betas=betas, weight_decay=cfg.WEIGHT_DECAY, **extra)


_OPTIMIZERS = {"sgd": _sgd, "rmsprop": _rmsprop, "adam": _adam, "amsgrad": _adam, "adamw": _adam, "radam": _adam}
