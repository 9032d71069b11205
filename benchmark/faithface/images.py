"""Read image files as faithface needs them: float32, H×W×3, RGB, in [0, 1].

Place in the flow: the only place that decodes images: called by datasets when a face is read, by ``maps:DIR`` and by
``faithface explain``. Imports Pillow, simplejpeg, numpy, ``files``, ``limits`` and ``errors``.

Four formats are decoded: PNG, JPEG, BMP and WebP, recognised by their first bytes and never by their name. Pillow knows
some forty more, and one of them starts another program; they are disabled. A file is checked before it is
decoded (``image_checks``): a decoder fills what is missing from a damaged file with grey or with the wrong pixels.
"""

from __future__ import annotations

import io
import os
import warnings
from collections.abc import Collection, Iterator
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from faithface.errors import UsageError
from faithface.files import read_file
from faithface.image_checks import FORMATS, Damaged, check_image, sniff
from faithface.limits import MAX_IMAGE_BYTES, MAX_IMAGE_PIXELS

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".bmp", ".webp"})
OTHER_SUFFIXES = frozenset(
    {".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".pgm", ".ppm", ".pnm", ".tga", ".ico"}
    | {".dng", ".cr2", ".nef", ".arw", ".psd", ".svg", ".eps"}
)
"""Suffixes of images that are not read, so that they can be named."""

SYSTEM_FOLDERS = frozenset(
    {"__MACOSX", "@eaDir", "#recycle", "$RECYCLE.BIN", "System Volume Information", "lost+found"}
)
SYSTEM_FILES = frozenset({"thumbs.db", "ehthumbs.db", "desktop.ini"})


def read_image(path: Path) -> np.ndarray:
    """Return a file's pixels as float32 H×W×3 in [0, 1].

    EXIF rotation is applied; greyscale becomes three equal channels; 16-bit is divided by 65535; CMYK is converted as
    Pillow does; a transparent pixel is composited over black, the fill of a missing pixel elsewhere.

    Raises:
        UsageError: the file is missing, not a regular file, too large, damaged, or none of the four formats; the text
            names it.
    """
    return decode_image(read_file(path, MAX_IMAGE_BYTES, "image"), str(path))


def decode_image(data: bytes, what: str) -> np.ndarray:
    """As :func:`read_image`, from the bytes of a file; ``what`` names it in errors."""
    image = _decoded(data, what, FORMATS)
    if _is_deep(image):
        return np.repeat(_deep_grey(image)[..., None], 3, axis=2)
    if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
        rgba = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", rgba.size, (0, 0, 0, 255)), rgba)
    pixels = np.asarray(image.convert("RGB")).astype(np.float32)
    pixels /= 255
    return pixels


def read_grey(path: Path) -> np.ndarray:
    """Return a grey PNG of 8 or 16 bits as float32 H×W in [0, 1]; a colour PNG becomes grey first.

    Raises:
        UsageError: as for :func:`read_image`, or the file is not a PNG.
    """
    image = _decoded(read_file(path, MAX_IMAGE_BYTES, "grey PNG"), str(path), ("PNG",))
    if _is_deep(image):
        return _deep_grey(image)
    return np.asarray(image.convert("L"), dtype=np.float32) / np.float32(255)


def _decoded(data: bytes, what: str, formats: Collection[str]) -> Image.Image:
    """Check and decode an image, turned as its EXIF entry says."""
    kind, name = sniff(data)
    wanted = "PNG, JPEG, BMP or WebP" if len(formats) > 1 else "a grey PNG"
    if kind not in formats:
        raise UsageError(f"{what} is {name or 'not an image'}; expected {wanted}")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's own warning of large images, and of odd metadata
            with Image.open(io.BytesIO(data), formats=[kind]) as opened:
                width, height = opened.size
                if width * height > MAX_IMAGE_PIXELS:
                    raise UsageError(
                        f"{what} has {width}×{height} pixels; an image may have {MAX_IMAGE_PIXELS // 10**6} million"
                    )
                check_image(kind, data)
                opened.load()
                return ImageOps.exif_transpose(opened)
    except UsageError:
        raise
    except Damaged as error:
        raise _damaged(what, kind, error) from None
    except Image.DecompressionBombError:
        raise UsageError(f"{what} has too many pixels; an image may have {MAX_IMAGE_PIXELS // 10**6} million") from None
    except Exception as error:  # decoders raise unrelated classes on damaged files
        try:
            check_image(kind, data)  # Pillow did not get beyond the header; the checks describe the damage better
        except Damaged as damage:
            raise _damaged(what, kind, damage) from None
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise UsageError(f"{what} cannot be read as an image ({lines[0][:200]}); it may be truncated") from None


def _damaged(what: str, kind: str, error: Damaged) -> UsageError:
    return UsageError(f"{what} is a damaged {kind} file ({error}); copy it again or remove it")


def _is_deep(image: Image.Image) -> bool:
    return image.mode.startswith("I")


def _deep_grey(image: Image.Image) -> np.ndarray:
    """Return greyscale of 16 bits as float32 H×W in [0, 1]."""
    return np.clip(np.asarray(image).astype(np.float32) / 65535, 0, 1)


# --- which files of a folder are images


def is_system_name(name: str) -> bool:
    """Say whether a file or folder is the system's rather than the user's: hidden, a thumbnail store, an index."""
    return name.startswith(".") or name in SYSTEM_FOLDERS or name.lower() in SYSTEM_FILES


def list_images(folder: Path, suffixes: Collection[str] = SUFFIXES) -> list[tuple[str, Path]]:
    """Return (path relative to the folder, with slashes; path) of the image files below it, at any depth, sorted.

    Hidden and system entries are skipped (:func:`is_system_name`). Links to files are followed, links to folders
    where they lead out of the tree (what they lead to inside it is found anyway). Linear in the number of entries.

    Raises:
        UsageError: a folder of the tree cannot be read.
    """
    base = os.fspath(folder)
    start = len(os.path.join(base, ""))
    found = sorted((path[start:].replace(os.sep, "/"), path) for path in _walk(base, suffixes))
    return [(name, Path(path)) for name, path in found]


def _walk(base: str, suffixes: Collection[str]) -> Iterator[str]:
    """Yield the paths of files with one of the suffixes; without recursion, however deep the tree is."""
    root = Path(os.path.realpath(base))
    followed: set[str] = set()
    stack = [base]
    while stack:
        folder = stack.pop()
        try:
            entries = list(os.scandir(folder))
        except OSError as error:
            raise UsageError(f"{folder} cannot be read ({error.strerror})") from None
        for entry in entries:
            if is_system_name(entry.name):
                continue
            if entry.is_dir():
                if entry.is_symlink():
                    real = os.path.realpath(entry.path)
                    # A link to a parent folder would loop forever.
                    if real in followed or Path(real).is_relative_to(root) or root.is_relative_to(real):
                        continue
                    followed.add(real)
                stack.append(entry.path)
            elif os.path.splitext(entry.name)[1].lower() in suffixes and entry.is_file():
                yield entry.path
