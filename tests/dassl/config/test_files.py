"""Config files that take settings from others: order, nesting, and what is wrong, in one line that names the file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.config import get_cfg_default, merge_cfg, read_settings
from dassl.utils.errors import UserError


@pytest.fixture
def write(tmp_path):
    """Writes a file below ``tmp_path`` and returns its path."""

    def make(name, text):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    return make


def optim(path):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[path])
    return cfg.OPTIM


def problem(path):
    with pytest.raises(UserError) as caught:
        merge_cfg(get_cfg_default(), files=[path])
    return str(caught.value)


def test_own_keys_come_over_those_of_the_base_wherever_the_line_stands(write):
    write("base.yaml", "OPTIM: {LR: 0.5, MAX_EPOCH: 7}")
    own = write("own.yaml", "OPTIM:\n  LR: 0.25\nBASE: base.yaml\n")
    assert (optim(own).LR, optim(own).MAX_EPOCH) == (0.25, 7)


def test_of_several_bases_the_later_one_wins_and_bases_have_bases(write):
    write("deep/far.yaml", "OPTIM: {LR: 0.1, MAX_EPOCH: 1, NAME: adam}")
    write("a.yaml", "BASE: deep/far.yaml\nOPTIM: {LR: 0.2, MAX_EPOCH: 2}")
    write("b.yaml", "OPTIM: {LR: 0.3}")
    found = optim(write("sub/own.yaml", "BASE: [../a.yaml, ../b.yaml]"))
    assert (found.LR, found.MAX_EPOCH, found.NAME) == (0.3, 2, "adam")


@given(st.lists(st.dictionaries(st.sampled_from("abcd"), st.integers()), min_size=1, max_size=6))
def test_a_chain_of_files_says_what_one_dict_after_the_other_says(tmp_path_factory, links):
    folder = tmp_path_factory.mktemp("chain")
    for number, link in enumerate(links):
        base = f"BASE: '{number - 1}.yaml'\n" if number else ""
        (folder / f"{number}.yaml").write_text(base + "".join(f"{key}: {value}\n" for key, value in link.items()))
    reading = read_settings(folder / f"{len(links) - 1}.yaml")
    expected = {key: value for link in links for key, value in link.items()}
    assert not reading.problems
    assert {key: value for _, key, value in reading.settings} == expected


def test_an_absolute_path_a_home_and_a_link_are_followed(write, tmp_path, monkeypatch):
    base = write("there/base.yaml", "OPTIM: {LR: 0.5}")
    assert optim(write("absolute.yaml", f"BASE: {base}")).LR == 0.5
    monkeypatch.setenv("HOME", str(tmp_path))
    assert optim(write("home.yaml", "BASE: ~/there/base.yaml")).LR == 0.5
    own = write("there/own.yaml", "BASE: base.yaml")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere/link.yaml").symlink_to(own)
    assert optim(tmp_path / "elsewhere/link.yaml").LR == 0.5


def test_a_base_that_is_not_there_is_named_with_its_file(write, tmp_path):
    write("base.yaml", "")
    own = write("own.yaml", "BASE: bse.yaml")
    expected = f"{own}: BASE names {tmp_path}/bse.yaml, and there is no such file; did you mean base.yaml or own.yaml?"
    assert problem(own) == expected


@pytest.mark.parametrize("text", ["BASE: own.yaml", "BASE: [other.yaml]", "BASE: ./sub/../other.yaml"])
def test_a_circle_is_named(write, text):
    write("sub/x.yaml", "")
    write("other.yaml", "BASE: own.yaml")
    said = problem(write("own.yaml", text))
    assert "BASE leads back to" in said and said.endswith("own.yaml); take one of these lines out")
    assert ("own.yaml -> own.yaml" if text.endswith(" own.yaml") else "own.yaml -> other.yaml -> own.yaml") in said
    assert "\n" not in said


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("OPTIM: [1", "base.yaml: is not YAML (line 1"),
        ("OPTIM: {LR: 1}\nOPTIM: {LR: 2}", "base.yaml: is not YAML (line 2: 'OPTIM' occurs twice"),
        ("- 1", "base.yaml: expected KEY: VALUE lines, found a list"),
        ("OPTIM: {LRR: 1}", "base.yaml: unknown key 'OPTIM.LRR'; did you mean OPTIM.LR"),
        ("OPTIM: {LR: fast}", "base.yaml: OPTIM.LR is 'fast': expected a number"),
        ("BASE: none.yaml", "base.yaml: BASE names "),
    ],
)
def test_what_is_wrong_in_a_base_is_said_once_of_the_base(write, tmp_path, text, said):
    write("base.yaml", text)
    own = write("own.yaml", "BASE: [base.yaml, base.yaml]")
    assert problem(own).startswith(f"{tmp_path}/{said}")
    assert "\n" not in problem(own)


@pytest.mark.parametrize("value", ["3", "''", "{a: b}", "[1]", "[[base.yaml]]", "null", '"a\\0b"', "['']"])
def test_a_base_that_names_no_file_is_refused(write, value):
    own = write("own.yaml", f"BASE: {value}")
    assert problem(own).startswith(f"{own}: BASE is ")
    assert problem(own).endswith("expected the path of a YAML file, or a list of such paths")


def test_a_folder_or_a_link_to_itself_is_no_base(write, tmp_path):
    (tmp_path / "loop.yaml").symlink_to("loop.yaml")
    for name in (".", "loop.yaml"):
        assert "cannot be read (" in problem(write("own.yaml", f"BASE: {name}"))
    assert "cannot be read (" in problem(tmp_path / "loop.yaml")


def test_a_base_is_named_from_the_current_folder_where_it_lies_below(write, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write("_base/one.yaml", "OPTIM: {LR: fast}")
    assert problem(write("own/x.yaml", "BASE: ../_base/one.yaml")).startswith("_base/one.yaml: OPTIM.LR is")


def test_base_is_no_key_of_a_command_or_of_a_section(write):
    with pytest.raises(UserError, match="unknown key 'BASE'"):
        merge_cfg(get_cfg_default(), pairs=["BASE", "x.yaml"])
    assert "unknown key 'OPTIM.BASE'" in problem(write("own.yaml", "OPTIM: {BASE: x.yaml}"))


@pytest.mark.parametrize(("first", "second"), [("1", "yes"), ("0", "no"), ("0", "false"), ("1", "0x1"), ("1.0", "1")])
def test_keys_that_yaml_reads_as_one_are_refused(write, first, second):
    own = write("own.yaml", f"classes: {{{first}: cat, {second}: dog}}")
    assert f"'{first}' and '{second}' are one key to YAML; put both in quotes" in problem(own)
