"""Image encoder, normalisation and head as one ONNX graph."""

import contextlib
import logging
import warnings
from collections.abc import Iterator, Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor, nn

from dassl.inference.classifier import Classifier
from dassl.inference.export import exported_content
from dassl.inference.exported import Exported
from dassl.utils.errors import UserError
from dassl.utils.files import atomic_path

BOUND = 1e-3  # largest difference of a probability
_NEEDED = ("onnx", "onnxruntime", "onnxscript")
_OPSET = 20


class Graph(nn.Module):
    """Images (B, 3, H, W) -> probabilities (B, C_t) of each task."""

    def __init__(self, tower: nn.Module, content: Exported, tasks: Sequence[int]) -> None:
        super().__init__()
        self.tower, self.content, self.tasks = tower, content, list(tasks)

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The probabilities, one tensor per task."""
        features = self.tower(images)
        return tuple(self.content.probabilities(features, task) for task in self.tasks)


def export_onnx(classifier: Classifier, path: Path, tasks: Sequence[int] | None = None) -> float:
    """Write the graph, after a check in onnxruntime with batches of 1 and 3; returns the largest difference.

    Raises:
        UserError: onnx or onnxruntime is not installed, or the difference is above ``BOUND``.
    """
    lacks = [name for name in _NEEDED if find_spec(name) is None]
    if lacks:
        raise UserError(f"--onnx needs {' and '.join(lacks)}; install them with pip install -r requirements-export.txt")
    tower = classifier.trainer.image_module()
    content = exported_content(classifier)
    wanted = list(range(len(classifier.tasks))) if tasks is None else list(tasks)
    graph = Graph(tower.float(), content, wanted).eval()
    side = classifier.input.SIZE
    images = torch.randn(3, 3, *side, generator=torch.Generator().manual_seed(0))
    with atomic_path(path) as temporary:
        names = [f"probabilities.{task}" for task in wanted]
        with _without_remarks():
            torch.onnx.export(
                graph,
                (images,),
                temporary,
                input_names=["images"],
                output_names=names,
                dynamic_shapes={"images": {0: torch.export.Dim("batch")}},
                opset_version=_OPSET,
                external_data=False,
                dynamo=True,
                verbose=False,
            )
        difference = max(_difference(graph, temporary, images[:count]) for count in (1, 3))
        if not difference <= BOUND:
            raise UserError(
                f"{path}: onnxruntime differs from PyTorch by {difference:.3g}, more than {BOUND:g}; nothing written"
            )
    return difference


@contextlib.contextmanager
def _without_remarks() -> Iterator[None]:
    """Suppress remarks of torch 2.12 about its own code, and of onnxscript about operations left unchanged."""
    loggers = {name: logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")}
    levels = {name: logger.level for name, logger in loggers.items()}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", ".*LeafSpec.* is deprecated", FutureWarning)
        for logger in loggers.values():
            logger.setLevel(logging.ERROR)
        try:
            yield
        finally:
            for name, logger in loggers.items():
                logger.setLevel(levels[name])


@torch.no_grad()
def _difference(graph: Graph, path: Path, images: Tensor) -> float:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    found = session.run(None, {"images": images.numpy()})
    pairs = zip(graph(images), found, strict=True)
    return max(float((mine - torch.from_numpy(theirs)).abs().max()) for mine, theirs in pairs)
