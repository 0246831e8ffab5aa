"""Builds the optimiser that the OPTIM node describes."""

import torch
from torch import nn
from yacs.config import CfgNode

from dassl.utils.errors import UserError


def build_optimizer(model: nn.Module, optim_cfg: CfgNode) -> torch.optim.Optimizer:
    """One optimiser over all parameters of ``model`` that require a gradient.

    Raises:
        UserError: the settings contradict each other, e.g. Nesterov momentum without momentum.
    """
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        return _OPTIMIZERS[optim_cfg.NAME](learned, optim_cfg)
    except ValueError as error:
        raise UserError(f"OPTIM: {optim_cfg.NAME} refuses these settings ({error})") from error


def _sgd(learned: list[nn.Parameter], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.SGD(
        learned,
        lr=cfg.LR,
        momentum=cfg.MOMENTUM,
        weight_decay=cfg.WEIGHT_DECAY,
        dampening=cfg.SGD_DAMPNING,
        nesterov=cfg.SGD_NESTEROV,
    )


def _rmsprop(learned: list[nn.Parameter], cfg: CfgNode) -> torch.optim.Optimizer:
    return torch.optim.RMSprop(
        learned, lr=cfg.LR, momentum=cfg.MOMENTUM, weight_decay=cfg.WEIGHT_DECAY, alpha=cfg.RMSPROP_ALPHA
    )


def _adam(learned: list[nn.Parameter], cfg: CfgNode) -> torch.optim.Optimizer:
    kinds = {"adam": torch.optim.Adam, "amsgrad": torch.optim.Adam, "adamw": torch.optim.AdamW}
    kind = kinds.get(cfg.NAME, torch.optim.RAdam)
    extra = {"amsgrad": True} if cfg.NAME == "amsgrad" else {}
    betas = (cfg.ADAM_BETA1, cfg.ADAM_BETA2)
    return kind(learned, lr=cfg.LR, betas=betas, eps=cfg.ADAM_EPS, weight_decay=cfg.WEIGHT_DECAY, **extra)


_OPTIMIZERS = {"sgd": _sgd, "rmsprop": _rmsprop, "adam": _adam, "amsgrad": _adam, "adamw": _adam, "radam": _adam}
