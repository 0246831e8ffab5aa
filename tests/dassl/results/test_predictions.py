"""predictions.csv: written whole, read with suspicion."""

import dataclasses
import hashlib
import tempfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dassl.results import predictions
from dassl.results.predictions import PREDICTIONS_FILE, PredictedImage, read_predictions, write_predictions
from dassl.results.record import PredictionsFile, write_results
from dassl.utils.digests import ChangedError
from dassl.utils.errors import UserError
from dassl.utils.texts import printable
from tests.dassl.results.samples import make_result

ROWS = [
    PredictedImage("pets/1.png", "animal", "cat", "dog", 0.25, 0.5),
    PredictedImage("pets/1.png", "texture", "=fur", "", None, None),
]
HEADER = "image,task,true_class,predicted_class,true_probability,predicted_probability"
texts = st.text(st.characters(exclude_characters="\n\t"), max_size=12)
probabilities = st.none() | st.floats(0, 1)


def written(folder, rows=ROWS):
    """A run folder with these predictions."""
    said = write_predictions(folder / PREDICTIONS_FILE, rows)
    write_results(folder, make_result(predictions=said))
    return folder / PREDICTIONS_FILE


def replaced(folder, text, rows):
    """A run folder whose result vouches for any text."""
    content = text.encode()
    (folder / PREDICTIONS_FILE).write_bytes(content)
    said = PredictionsFile(PREDICTIONS_FILE, hashlib.sha256(content).hexdigest(), rows)
    write_results(folder, make_result(predictions=said))


def test_the_file_has_a_row_for_each_image_and_task(tmp_path):
    path = written(tmp_path)
    assert path.read_text() == (f"{HEADER}\npets/1.png,animal,cat,dog,0.25,0.5\npets/1.png,texture,'=fur,,,\n")
    assert read_predictions(tmp_path) == ROWS


@given(st.lists(st.builds(PredictedImage, texts, texts, texts, texts, probabilities, probabilities), max_size=5))
def test_what_is_written_is_read(rows):
    rows = [row for row in rows if not any(str(cell).startswith("'") for cell in row)]
    with tempfile.TemporaryDirectory() as folder:
        written(predictions.Path(folder), rows)
        shown = [
            row._replace(**{name: printable(getattr(row, name)) for name in PredictedImage._fields[:4]}) for row in rows
        ]
        found = read_predictions(folder)
        assert [row[:4] for row in found] == [row[:4] for row in shown]
        for mine, theirs in zip(found, shown, strict=True):
            assert [p if p is None else pytest.approx(p, rel=1e-5) for p in theirs[4:]] == list(mine[4:])


def test_many_rows_are_one_table(tmp_path, monkeypatch):
    monkeypatch.setattr(predictions, "_CHUNK", 3)
    for count in (0, 2, 3, 7):
        rows = [ROWS[0]._replace(image=f"{number}.png") for number in range(count)]
        assert written(tmp_path, rows).read_text().count(HEADER) == 1
        assert read_predictions(tmp_path) == rows


def test_the_file_of_another_evaluation_is_noticed(tmp_path):
    path = written(tmp_path)
    write_predictions(path, ROWS[:1])
    with pytest.raises(ChangedError, match=r"does not belong to results\.json; evaluate the run again"):
        read_predictions(tmp_path)


def test_an_older_run_says_what_to_do(tmp_path):
    write_results(tmp_path, make_result())
    with pytest.raises(UserError, match=r"names no predictions\.csv, which older .* --eval-only"):
        read_predictions(tmp_path)


def test_a_file_that_is_gone(tmp_path):
    written(tmp_path).unlink()
    with pytest.raises(UserError, match=r"predictions\.csv does not exist"):
        read_predictions(tmp_path)


@pytest.mark.parametrize("name", ["../predictions.csv", "config.yaml", "/etc/passwd"])
def test_a_result_may_not_name_any_file(tmp_path, name):
    said = dataclasses.replace(write_predictions(tmp_path / PREDICTIONS_FILE, ROWS), file=name)
    write_results(tmp_path, make_result(predictions=said))
    with pytest.raises(UserError, match=r"as its predictions\.csv"):
        read_predictions(tmp_path)


def test_a_huge_file_is_not_read(tmp_path, monkeypatch):
    written(tmp_path)
    monkeypatch.setattr(predictions, "MAX_BYTES", 1 << 4)
    with pytest.raises(UserError, match="was not read"):
        read_predictions(tmp_path)


@pytest.mark.parametrize(
    ("text", "rows", "words"),
    [
        ("", 0, "its columns are not image,task"),
        ("image,task\n", 0, "its columns are not image,task"),
        (f"{HEADER}\na,b,c\n", 1, "a row has 3 cells"),
        (f"{HEADER}\na,b,c,d,x,0.5\n", 1, "could not convert"),
        (f"{HEADER}\na,b,c,d,nan,0.5\n", 1, "nan is no probability"),
        (f"{HEADER}\na,b,c,d,0.5,2\n", 1, "2 is no probability"),
        (f"{HEADER}\na,b,c,d,0.5,0.5\n", 2, "it has 1 rows, and results.json says 2"),
        (f'{HEADER}\n"a,b\n', 1, "unexpected end of data"),
    ],
)
def test_odd_content_is_one_line(tmp_path, text, rows, words):
    replaced(tmp_path, text, rows)
    with pytest.raises(UserError, match=words) as caught:
        read_predictions(tmp_path)
    assert "\n" not in str(caught.value)
