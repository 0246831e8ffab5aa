"""The engine: config, registries, tasks and data, training loop, evaluation, checkpoints."""

__version__ = "0.1.0"
