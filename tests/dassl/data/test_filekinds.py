import struct

import pytest
from PIL import Image

from dassl.data.filekinds import kind_of_file
from dassl.data.images import read_image
from dassl.utils.errors import UserError

LFS = b"version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FILES = {
    "Git LFS pointer": (LFS, "git lfs pull"),
    "git-annex": (b"/annex/objects/MD5E-s5--abc.jpg\n", "git annex get"),
    "DVC pointer": (b"outs:\n- md5: 8a\n  path: a.jpg\n", "dvc pull"),
    "a web page": (b"<!DOCTYPE html>\n<html><head><title>Sign in</title>", "download the picture itself"),
    "an XML text": (b'<?xml version="1.0"?><Error><Code>AccessDenied</Code></Error>', "download"),
    "a JSON text": (b'{"error": "quota"}', "download"),
    "an SVG drawing": (b'<?xml version="1.0"?>\n<svg xmlns="http://www.w3.org/2000/svg"/>', "save it as PNG"),
    "a text": ("Bild folgt: caf\u00e9 ".encode() * 100, "replace or remove it"),
    "an empty file": (b"", "replace or remove it"),
    "only zero bytes": (bytes(5000), "download it again"),
    "cloud drive": (b"bplist00\xd4\x01\x02", "download"),
    "HEIC": (struct.pack(">I", 24) + b"ftypheic\0\0\0\0mif1heic" + bytes(99), "pip install pillow-heif"),
    "JPEG XL": (b"\xff\x0a\x00\x10" + bytes(99), "pip install pillow-jxl-plugin"),
    "a video": (struct.pack(">I", 24) + b"ftypisom\0\0\2\0isomiso2" + bytes(99), "save its frames"),
    "a PDF file": (b"%PDF-1.7\n%\xe2\xe3", "save its pages"),
    "a ZIP archive": (b"PK\x03\x04\x14\0\0\0", "unpack it"),
    "a TIFF file": (b"II*\0\x08\0\0\0\0\0", "save it"),
    "a damaged or cut-off picture": (b"\x89PNG\r\n\x1a\nwhat is this", "replace or remove it"),
    "not an image": (b"\x01\x02\xfe\xff" * 30, "replace or remove it"),
}


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")
@pytest.mark.parametrize("kind", FILES)
def test_what_lies_in_the_place_of_a_picture_is_named_with_the_remedy(tmp_path, kind):
    content, remedy = FILES[kind]
    path = tmp_path / "cat.jpg"
    path.write_bytes(content)
    with pytest.raises(UserError) as caught:
        read_image(path)
    message = str(caught.value)
    assert message.startswith(f"cannot read image {path}: ") and kind in message and remedy in message
    assert "\n" not in message


def test_pages_and_texts_in_the_encodings_of_windows(tmp_path):
    path = tmp_path / "cat.jpg"
    for encoding in ("utf-8-sig", "utf-16"):
        path.write_bytes("  <HTML><body>Anmeldung f\u00fcr G\u00e4ste</body>".encode(encoding))
        assert kind_of_file(path).startswith("a web page;")


def test_links_folders_and_missing_files(tmp_path):
    (tmp_path / "link.jpg").symlink_to(tmp_path / "gone.jpg")
    (tmp_path / "folder.jpg").mkdir()
    for name, reason in (
        ("link.jpg", "a link to a missing file; restore that file or remove the link"),
        ("gone.jpg", "No such file or directory; replace or remove it"),
        ("folder.jpg", "Is a directory; replace or remove it"),
    ):
        with pytest.raises(UserError, match=f"^cannot read image {tmp_path / name}: {reason}$"):
            read_image(tmp_path / name)


def test_a_picture_under_a_foreign_ending_is_a_picture(tmp_path):
    Image.new("RGB", (5, 4), "red").save(tmp_path / "a.webp")
    (tmp_path / "a.webp").rename(tmp_path / "a.jpg")
    assert read_image(tmp_path / "a.jpg").size == (5, 4)
