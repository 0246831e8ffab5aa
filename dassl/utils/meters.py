"""Running averages of what a training loop reports."""

from collections.abc import Mapping
from typing import SupportsFloat


class AverageMeter:
    """The newest value (``val``) and the weighted mean (``avg``) of a stream of numbers."""

    def __init__(self) -> None:
        self.val = 0.0
        self.avg = 0.0
        self.sum = 0.0
        self.count = 0

    def update(self, value: SupportsFloat, n: int = 1) -> None:
        """Enter ``value``; ``n`` is its weight in the mean (such as the images that it is a mean of)."""
        self.val = float(value)
        self.sum += self.val * n
        self.count += n
        self.avg = self.sum / self.count


class MetricMeter:
    """One :class:`AverageMeter` for each name, shown as ``name val (avg)`` with a tab between the names."""

    def __init__(self, delimiter: str = "\t") -> None:
        self.delimiter = delimiter
        self.meters: dict[str, AverageMeter] = {}

    def update(self, values: Mapping[str, SupportsFloat]) -> None:
        """Enter one value for each name; numbers and one-element tensors are both welcome."""
        for name, value in values.items():
            self.meters.setdefault(name, AverageMeter()).update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
