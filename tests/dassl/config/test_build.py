import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from dassl.config import all_keys, flatten, get_cfg_default, load_yaml, merge_cfg
from dassl.utils.errors import UserError


def problems(**given):
    """The lines of the error that merging raises."""
    with pytest.raises(UserError) as caught:
        merge_cfg(get_cfg_default(), **given)
    return str(caught.value).splitlines()


@pytest.fixture
def write(tmp_path):
    def write(text, name="config.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    return write


def test_later_settings_win(write):
    cfg = get_cfg_default()
    first = write("OPTIM: {LR: 1, MAX_EPOCH: 7}\nSEED: 3", "a.yaml")
    second = write("OPTIM:\n  LR: 2\n  WARMUP_CONS_LR: 1e-5", "b.yaml")
    merge_cfg(cfg, files=[first, second], pairs=["SEED", "0", "SEED", "5"])
    assert (cfg.OPTIM.LR, cfg.OPTIM.MAX_EPOCH, cfg.OPTIM.WARMUP_CONS_LR, cfg.SEED) == (2.0, 7, 1e-5, 5)


def test_numbers_may_be_written_in_any_way():
    cfg = get_cfg_default()
    pairs = ["OPTIM.LR", "1", "TRAINER.MTCOOP.PG_RATIO", "0.5", "TRAINER.MTCOOP.CLS_SAMPLE_RATE", "1"]
    merge_cfg(cfg, pairs=[*pairs, "TRAINER.MTCOOP.FREEZE_CLS_PROMPT", "1"])
    assert (cfg.OPTIM.LR, cfg.TRAINER.MTCOOP.PG_RATIO, cfg.TRAINER.MTCOOP.CLS_SAMPLE_RATE) == (1.0, 0.5, 1.0)
    assert cfg.TRAINER.MTCOOP.FREEZE_CLS_PROMPT is True
    merge_cfg(cfg, pairs=["TRAINER.MTCOOP.FREEZE_CLS_PROMPT", "False"])
    assert cfg.TRAINER.MTCOOP.FREEZE_CLS_PROMPT is False


@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("OPTIM.LRR", "OPTIM.LR"),
        ("optim.max_epochs", "OPTIM.MAX_EPOCH"),
        ("DATASET.NUMSHOTS", "DATASET.NUM_SHOTS"),
        ("TRAINER.MTCOOP.PGTYPE", "TRAINER.MTCOOP.PG_TYPE"),
        ("BACKBONE.NAME", "MODEL.BACKBONE.NAME"),
        ("TRAIN.EPOCHS", "OPTIM.MAX_EPOCH"),
        ("LR", "OPTIM.LR"),
        ("num_shots", "DATASET.NUM_SHOTS"),
    ],
)
def test_an_unknown_key_is_answered_with_the_nearest(wrong, meant):
    (line,) = problems(pairs=[wrong, "1"])
    assert line.startswith(f"command line: unknown key {wrong!r}; did you mean ")
    assert meant in line


def test_a_key_like_no_other_points_to_the_reference():
    assert problems(pairs=["QQQQQ", "1"]) == ["command line: unknown key 'QQQQQ'; see docs/config.md"]


def tasks_of(*paths):
    entries = [f"{{{path}, name: t{number}}}" for number, path in enumerate(paths)]
    return f"DATASET: {{NAME: MyTasks, TASKS: [{', '.join(entries)}]}}"


def root_of(file, *pairs):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[file], pairs=pairs)
    return cfg.DATASET.ROOT


def test_own_tasks_with_absolute_paths_need_no_data_root(write):
    file = write(tasks_of("folder: /a/mugs", "table: /b/tiles.csv, label: x", "table: ~/c.csv, image_folder: /c"))
    assert root_of(file) == str(file.parent)
    assert root_of(file, "DATASET.ROOT", "/data") == "/data"


@pytest.mark.parametrize(
    "path",
    ["folder: mugs", "table: /b/tiles.csv, image_folder: c", "dataset: Demo6, metric: mean_acc", "table: ../tiles.csv"],
)
def test_a_relative_path_or_a_registered_set_needs_it(write, path):
    assert root_of(write(tasks_of("folder: /a/mugs", path))) == ""


def test_all_problems_are_told_at_once(write):
    file = write("OPTIM: {LR: fast, NAME: sdg}\nTEST: {SPLIT: train}\nSEEED: 1")
    lines = problems(
        files=[file, file.with_name("confi.yaml")], pairs=["INPUT.SIZE", "(8,8,8)", "OPTIM.MAX_EPOCH", "0"]
    )
    assert len(lines) == 7
    for part in (
        "confi.yaml: there is no such file; did you mean config.yaml?",
        "OPTIM.LR is 'fast': expected a number",
    ):
        assert any(part in line for line in lines)
    assert f"{file}: OPTIM.NAME is 'sdg': choose one of 'sgd'" in " ".join(lines)
    assert "command line: INPUT.SIZE is (8, 8, 8): must have 2 entries" in lines
    assert "command line: OPTIM.MAX_EPOCH is 0: must be at least 1" in lines


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("a: [1", "is not YAML (line 1: expected ',' or ']', but got '<stream end>')"),
        ("OPTIM:\n  LR: 1\n LR: 2", "is not YAML (line 3: expected <block end>, but found '<block mapping start>')"),
        ("OPTIM:\n\tLR: 1", r"is not YAML (line 2: found character '\t' that cannot start any token)"),
        (
            "OPTIM:\n  LR: 1\nVERSION: 1\nOPTIM:\n  NAME: sgd",
            "is not YAML (line 4: 'OPTIM' occurs twice; join the two)",
        ),
        ("OPTIM: &again\n  LR: *again", "is not YAML (line 1: a value contains itself by an alias (*name))"),
        (b"\x89PNG\r\n\x1a\n\x00\xff", "is not UTF-8; save it as UTF-8"),
        (
            "!!python/object/apply:os.system [true]",
            "is not YAML (line 1: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.system')",
        ),
        ("VERSION: 2001-99-99", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("just words", "expected KEY: VALUE lines, found a str"),
        ("- 1", "expected KEY: VALUE lines, found a list"),
    ],
)
def test_a_file_that_is_no_config(write, text, problem):
    path = write(text)
    assert problems(files=[path]) == [f"{path}: {problem}"]


def test_a_section_in_the_place_of_a_key(write):
    path = write("OPTIM:\nDATASET: 3")
    lines = [f"{path}: {name!r} is no key but a section of keys" for name in ("OPTIM", "DATASET")]
    assert [line.partition(", such as")[0] for line in problems(files=[path])] == lines


def test_merge_keys_of_yaml_are_no_repetition():
    text = "a: &a {x: 1, y: 1}\nb: &b {<<: *a, x: 2}\nc: {<<: *b, x: 3}"
    assert load_yaml(text)["c"] == {"x": 3, "y": 1}


def test_an_empty_file_changes_nothing(write):
    cfg = get_cfg_default()
    merge_cfg(cfg, files=[write("# nothing\n")])
    assert cfg == get_cfg_default()


def test_a_folder_is_no_config(tmp_path):
    (line,) = problems(files=[tmp_path])
    assert line.startswith(f"{tmp_path}: cannot be read")


def test_a_key_without_a_value():
    (line,) = problems(pairs=["OPTIM.LR", "1", "SEED"])
    assert "'SEED' has no value" in line


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from(sorted(all_keys())) | st.text(), st.text() | st.integers() | st.none()))
def test_any_settings_are_taken_or_refused_by_lines(tmp_path_factory, content):
    cfg = get_cfg_default()
    path = tmp_path_factory.getbasetemp() / "any.yaml"
    path.write_text(yaml.safe_dump(content))
    try:
        merge_cfg(cfg, files=[path])
    except UserError as error:
        assert all(line.startswith(str(path)) for line in str(error).split("\n"))
    kinds = {name: type(value) for name, value in flatten(cfg).items()}
    assert kinds == {name: type(key.default) for name, key in all_keys().items()}


def test_a_dumped_config_is_read_back_unchanged(write):
    cfg = get_cfg_default()
    merge_cfg(cfg, pairs=["OPTIM.LR", "1e-30", "INPUT.TRANSFORMS", "random_flip", "SEED", str(2**62 + 1)])
    again = get_cfg_default()
    merge_cfg(again, files=[write(cfg.dump())])
    assert again == cfg
