"""Requirements: pinned, with digests of every file, in step with pyproject.toml."""

import re
import sys

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dassl.utils.tools import CHECKOUT
from scripts.lint.audit import AUDITED

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LOCKED = (
    "requirements",
    "requirements-ray",
    "requirements-export",
    "requirements-app",
    "requirements-browser",
    "requirements-audit",
)
SYSTEMS = {"Linux": "linux", "Darwin": "darwin", "Windows": "win32"}
MACHINES = [
    {"python_version": python, "python_full_version": f"{python}.2", "platform_system": system, "sys_platform": short}
    for python in ("3.10", "3.11", "3.12", "3.13", "3.14")
    for system, short in SYSTEMS.items()
]


def pins(name, section=""):
    """Requirements of NAME.in; of those below a heading, if one is given."""
    found, inside = [], not section
    for line in (CHECKOUT / f"{name}.in").read_text(encoding="utf-8").splitlines():
        if line.startswith("# ---"):
            inside = not section or section in line
        elif inside and line.split("#")[0].strip():
            found.append(Requirement(line.split("#")[0]))
    return found


def locked(name):
    """(requirement, number of its digests) for each entry of NAME.txt."""
    text = (CHECKOUT / f"{name}.txt").read_text(encoding="utf-8")
    entries = re.findall(r"^([\w.-]+==[^\\\n]+?)((?: \\\n +--hash=sha256:[0-9a-f]{64})*)$", text, re.MULTILINE)
    assert len(entries) == len(re.findall(r"^\w", text, re.MULTILINE)), "an entry of another form"
    return [(Requirement(entry), digests.count("--hash")) for entry, digests in entries]


def versions(requirements, machine):
    """Name -> version of what is installed on a machine."""
    wanted = [each for each in requirements if each.marker is None or each.marker.evaluate(machine)]
    found = {canonicalize_name(each.name): str(each.specifier) for each in wanted}
    assert len(found) == len(wanted), f"a package twice on {machine}"
    return found


@pytest.mark.parametrize("name", LOCKED)
def test_every_package_has_digests(name):
    entries = locked(name)
    assert [str(each) for each, digests in entries if not digests or "*" in str(each.specifier)] == []
    assert len(entries) > len(pins(name)) / 2


@pytest.mark.parametrize("name", LOCKED)
def test_what_is_locked_is_what_is_pinned_on_every_system_and_python(name):
    entries = [each for each, _ in locked(name)]
    for machine in MACHINES:
        assert versions(pins(name), machine).items() <= versions(entries, machine).items(), machine


@pytest.mark.parametrize("name", ["ray", "export"])
def test_an_optional_file_brings_no_other_release_of_what_is_there(name):
    main, more = ([each for each, _ in locked(each)] for each in ("requirements", f"requirements-{name}"))
    for machine in MACHINES:
        there, wanted = versions(main, machine), versions(more, machine)
        assert {shared: there[shared] for shared in there.keys() & wanted.keys()}.items() <= wanted.items()
    assert {"ray": "ray", "export": "onnx"}[name] in {each.name for each in more}


def test_torch_and_torchvision_belong_together():
    found = versions([each for each, _ in locked("requirements")], MACHINES[0])
    assert (found["torch"], found["torchvision"]) == ("==2.12.1", "==0.27.1")


def test_pyproject_says_the_same():
    project = tomllib.loads((CHECKOUT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    optional = project["optional-dependencies"]
    said = {"the program": project["dependencies"], "the tests": optional["test"]}
    for section, listed in said.items():
        assert [*map(Requirement, listed)] == pins("requirements", section), section
    assert [*map(Requirement, optional["ray"])] == pins("requirements-ray")[:1]
    assert project["requires-python"] == ">=3.10,<3.15"
    assert "newest_minor=14" in (CHECKOUT / "scripts" / "setup.sh").read_text(encoding="utf-8")


def test_one_command_renews_every_file():
    text = (CHECKOUT / "scripts" / "lock.sh").read_text(encoding="utf-8")
    assert tuple(re.findall(r"^lock ([\w-]+)", text, re.MULTILINE)) == LOCKED
    assert tuple(name.removesuffix(".txt") for name in AUDITED) == LOCKED
    assert "--generate-hashes" in text
    assert "--universal" in text


def test_nothing_is_installed_without_digests():
    """Every call of pip, but of uv and pip-audit's own environments, which name a file with digests or one release."""
    for name in (".ci/run", "scripts/setup.sh", "scripts/lock.sh"):
        text = (CHECKOUT / name).read_text(encoding="utf-8").replace("\\\n", " ")
        for line in re.findall(r"^.*-m pip install .*$", text, re.MULTILINE):
            fine = ("--require-hashes -r", '"${checked[@]}" -r', "uv==")
            assert any(part in line for part in fine), f"{name}: {line}"
