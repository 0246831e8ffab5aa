import csv
import io
import json
import logging
import os
import re
import unicodedata

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dassl.data.own.cells import OneLabel
from dassl.data.own.listing import _MISSING, Entry, list_folder, list_table, text_form
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
    return [(os.path.relpath(entry.path, root), entry.label, entry.split) for entry in entries]


def table(root, text, encoding="utf-8", name="t.csv", **columns):
    (root / name).write_bytes(text.encode(encoding))
    labels = OneLabel(columns.pop("label", "label"))
    return list_table(root / name, "tiles", **{"image": "image", "labels": labels, **columns})


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


def test_pictures_of_formats_that_are_not_read_are_named(tmp_path, caplog):
    tree(tmp_path, "cat/1.png", "dog/1.jpg", "dog/2.JP2", "cat/3.cr2", "dog/4.CR2", "dog/4.JPG")
    assert len(list_folder(tmp_path, "tiles")) == 3
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "left out 2 pictures of formats that are not read (.cr2, .jp2)" in message


def test_splits_inside_the_class_folders_are_named(tmp_path, caplog):
    tree(tmp_path, *(f"{name}/{split}/1.png" for name in ("cat", "dog") for split in ("Train", "test")))
    assert [entry.split for entry in list_folder(tmp_path, "tiles")] == [""] * 4
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert "hold the folders 'Train', 'test', which are not followed as splits" in message


def test_folders_of_the_splits(tmp_path):
    tree(tmp_path, "Train/cat/1.png", "Train/dog/1.png", "valid/cat/1.png", "test/dog/1.png")
    assert found(list_folder(tmp_path, "tiles"), tmp_path) == [
        ("Train/cat/1.png", "cat", "train"),
        ("Train/dog/1.png", "dog", "train"),
        ("test/dog/1.png", "dog", "test"),
        ("valid/cat/1.png", "cat", "val"),
    ]


@pytest.mark.parametrize("names", [("train", "bus"), ("train",), ("test", "val")])
def test_classes_may_be_called_like_splits(tmp_path, names):
    tree(tmp_path, *(f"{name}/1.png" for name in names))
    assert [entry.label for entry in list_folder(tmp_path, "tiles")] == sorted(names)


def test_links_to_class_folders_are_followed(tmp_path):
    tree(tmp_path, "elsewhere/1.png", "tree/dog/1.png")
    (tmp_path / "tree" / "cat").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    assert [entry.label for entry in list_folder(tmp_path / "tree", "tiles")] == ["cat", "dog"]


def test_links_inside_class_folders_are_followed_once(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    tree(tmp_path, "pool/1.png", "pool/2.png", "t/dog/1.png", "t/cat/1.png")
    (tmp_path / "t/cat/more").symlink_to(tmp_path / "pool", target_is_directory=True)
    (tmp_path / "t/cat/twice").symlink_to(tmp_path / "pool", target_is_directory=True)
    (tmp_path / "t/cat/circle").symlink_to(tmp_path / "t", target_is_directory=True)
    (tmp_path / "pool/self").symlink_to(tmp_path / "pool", target_is_directory=True)
    names = [name for name, *_ in found(list_folder(tmp_path / "t", "tiles"), tmp_path / "t")]
    assert names == ["cat/1.png", "cat/more/1.png", "cat/more/2.png", "dog/1.png"]
    assert "did not follow 3 links to folders that are read anyway" in caplog.text


def test_links_that_became_texts_are_named(tmp_path, caplog):
    tree(tmp_path, "pool/1.png", "t/dog/1.png", "t/cat/1.png", "t/cat/notes")
    (tmp_path / "t/cat/batch2").write_text("../../pool\n")
    (tmp_path / "t/cat/notes").write_text("a/b")
    assert len(list_folder(tmp_path / "t", "tiles")) == 2
    (message,) = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    assert "1 links have become texts" in message and "t/cat/batch2 -> ../../pool" in message


SYSTEM = ["@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "__MACOSX", ".thumbnails", "lost+found"]


@pytest.mark.parametrize("name", SYSTEM)
def test_folders_of_the_system_are_left_out_and_named(tmp_path, caplog, name):
    caplog.set_level(logging.INFO)
    tree(tmp_path, "a/cat/1.png", "a/dog/1.png", f"a/{name}/1.png", f"a/cat/{name}/1.png", f"a/dog/in/{name}/in/1.png")
    tree(tmp_path, "a/cat/._1.png", "a/cat/.DS_Store")
    assert len(list_folder(tmp_path / "a", "tiles")) == 2
    (message,) = caplog.messages
    assert "left out 5 folders and files of the system" in message and name in message
    tree(tmp_path, "p/train/cat/1.png", "p/train/dog/1.png", "p/test/cat/1.png", f"p/{name}/1.png", f"p/test/{name}/1")
    assert len(list_folder(tmp_path / "p", "tiles")) == 3


SPLITS = [("seg_train", "seg_test"), ("training_data", "testing_data"), ("Train Set", "Test Set"), ("train", "holdout")]


@pytest.mark.parametrize("names", [*SPLITS, ("Training", "eval"), ("train", "hold-out"), ("train2017", "val2017")])
def test_splits_under_other_names(tmp_path, names):
    tree(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    entries = list_folder(tmp_path, "tiles")
    assert {entry.label for entry in entries} == {"cat", "dog"}
    assert {entry.split for entry in entries} == {"train", "val" if "val2017" in names else "test"}


@pytest.mark.parametrize(
    "names", [("train", "tset"), ("tarin", "test"), ("Training", "Tseting"), ("train", "vaildate"), ("val", "test")]
)
def test_mistyped_splits_are_refused(tmp_path, names):
    tree(tmp_path, *(f"{name}/{label}/1.png" for name in names for label in ("cat", "dog")))
    message = mistake(list_folder, tmp_path, "tiles")
    assert "which both hold the folders 'cat', 'dog'" in message and "call splits train, val and test" in message
    assert all(f"{name}: NAME" in message for name in names)
    labels = {entry.label for entry in list_folder(tmp_path, "tiles", classes=names)}
    assert labels == set(names)  # who says so has classes of these names


def test_a_mistyped_part_of_loose_pictures(tmp_path):
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", "tset/1.png")
    assert "is 'tset' meant to be 'test'?" in mistake(list_folder, tmp_path, "tiles")


def test_splits_under_names_of_their_own_are_a_warning(tmp_path, caplog):
    tree(tmp_path, *(f"{name}/{label}/1.png" for name in ("known", "probe") for label in ("cat", "dog")))
    assert {entry.label for entry in list_folder(tmp_path, "tiles")} == {"known", "probe"}
    (message,) = caplog.messages
    assert "both hold the folders 'cat', 'dog', are taken for classes; call them train and test" in message
    caplog.clear()
    list_folder(tmp_path, "tiles", classes=("known", "probe"))
    assert not caplog.messages


ORDINARY = [
    ("train/1.png", "van/1.png", "bus/1.png"),
    ("best/1.png", "worst/1.png"),
    ("eval/1.png", "other/1.png"),
    ("train/steam/1.png", "train/diesel/1.png", "bus/1.png"),
    ("test/a/1.png", "rest/1.png"),
    ("ok/monday/1.png", "ok/friday/1.png", "chip/monday/1.png", "chip/sunday/1.png"),
]


@pytest.mark.parametrize("names", ORDINARY)
def test_ordinary_classes_that_sound_like_splits(tmp_path, names, caplog):
    tree(tmp_path, *names)
    assert {entry.label for entry in list_folder(tmp_path, "tiles")} == {name.split("/")[0] for name in names}
    assert not caplog.messages


def test_a_part_of_loose_pictures(tmp_path, caplog):
    tree(tmp_path, "train/cat/1.png", "train/dog/1.png", *(f"test/{number}.png" for number in range(5)))
    message = mistake(list_folder, tmp_path, "tiles")
    assert f"the 5 images in {tmp_path}/test lie in no class folder" in message and "move 'test' away" in message
    tree(tmp_path, "test/cat/1.png")
    assert len(list_folder(tmp_path, "tiles")) == 3
    (message,) = caplog.messages
    assert "left out 5 images that lie in no class folder" in message


def test_one_class_in_two_normal_forms(tmp_path):
    """A folder from a Mac beside one from Linux."""
    composed, decomposed = "caf\u00e9", "cafe\u0301"
    tree(tmp_path, f"{composed}/1.png", f"{decomposed}/2.png", "tea/1.png")
    if len(list(tmp_path.iterdir())) < 3:
        pytest.skip("this file system has one form only")
    assert [entry.label for entry in list_folder(tmp_path, "tiles")].count(composed) == 2


def test_mistakes_in_folders(tmp_path):
    tree(tmp_path, "mugs/ok/1.png", "mugs/chip/readme.txt")
    assert "did you mean 'mugs'?" in mistake(list_folder, tmp_path / "mug", "tiles")
    assert "holds no 'zzz'; check the path" in mistake(list_folder, tmp_path / "zzz" / "deeper", "tiles")
    message = mistake(list_folder, tmp_path / "mugs", "tiles")
    assert "class folder 'chip'" in message and ".jpg" in message and "move the folder away" in message
    tree(tmp_path, "splits/train/ok/1.png", "splits/test/ok/1.png")
    (tmp_path / "splits" / "test" / "chip").mkdir()
    assert "class folder 'chip'" in mistake(list_folder, tmp_path / "splits", "tiles")
    assert f"'{tmp_path}/mugs/ok/1.png' is no folder" in mistake(list_folder, tmp_path / "mugs/ok/1.png", "tiles")


@pytest.mark.parametrize("names", [("1.png",), (".hidden/1.png",), ("train/1.png", "test/2.png")])
def test_pictures_without_a_class_folder(tmp_path, names):
    tree(tmp_path, *names)
    assert "holds no class folder; put the images of each class" in mistake(list_folder, tmp_path, "tiles")


@pytest.mark.parametrize(("names", "odd"), [(("train", "Test", "bus"), "bus"), (("val", "train", "valid"), "val")])
def test_a_folder_beside_those_of_the_splits(tmp_path, names, odd):
    tree(tmp_path, *(f"{name}/ok/1.png" for name in names))
    message = mistake(list_folder, tmp_path, "tiles")
    assert f"{odd!r} does not belong to that" in message and message.endswith("; move or rename it")


def test_a_folder_of_something_else_beside_the_splits_is_left_out_and_named(tmp_path, caplog):
    caplog.set_level(logging.WARNING)
    tree(tmp_path, "train/ok/1.png", "test/ok/2.png", "notes/old/3.png", "notes/4.png")
    assert {entry.split for entry in list_folder(tmp_path, "tiles")} == {"train", "test"}
    (message,) = caplog.messages
    assert "left out 1 folders beside train, val and test" in message and message.count("'notes'") == 1
    tree(tmp_path, "more/ok/5.png")  # the class folders again: a split under an unknown name
    assert "'more' does not belong to that" in mistake(list_folder, tmp_path, "tiles")


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
    text = "file,colour,split\n./deep/../a.png,red,Validation\nb.PNG,blue,\n"
    entries = table(root, text, name="deep/t.tsv", image="file", label="colour", split="split", images=root)
    assert found(entries, root) == [("a.png", "red", "val"), ("b.PNG", "blue", "")]


def test_paths_with_backslashes(root):
    tree(root, "deep/er/c.jpg")
    (entry,) = table(root, "image,label\ndeep\\er\\c.jpg,x\n")
    assert entry.path == str(root / "deep" / "er" / "c.jpg")


@pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC"), ("NFC", "NFC")])
def test_paths_in_another_normal_form(root, forms):
    there, spelt = (unicodedata.normalize(form, "gr\u00fcn/\u00e9t\u00e9.png") for form in forms)
    tree(root, there)
    (entry,) = table(root, f"image,label\n{spelt},\u00e9\n")
    assert entry.path == str(root / there)


@pytest.mark.parametrize("line", ["sep=;", '"sep=;"', "SEP=;", "sep=;;", "\n\nsep=;"])
def test_a_line_that_names_the_delimiter(root, line):
    (entry,) = table(root, f"{line}\r\nimage;label\r\na.png;x,y\r\n", "utf-8-sig")
    assert (entry.label, entry.line) == ("x,y", line.count("\n") + 3)


def test_a_delimiter_that_is_named(root):
    assert table(root, "sep=^\nimage^label\na.png^x;y,z\n")[0].label == "x;y,z"
    assert table(root, "sep=\t\nimage\tlabel\na.png\tx\n")[0].label == "x"


@pytest.mark.parametrize("label", ["nan", "NaN", "N/A", "null", "NA", "#N/A"])
def test_labels_that_look_like_missing_values(root, label):
    message = mistake(table, root, f"image,label\na.png,x\nb.PNG,{label}\n")
    assert f"line 3: label {label!r} looks like a missing value; empty the cell" in message
    (remedy,) = re.findall(r"classes: (.*)", message)
    assert yaml.safe_load(remedy) == {label: "NAME"}
    assert table(root, f"image,label\na.png,x\nb.PNG,{label}\n", classes=(label,))[1].label == label


@pytest.mark.parametrize(("cell", "split"), [("Training Set", "train"), ("eval", "test"), ("VALIDATE", "val")])
def test_splits_in_tables_have_many_names(root, cell, split):
    assert table(root, f"image,label,split\na.png,x,{cell}\n")[0].split == split


@pytest.mark.parametrize(
    ("text", "options", "words"),
    [
        ("image,colour\na.png,x\n", {"label": "color"}, ["no column 'color'", "did you mean 'colour'?"]),
        ("a,b\nc,d\n", {}, ["no column 'image'", "it has 'a', 'b'"]),
        ("image,label\na.png,x\n", {"split": "split"}, ["no column 'split'"]),
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
        ("image,label,split\na.png,x,tset\n", {}, ["line 2", "unknown split 'tset'", "did you mean 'test'?"]),
        ("image,label,split\na.png,x,42\n", {}, ["unknown split '42'", "train, val or test"]),
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
    assert "not UTF-16" in mistake(list_table, root / "t.csv", "tiles", image="image", labels=OneLabel("label"))
    assert "did you mean 't.csv'?" in mistake(
        list_table, root / "tt.csv", "tiles", image="image", labels=OneLabel("label")
    )


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
    mistake(list_table, root / name, "tiles", image="image", labels=OneLabel("label"))
