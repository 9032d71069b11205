"""Which images are read, and what of: four formats by content, damage named by format, limits before decoding."""

from __future__ import annotations

import io
import os
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface import images, limits
from faithface.errors import UsageError
from faithface.images import decode_image, list_images, read_grey, read_image


def picture(size: tuple[int, int] = (48, 40), seed: int = 0) -> Image.Image:
    coarse = np.random.default_rng(seed).integers(0, 256, (6, 5, 3), dtype=np.uint8)
    return Image.fromarray(coarse).resize(size[::-1])


def encoded(kind: str, image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def png(width: int, height: int, data: bytes) -> bytes:
    """Return a grey 8-bit PNG with the given image data, every checksum right."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")


# --- four formats, by content


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "BMP", "WEBP"])
def test_the_content_decides_and_not_the_name(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(encoded(kind))
    expected = np.asarray(Image.open(io.BytesIO(path.read_bytes())).convert("RGB"), dtype=np.float32) / 255
    assert np.array_equal(read_image(path), expected)


@pytest.mark.parametrize("kind", ["TIFF", "GIF", "PPM", "ICO", "TGA", "PCX", "EPS", "PDF"])
def test_no_other_format_is_decoded_under_any_name(tmp_path: Path, kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "face.png"
    path.write_bytes(encoded(kind))
    monkeypatch.setattr(images.Image, "open", lambda *_a, **_k: pytest.fail("it was handed to Pillow"))
    with pytest.raises(UsageError, match="expected PNG, JPEG, BMP or WebP"):
        read_image(path)


def test_postscript_named_png_starts_no_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ran = tmp_path / "ran"
    program = tmp_path / "bin" / "gs"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\ntouch {ran}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{program.parent}{os.pathsep}{os.environ['PATH']}")
    path = tmp_path / "face.png"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\nshowpage\n%%EOF\n")
    with pytest.raises(UsageError, match="PostScript"):
        read_image(path)
    assert not ran.exists()


@pytest.mark.parametrize(
    ("content", "word"),
    [
        (b"", "empty"),
        (b"version https://git-lfs.github.com/spec/v1\n", "Git LFS"),
        (b"\0\0\0\x18ftypheic", "HEIC"),
        (b"<!DOCTYPE html><html>", "web page"),
        (b"hello", "not an image"),
    ],
)
def test_what_is_not_an_image_is_named_for_what_it_is(tmp_path: Path, content: bytes, word: str) -> None:
    path = tmp_path / "face.jpg"
    path.write_bytes(content)
    with pytest.raises(UsageError, match=word):
        read_image(path)


def test_cmyk_is_what_pillow_makes_of_it() -> None:
    data = encoded("JPEG", picture().convert("CMYK"), quality=95)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"), dtype=np.float32) / 255
    got = decode_image(data, "face")
    assert np.array_equal(got, expected)
    assert np.abs(got - np.asarray(picture(), dtype=np.float32) / 255).mean() < 0.02


# --- damage


@pytest.mark.parametrize("seed", range(4))
def test_a_png_with_one_wrong_byte_anywhere_is_damaged(seed: int) -> None:
    data = encoded("PNG")
    for at in np.random.default_rng(seed).choice(len(data), 60, replace=False):
        wrong = bytearray(data)
        wrong[at] ^= 1 << (at % 8)
        with pytest.raises(UsageError):
            decode_image(bytes(wrong), "face")


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (zlib.compress(bytes(9 * 8))[:-6], "of 72|no end|do not inflate"),  # cut, with a right CRC
        (zlib.compress(bytes(9 * 5)), "45 of 72"),  # whole, but three rows short: Pillow leaves them black
        (zlib.compress(bytes(9 * 8))[:-4] + b"\0\0\0\0", "do not inflate"),  # a wrong Adler-32
    ],
)
def test_a_png_whose_checksums_are_right_must_still_hold_all_its_pixels(data: bytes, word: str) -> None:
    assert decode_image(png(8, 8, zlib.compress(bytes(9 * 8))), "face").shape == (8, 8, 3)
    with pytest.raises(UsageError, match=word):
        decode_image(png(8, 8, data), "face")


def test_an_interlaced_png_of_every_small_size_is_read() -> None:
    # Interlaced files are made by hand, since Pillow writes none: each pass holds the pixels of its grid.
    passes = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
    for height, width in ((1, 1), (3, 5), (8, 8), (9, 2)):
        pixels = np.random.default_rng(height).integers(0, 256, (height, width), dtype=np.uint8)
        rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx] if len(row))
        header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 1)
        data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")
        assert np.array_equal(decode_image(data, "face")[..., 0], pixels.astype(np.float32) / 255)


@pytest.mark.parametrize("progressive", [False, True])
def test_a_jpeg_that_stops_early_or_warns_is_damaged(progressive: bool) -> None:
    data = encoded("JPEG", quality=90, progressive=progressive)
    for cut in (len(data) - 2, len(data) // 2, len(data) * 3 // 4):
        with pytest.raises(UsageError, match="damaged JPEG"):
            decode_image(data[:cut], "face")
    # An end marker amid the data: of a baseline file Pillow says nothing, and fills the rest with grey.
    closed = data[: len(data) * 2 // 3] + b"\xff\xd9" + data[len(data) * 2 // 3 + 2 :]
    if not progressive:
        Image.open(io.BytesIO(closed)).load()
    with pytest.raises(UsageError, match="damaged JPEG"):
        decode_image(closed, "face")


def test_bytes_after_the_end_of_a_jpeg_do_not_matter() -> None:
    data = encoded("JPEG")
    assert np.array_equal(decode_image(data + b"\0" * 100, "face"), decode_image(data, "face"))


@pytest.mark.parametrize("kind", ["BMP", "WEBP"])
def test_a_file_shorter_than_its_header_says_is_damaged(kind: str) -> None:
    data = encoded(kind)
    for cut in (len(data) - 1, len(data) // 2, 30):
        with pytest.raises(UsageError, match="damaged"):
            decode_image(data[:cut], "face")


def test_a_bmp_without_a_size_in_its_header_must_hold_its_rows() -> None:
    data = bytearray(encoded("BMP"))
    data[2:6] = bytes(4)  # some programs leave it out
    assert decode_image(bytes(data), "face").shape == (48, 40, 3)
    with pytest.raises(UsageError, match="rows end"):
        decode_image(bytes(data[:-50]), "face")


# --- limits


def test_a_small_file_of_many_pixels_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    bomb = png(12_000, 12_000, zlib.compress(bytes(1000)))
    monkeypatch.setattr(images, "check_image", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(UsageError, match="12000×12000 pixels; an image may have 50 million"):
        decode_image(bomb, "face")
    with pytest.raises(UsageError, match="pixels; an image may have 50 million"):
        decode_image(png(60_000, 60_000, b""), "face")


def test_the_largest_image_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(images, "MAX_IMAGE_PIXELS", 48 * 40)
    assert decode_image(encoded("PNG"), "face").shape == (48, 40, 3)
    monkeypatch.setattr(images, "MAX_IMAGE_PIXELS", 48 * 40 - 1)
    with pytest.raises(UsageError, match="pixels"):
        decode_image(encoded("PNG"), "face")


def test_a_file_beyond_the_size_limit_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "face.png"
    with path.open("wb") as file:
        file.truncate(limits.MAX_IMAGE_BYTES + 1)  # a hole: no disk is taken
    with pytest.raises(UsageError, match="256 MiB at most"):
        read_image(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_what_is_no_regular_file_is_refused_without_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match="a named pipe"):
        read_image(tmp_path / "pipe.png")
    with pytest.raises(UsageError, match="a folder"):
        read_image(tmp_path)
    with pytest.raises(UsageError, match="a device"):
        read_image(Path("/dev/zero"))
    with socket.socket(socket.AF_UNIX) as listener:
        monkeypatch.chdir(tmp_path)  # the address of a socket is short
        listener.bind("s.png")
        with pytest.raises(UsageError, match="a socket"):
            read_image(Path("s.png"))
    with pytest.raises(UsageError, match="no such image"):
        read_image(tmp_path / "nowhere.png")


# --- grey maps


def test_grey_maps_are_png_of_8_or_16_bits(tmp_path: Path) -> None:
    deep = np.array([[0, 65535], [256, 1]], dtype=np.uint16)
    Image.fromarray(deep).save(tmp_path / "deep.png")
    assert np.allclose(read_grey(tmp_path / "deep.png"), deep / 65535)
    Image.fromarray((deep >> 8).astype(np.uint8)).save(tmp_path / "flat.png")
    assert np.allclose(read_grey(tmp_path / "flat.png"), (deep >> 8) / 255)
    (tmp_path / "map.png").write_bytes(encoded("JPEG"))
    with pytest.raises(UsageError, match="expected a grey PNG"):
        read_grey(tmp_path / "map.png")


# --- listing


def test_hidden_and_system_entries_are_no_images(tmp_path: Path) -> None:
    wanted = ["a.PNG", "b/c.jfif", "b/d.webp"]
    others = ["__MACOSX/a.png", "b/@eaDir/c.jpg/thumb.jpg", ".thumbnails/x.png", "b/._c.jpg", "Thumbs.db", "note.txt"]
    for name in wanted + others:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    (tmp_path / "folder.png").mkdir()
    assert [name for name, _path in list_images(tmp_path)] == wanted


def test_links_to_folders_are_followed_out_of_the_tree_once_and_never_in_a_circle(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other"
    for folder in (root / "a", other):
        folder.mkdir(parents=True)
        (folder / "1.png").write_bytes(b"")
    (root / "a" / "up").symlink_to(root)
    (root / "again").symlink_to(root / "a")
    (root / "b").symlink_to(other)
    (root / "c").symlink_to(other)
    (other / "back").symlink_to(root)
    assert [name.partition("/")[2] for name, _path in list_images(root)] == ["1.png", "1.png"]


def test_the_order_is_that_of_the_paths_as_text(tmp_path: Path) -> None:
    names = ["a-b/1.png", "a/1.png", "a/10.png", "a/2.png", "ä/1.png", "Z/1.png"]
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    assert [name for name, _path in list_images(tmp_path)] == sorted(names)
