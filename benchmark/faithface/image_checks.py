"""Distinguish image formats by content, and find damage that decoders ignore.

Place in the flow: called by ``images`` before a file is decoded. Imports simplejpeg, numpy and ``limits``; opens no
file.

What is checked, by format:

* **PNG** (W3C PNG, section 5): every chunk's length and CRC, one header, the end chunk; and that the image data inflate
  to the size in the header, with a correct Adler-32.
* **JPEG**: libjpeg decodes all data without one warning (at 1/8 size, which still reads every bit), and the
  end-of-image marker is there. Pillow does not show libjpeg's warnings.
* **BMP**: the file is as long as its header says, and holds all rows.
* **WebP** (RIFF): the file is as long as its header says, and chunks fill it.
"""

from __future__ import annotations

import struct
import zlib

import simplejpeg

from faithface.limits import MAX_IMAGE_PIXELS

FORMATS = ("PNG", "JPEG", "BMP", "WEBP")
_PNG = b"\x89PNG\r\n\x1a\n"
_OTHERS = (
    (b"%!PS", "PostScript"),
    (b"\xc5\xd0\xd3\xc6", "PostScript"),
    (b"%PDF", "PDF"),
    (b"GIF8", "GIF"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"\xff\x0a", "JPEG XL"),
    (b"\0\0\0\x0cJXL ", "JPEG XL"),
    (b"\0\0\0\x0cjP  ", "JPEG 2000"),
    (b"8BPS", "Photoshop"),
    (b"P5", "PGM"),
    (b"P6", "PPM"),
    (b"<svg", "SVG"),
    (b"<?xml", "XML"),
    (b"<!DOCTYPE", "a web page"),
    (b"<html", "a web page"),
    (b"version https://git-lfs", "a Git LFS pointer (the image itself was not fetched)"),
)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}
_CHUNK = 1 << 20


class Damaged(Exception):
    """An image file is damaged; the text gives the reason."""


def sniff(data: bytes) -> tuple[str, str]:
    """Return (format, "") by the first bytes: one of :data:`FORMATS`; or ("", what else it is, as far as known)."""
    if data.startswith(_PNG):
        return "PNG", ""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG", ""
    if data.startswith(b"BM"):
        return "BMP", ""
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return "WEBP", ""
    if not data:
        return "", "empty"
    if data[4:8] == b"ftyp":
        return "", {b"avif": "AVIF", b"avis": "AVIF"}.get(data[8:12], "HEIC or a video")
    return "", next((name for start, name in _OTHERS if data.startswith(start)), "")


def check_image(kind: str, data: bytes) -> None:
    """Raise :class:`Damaged` where a file of a format (one of :data:`FORMATS`) is truncated or fails its checksums."""
    {"PNG": _check_png, "JPEG": _check_jpeg, "BMP": _check_bmp, "WEBP": _check_webp}[kind](data)


def _check_png(data: bytes) -> None:
    view, at = memoryview(data), len(_PNG)
    header: tuple[int, ...] | None = None
    parts: list[memoryview] = []
    while True:
        if at + 12 > len(data):
            raise Damaged("truncated: no end chunk")
        (length,) = struct.unpack_from(">I", data, at)
        name, end = data[at + 4 : at + 8], at + 12 + length
        if end > len(data):
            raise Damaged("truncated within a chunk")
        if zlib.crc32(view[at + 4 : end - 4]) != struct.unpack_from(">I", data, end - 4)[0]:
            raise Damaged(f"chunk {name.decode('latin-1')!a} fails its checksum")
        if name == b"IHDR":
            if header is not None or length != 13:
                raise Damaged("a second or malformed header")
            header = struct.unpack_from(">IIBBBBB", data, at + 8)
        elif name == b"IDAT":
            parts.append(view[at + 8 : end - 4])
        elif name == b"IEND":
            break
        at = end
    if header is None:
        raise Damaged("no header")
    _check_png_pixels(header, parts)


def _check_png_pixels(header: tuple[int, ...], parts: list[memoryview]) -> None:
    width, height, depth, color, _, _, interlace = header
    if color not in _CHANNELS:
        raise Damaged(f"colour type {color}")
    passes = _ADAM7 if interlace else ((0, 0, 1, 1),)
    expected = 0
    for x, y, dx, dy in passes:
        columns, rows = -(-(width - x) // dx), -(-(height - y) // dy)
        if columns > 0 and rows > 0:
            expected += rows * (1 + -(-columns * depth * _CHANNELS[color] // 8))
    if expected > 8 * MAX_IMAGE_PIXELS + height:
        raise Damaged(f"its header says {width}×{height} pixels")
    inflate, got = zlib.decompressobj(), 0
    try:
        for part in parts:
            rest: bytes | memoryview = part
            while rest and got <= expected:
                got += len(inflate.decompress(rest, _CHUNK))
                rest = inflate.unconsumed_tail
        while not inflate.eof and got <= expected:
            more = len(inflate.decompress(inflate.unconsumed_tail, _CHUNK))
            if not more:
                break
            got += more
    except zlib.error as error:
        raise Damaged(f"its pixels do not inflate: {error}") from None
    if got < expected or not inflate.eof:
        raise Damaged(f"pixels for {got} of {expected} bytes" if got != expected else "its pixels have no end")


def _check_jpeg(data: bytes) -> None:
    # The smallest scale: every coefficient is still read from the file, but few pixels are made of them.
    try:
        height, width, space, _ = simplejpeg.decode_jpeg_header(data)
        if height * width > MAX_IMAGE_PIXELS:
            raise Damaged(f"its header says {width}×{height} pixels")
        target = "CMYK" if space in ("CMYK", "YCCK") else "GRAY"
        simplejpeg.decode_jpeg(data, target, min_height=1, min_width=1, min_factor=1, strict=True)
    except ValueError as error:
        raise Damaged(f"libjpeg: {error}") from None


def _check_bmp(data: bytes) -> None:
    if len(data) < 26:
        raise Damaged("truncated within its header")
    size, _, offset, header = struct.unpack_from("<IIII", data, 2)
    if size > len(data):
        raise Damaged(f"truncated: {len(data)} of {size} bytes")
    compression = 0
    if header == 12:
        width, height, _, bits = struct.unpack_from("<HHHH", data, 18)
    elif len(data) < 54:
        raise Damaged("truncated within its header")
    else:
        width, height, _, bits, compression = struct.unpack_from("<iiHHI", data, 18)
    if compression in (0, 3):
        needed = offset + -(-width * bits // 32) * 4 * abs(height)
        if width < 1 or needed > len(data):
            raise Damaged(f"truncated: rows end at byte {needed} of {len(data)}")
    elif data[-2:] != b"\0\1" and b"\0\1" not in data[offset:]:
        raise Damaged("truncated: no end of its run-length code")


def _check_webp(data: bytes) -> None:
    (size,) = struct.unpack_from("<I", data, 4)
    end = size + 8
    if end > len(data):
        raise Damaged(f"truncated: {len(data)} of {end} bytes")
    at, names = 12, []
    while at < end:
        if at + 8 > end:
            raise Damaged("bytes after its last chunk")
        names.append(data[at : at + 4])
        (length,) = struct.unpack_from("<I", data, at + 4)
        at += 8 + length + length % 2
    if at != end and at != end + 1:
        raise Damaged("its chunks do not fit its size")
    if not {b"VP8 ", b"VP8L", b"ANMF"} & set(names):
        raise Damaged("it holds no picture")
