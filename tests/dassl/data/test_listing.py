import csv
import io
import json
import logging
import os

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.data.listing import _MISSING, Entry, list_folder, list_table, text_form
from dassl.utils.errors import UserError

# What a cell may hold: any text that is not changed by stripping.
CELLS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0"), max_size=8).map(str.strip)
LABELS = CELLS.filter(lambda cell: cell and cell.casefold() not in _MISSING)
COLUMNS = LABELS.map(text_form).map(str.strip).filter(lambda name: name not in ("", "image", "split"))


@pytest.fixture
def root(tmp_path):
    """An empty folder in which ``a.png`` and ``b.PNG`` are images (for tables, which only look whether they exist)."""
    for name in ("a.png", "b.PNG"):
        (tmp_path / name).touch()
    return tmp_path


def tree(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()
    return root


def found(entries, root):
    return [(os.path.relpath(entry.path, root), entry.label, entry.part) for entry in entries]


def table(root, text, encoding="utf-8", name="t.csv", **columns):
    (root / name).write_bytes(text.encode(encoding))
    return list_table(root / name, "tiles", **{"image": "image", "label": "label", **columns})


def mistake(call, *arguments, **options):
    """The one line that a call raises."""
    with pytest.raises(UserError) as caught:
        call(*arguments, **options)
    message = str(caught.value)
    assert len(message.splitlines()) == 1, message
    assert message.startswith("task 'tiles': "), message
    return message


# -- folders ---------------------------------------------------------------------------------------------------


def test_a_tree_of_folders(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tree(
        tmp_path,
        "cat/2.JPG",
        "cat/10.png",
        "cat/deep/er/1.Jpeg",
        "Dog/x.tiff",
        "cat/Thumbs.db",
        "notes.txt",
        ".git/a.png",
    )
    tree(tmp_path, "cat/.hidden.png", "split_my_tasks/parts.json", "split_fewshot_mt/shot.json")
    entries = list_folder(tmp_path, "tiles")
    assert found(entries, tmp_path) == [
        ("Dog/x.tiff", "Dog", ""),
        ("cat/10.png", "cat", ""),
        ("cat/2.JPG", "cat", ""),
        ("cat/deep/er/1.Jpeg", "cat", ""),
    ]
    skipped, system = caplog.messages
    assert "skipped 1 files" in skipped and "notes.txt" in skipped
    assert system.endswith("left out 3 folders and files of the system: '.git', '.hidden.png', 'Thumbs.db'")


def test_folders_of_the_parts(tmp_path):
    tree(tmp_path, "Train/cat/1.png", "Train/dog/1.png", "valid/cat/1.png", "test/dog/1.png")
    assert found(list_folder(tmp_path, "tiles"), tmp_path) == [
        ("Train/cat/1.png", "cat", "train"),
        ("Train/dog/1.png", "dog", "train"),
        ("test/dog/1.png", "dog", "test"),
        ("valid/cat/1.png", "cat", "val"),
    ]


@pytest.mark.parametrize("names", [("train", "bus"), ("train",), ("test", "val")])
def test_classes_may_be_called_like_parts(tmp_path, names):
    tree(tmp_path, *(f"{name}/1.png" for name in names))
    assert [entry.label for entry in list_folder(tmp_path, "tiles")] == sorted(names)


def test_links_to_class_folders_are_followed(tmp_path):
    tree(tmp_path, "elsewhere/1.png", "tree/dog/1.png")
    (tmp_path / "tree" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [entry.label for entry in list_folder(tmp_path / "tree", "tiles")] == ["cat", "dog"]


def test_mistakes_in_folders(tmp_path):
    tree(tmp_path, "mugs/ok/1.png", "mugs/chip/readme.txt")
    assert "did you mean 'mugs'?" in mistake(list_folder, tmp_path / "mug", "tiles")
    assert "holds no 'zzz'; check the path" in mistake(list_folder, tmp_path / "zzz" / "deeper", "tiles")
    message = mistake(list_folder, tmp_path / "mugs", "tiles")
    assert "class folder 'chip'" in message and ".jpg" in message and "move the folder away" in message
    tree(tmp_path, "parts/train/ok/1.png", "parts/test/ok/1.png")
    (tmp_path / "parts" / "test" / "chip").mkdir()
    assert "class folder 'chip'" in mistake(list_folder, tmp_path / "parts", "tiles")
    assert f"'{tmp_path}/mugs/ok/1.png' is no folder" in mistake(list_folder, tmp_path / "mugs/ok/1.png", "tiles")


@pytest.mark.parametrize("names", [("1.png",), (".hidden/1.png",), ("train/1.png", "test/2.png")])
def test_pictures_without_a_class_folder(tmp_path, names):
    tree(tmp_path, *names)
    assert "holds no class folder; put the images of each class" in mistake(list_folder, tmp_path, "tiles")


@pytest.mark.parametrize(("names", "odd"), [(("train", "Test", "bus"), "bus"), (("val", "train", "valid"), "val")])
def test_a_folder_beside_those_of_the_parts(tmp_path, names, odd):
    tree(tmp_path, *(f"{name}/ok/1.png" for name in names))
    message = mistake(list_folder, tmp_path, "tiles")
    assert f"{odd!r} does not belong to that" in message and message.endswith("; move or rename it")


def test_a_name_in_another_encoding(tmp_path):
    tree(tmp_path, "ok/1.png", "chip/1.png")
    try:
        (tmp_path / "ok" / os.fsdecode(b"\xfc.png")).touch()
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    message = mistake(list_folder, tmp_path, "tiles")
    assert r"\xfc.png' is not UTF-8; rename the file or folder" in message


# -- tables ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16"])
@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
@pytest.mark.parametrize("newline", ["\n", "\r\n", "\r"])
def test_dialects(root, encoding, delimiter, newline):
    rows = [("image", "label"), ("a.png", "grün"), ("", ""), ("b.PNG", '"rot"'), ("a.png", "")]
    text = newline.join(delimiter.join(row) for row in rows)
    assert table(root, text, encoding) == [
        Entry(str(root / "a.png"), "grün", "", 2),
        Entry(str(root / "b.PNG"), "rot", "", 4),
    ]


def test_json_lines(root):
    text = (
        '{"image": "a.png", "n": 3}\n\n{"n": true, "image": "b.PNG", "split": "TEST"}\n{"image": "a.png", "n": null}\n'
    )
    entries = table(root, text, "utf-8-sig", "t.jsonl", label="n")
    assert entries == [Entry(str(root / "a.png"), "3", "", 1), Entry(str(root / "b.PNG"), "true", "test", 3)]


def test_columns_and_folders_can_be_named(root):
    (root / "deep").mkdir()
    text = "file,colour,part\n./deep/../a.png,red,Validation\nb.PNG,blue,\n"
    entries = table(root, text, name="deep/t.tsv", image="file", label="colour", split="part", images=root)
    assert found(entries, root) == [("a.png", "red", "val"), ("b.PNG", "blue", "")]


def test_paths_with_backslashes(root):
    tree(root, "deep/er/c.jpg")
    (entry,) = table(root, "image,label\ndeep\\er\\c.jpg,x\n")
    assert entry.path == str(root / "deep" / "er" / "c.jpg")


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("image,colour\na.png,x\n", {"label": "color"}, ["no column 'color'", "did you mean 'colour'?"]),
        ("a,b\nc,d\n", {}, ["no column 'image'", "it has 'a', 'b'"]),
        ("image,label\na.png,x\n", {"split": "part"}, ["no column 'part'"]),
        ("image,label,label\na.png,x,y\n", {}, ["line 1", "two columns are called 'label'"]),
        ("image,label\na.png,x\nc.png,y\n", {}, ["line 3", "no image", "'c.png'"]),
        ("image,label\nx.png,x\ny.png,y\n", {}, ["line 2", "(2 of 2 images are missing)"]),
        ("image,label\nA.PNG,x\n", {}, ["did you mean 'a.png' or 'b.PNG'?"]),
        ('image,label\n"two\nlines",x\n', {}, ["two\\nlines"]),
        ("image,label\n,x\n", {}, ["line 2", "no image path"]),
        ("image,label\na.png,x,y\n", {}, ["line 2", "3 cells", "2 columns"]),
        ("image,label\na.png,\n", {}, ["no row with a label in column 'label'"]),
        ("", {}, ["t.csv is empty; its first line names the columns"]),
        (f"image,label\n{'words ' * 60}/a.png,x\n", {}, ["line 2", "there is no image '"]),
        ("image,label,split\na.png,x,tset\n", {}, ["line 2", "unknown part 'tset'", "did you mean 'test'?"]),
        ("image,label,split\na.png,x,42\n", {}, ["unknown part '42'", "train, val or test"]),
        ('image,label\na.png,"x\n', {}, ["line 2"]),
        ('image,label\n"a.png"b,x\n', {}, ["line 2"]),
        ("image,label\nC:\\pics\\a.png,x\n", {}, ["line 2", "Windows drive", "relative to"]),
        ('{"image": 1}\n[2]', {"name": "t.jsonl"}, ["line 2", "expected an object"]),
        ('{"image": [1]}', {"name": "t.jsonl"}, ["line 1", "'image' is [1]"]),
        ('{"image": "a.png", }', {"name": "t.jsonl"}, ["line 1", "is not JSON"]),
        ("x", {"name": "t.xlsx"}, ["save it as .csv"]),
    ],
)
def test_mistakes_in_tables(root, text, options, words):
    message = mistake(table, root, text, **options)
    assert all(word in message for word in words), message


def test_other_encodings(root):
    message = mistake(table, root, "image,label\na.png,grün\n", "latin-1")
    assert all(word in message for word in ("t.csv", "line 2", "not UTF-8", "0xfc", "save the table as UTF-8"))
    (root / "t.csv").write_bytes(b"\xff\xfea")
    assert "not UTF-16" in mistake(list_table, root / "t.csv", "tiles", image="image", label="label")
    assert "did you mean 't.csv'?" in mistake(list_table, root / "tt.csv", "tiles", image="image", label="label")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.lists(LABELS | st.just(""), min_size=1, max_size=8), st.sampled_from(",;\t|"), st.sampled_from(["\n", "\r\n"])
)
def test_any_label_comes_back_from_csv(root, labels, delimiter, newline):
    stream = io.StringIO()
    writer = csv.writer(stream, delimiter=delimiter, lineterminator=newline, quoting=csv.QUOTE_ALL)
    writer.writerows([["image", "label"], *(["a.png", label] for label in labels)])
    if any(labels):
        assert [entry.label for entry in table(root, stream.getvalue())] == [
            text_form(label) for label in labels if label
        ]
    else:
        mistake(table, root, stream.getvalue())


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(COLUMNS, LABELS | st.just(""), min_size=1, max_size=4))
def test_any_table_shape_comes_back_from_jsonl(root, cells):
    text = json.dumps({"image": "a.png"}) + "\n" + json.dumps({"image": "b.PNG", **cells})
    for column, label in cells.items():
        if label:
            (entry,) = table(root, text, name="t.jsonl", label=column)
            assert (entry.path, entry.label, entry.line) == (str(root / "b.PNG"), text_form(label), 2)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=60), st.sampled_from(["t.csv", "t.jsonl"]))
def test_any_bytes_are_read_or_explained(root, content, name):
    (root / name).write_bytes(content)
    mistake(list_table, root / name, "tiles", image="image", label="label")
