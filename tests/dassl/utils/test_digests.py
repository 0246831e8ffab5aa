import io
import json
import zipfile

import pytest
import torch

from dassl.utils.digests import (
    TAIL_BYTES,
    ChangedError,
    hex_digest,
    is_signed_zip,
    is_whole_text,
    is_whole_zip,
    sign_text,
    sign_zip,
)
from dassl.utils.files import read_json, write_json


def saved(value, *, signed=False):
    buffer = io.BytesIO()
    torch.save(value, buffer)
    if signed:
        sign_zip(buffer)
    return buffer.getvalue()


@pytest.mark.parametrize("indent", [None, 2])
@pytest.mark.parametrize("value", [{"a": 1}, {"a": {}, "b": [1, {"c": "ü"}]}])
def test_a_signed_text_is_the_same_object_and_its_digest(value, indent):
    text = sign_text(json.dumps(value, indent=indent) + "\n")
    assert list(json.loads(text)) == [*value, "blake2b"]
    assert {**value, "blake2b": json.loads(text)["blake2b"]} == json.loads(text)
    assert is_whole_text(text.encode())
    assert text.count("\n") >= 3 and text.endswith('"\n}\n')


def test_what_the_digest_is_that_of(tmp_path):
    """So that others can check it: BLAKE2b of 32 bytes, over all that stands before the entry."""
    write_json(tmp_path / "file", {"a": 1}, signed=True)
    head, _, tail = (tmp_path / "file").read_text().partition(',\n  "blake2b": ')
    assert json.loads(tail.removesuffix("}\n")) == hex_digest(head.encode())
    assert hex_digest(b"") == "0e5751c026e543b2e8ab2eb06099daa1d1e5df47778f7787faab45cdf12fe3a8"


@pytest.mark.parametrize("text", ["", "{}", '{"a": 1}\n', "[1]", '{"test": [["a", 0, "x"]]}'])
def test_a_text_without_a_digest_is_whole(text):
    assert is_whole_text(text.encode())


def test_a_digest_that_is_itself_damaged_does_not_make_a_file_an_old_one():
    text = sign_text('{"a": 1}')
    for place in range(text.index(",\n"), len(text)):
        assert not is_whole_text((text[:place] + "#" + text[place + 1 :]).encode())
    assert not is_whole_text(text.replace("blake2b", "BLAKE2B").encode())


def test_a_changed_file_is_named(tmp_path):
    path = tmp_path / "file.json"
    write_json(path, {"a": 1}, signed=True)
    assert read_json(path) == {"a": 1}
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))  # as git may write it
    assert read_json(path) == {"a": 1}
    path.write_text(path.read_text().replace("1", "2", 1))
    with pytest.raises(ChangedError, match=r"^\S*file.json was changed or damaged after it was written"):
        read_json(path)


def test_a_signed_archive_is_one_for_every_reader(tmp_path):
    content = saved({"a": torch.arange(3), "b": 1}, signed=True)
    assert is_signed_zip(content[-TAIL_BYTES:]) and is_whole_zip(content)
    (tmp_path / "file").write_bytes(content)
    for options in ({}, {"mmap": True}):
        assert torch.load(tmp_path / "file", weights_only=True, **options)["a"].tolist() == [0, 1, 2]
    assert zipfile.ZipFile(tmp_path / "file").comment.startswith(b"softcpt blake2b ")


def test_an_archive_without_a_digest_is_told_from_one_with_a_damaged_one():
    plain = saved({"a": 1})
    assert not is_signed_zip(plain[-TAIL_BYTES:]) and not is_signed_zip(b"") and not is_signed_zip(b"PK\x05\x06")
    content = saved({"a": 1}, signed=True)
    for place in range(len(content) - TAIL_BYTES, len(content)):
        damaged = content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]
        assert is_signed_zip(damaged[-TAIL_BYTES:]) and not is_whole_zip(damaged)
