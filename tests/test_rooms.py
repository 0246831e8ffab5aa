"""No room imports one above it, and no two modules import each other."""

import ast
from collections.abc import Iterator
from pathlib import Path

import yaml

from dassl.utils.tools import CHECKOUT

# From the ground up; rooms on one floor do not import each other.
FLOORS = (
    {"clip", "dassl.utils"},
    {"dassl.results", "dassl.registries"},
    {"dassl.data"},
    {"dassl.config", "dassl.metrics", "dassl.optim"},
    {"dassl.evaluation"},
    {"dassl.engine"},
    {"dassl.inference", "dassl.loggers", "dassl.report", "dassl.sweep"},
    {"dassl.app", "dassl.explain"},
    {"datasets", "trainers"},
    {"train", "sweep", "predict", "interpret_prompt", "export", "demo_app", "parse_test_res"},
    {"scripts"},
    {"benchmarks"},
)
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
SOURCES = [
    path
    for path in CHECKOUT.rglob("*.py")
    if path.relative_to(CHECKOUT).parts[0] in {r.split(".")[0] for r in FLOOR} | {r + ".py" for r in FLOOR}
]


def module_name(path: Path) -> str:
    """Dotted name of a file of the checkout."""
    parts = path.relative_to(CHECKOUT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {module_name(path): path for path in SOURCES}


def room(module: str) -> str:
    """The room of a module; "" for the bare package ``dassl``."""
    parts = module.split(".")
    return ".".join(parts[:2]) if parts[0] == "dassl" else parts[0]


def imported(module: str) -> set[str]:
    """Modules of the checkout that a module imports when it is used; imports for type checkers alone do not count."""
    tree = ast.parse(MODULES[module].read_text(encoding="utf-8"))
    names = {name for node in _statements(tree) for name in _names(node)}
    return {name for name in names if name in MODULES and name != module}


def _statements(node: ast.AST) -> Iterator[ast.Import | ast.ImportFrom]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        if isinstance(child, (ast.Import, ast.ImportFrom)):
            yield child
        yield from _statements(child)


def _names(node: ast.Import | ast.ImportFrom) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
        return
    for alias in node.names:
        inner = f"{node.module}.{alias.name}"
        yield inner if inner in MODULES else str(node.module)


IMPORTS = {module: imported(module) for module in MODULES}


def test_every_room_has_a_floor() -> None:
    assert {room(module) for module in MODULES} - set(FLOOR) <= {"dassl"}
    assert len(MODULES) > 100


def test_no_import_runs_up_a_floor() -> None:
    crossing = [
        f"{module} imports {other}"
        for module, others in IMPORTS.items()
        for other in others
        if room(module) != room(other) and {room(module), room(other)} <= set(FLOOR)
        if FLOOR[room(other)] >= FLOOR[room(module)]
    ]
    assert crossing == []


def test_no_circle_of_imports() -> None:
    left = {module: set(others) for module, others in IMPORTS.items()}
    while leaves := {module for module, others in left.items() if not others & set(left)}:
        left = {module: others for module, others in left.items() if module not in leaves}
    assert sorted(left) == []


def test_every_source_has_a_test() -> None:
    listed = yaml.safe_load((CHECKOUT / "tests/mirror.yaml").read_text(encoding="utf-8"))
    assert [path for path in listed if not (CHECKOUT / path).exists()] == []
    elsewhere = [path for sources in listed.values() for path in sources]
    without = [path.relative_to(CHECKOUT).as_posix() for path in SOURCES if not _mirror(path).is_file()]
    assert sorted(elsewhere) == sorted(path for path in without if not path.endswith("__init__.py")), (
        "add a test of the file's name, or name its test in tests/mirror.yaml"
    )


def _mirror(source: Path) -> Path:
    """The test file that has a source's name."""
    return CHECKOUT / "tests" / source.relative_to(CHECKOUT).parent / f"test_{source.stem.strip('_')}.py"
