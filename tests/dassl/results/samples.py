"""Results and logs to test with."""

from dassl.results.record import BackboneInfo, RunResult, TaskResult

TASKS = ("animal", "texture")


def make_result(metrics=(60.0, 80.0), *, metric=70.0, trainer="MTCoOp", shots=4, seed=1, **changes):
    tasks = tuple(
        TaskResult(i, name, value, "mean_acc", 30, 3)
        for i, (name, value) in enumerate(zip(TASKS, metrics, strict=True))
    )
    backbone = BackboneInfo("demo", "0" * 64, "fp32")
    fixed = {"mode": "train", "dataset": "Demo6", "backbone": backbone, "split": "test", "metric": metric}
    return RunResult(trainer=trainer, shots=shots, seed=seed, tasks=tasks, **{**fixed, **changes})


def result_lines(metric, tasks=()):
    lines = ["=> result", "* total: 1,072", f"* overall_metric: {metric}%"]
    return lines + [f"* task: {i} (task {i} of 3)\ttotal: 1,024\tmetric: {value}%" for i, value in enumerate(tasks)]


def log_lines(metric, tasks=(), *, end="Finished training"):
    return ["epoch [1/1][1/1]\ttime 0.1 (0.1)", end, "Do evaluation on test set", *result_lines(metric, tasks)]


def write_log(folder, lines, newline="\n"):
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log.txt").write_bytes((newline.join(lines) + newline).encode())
