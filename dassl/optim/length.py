"""How long a training is."""

from yacs.config import CfgNode


def planned_epochs(optim_cfg: CfgNode, batches: int) -> int:
    """Epochs of a training with ``batches`` training batches each: MAX_EPOCH, or more if MIN_STEPS needs them."""
    needed = -(-optim_cfg.MIN_STEPS // batches) if batches else 0
    return max(optim_cfg.MAX_EPOCH, needed)
