"""Running averages for the reports of a training loop."""

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
        """Add ``value``; ``n`` is its weight in the mean (such as its number of images)."""
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
        """Add one value for each name, a number or a one-element tensor."""
        for name, value in values.items():
            self.meters.setdefault(name, AverageMeter()).update(value)

    def __str__(self) -> str:
        return self.delimiter.join(f"{name} {meter.val:.4f} ({meter.avg:.4f})" for name, meter in self.meters.items())
