"""Read image files as faithface wants them: float32, H×W×3, RGB, in [0, 1].

Place in the flow: called by folder-like datasets when a face is read, and by ``faithface explain``. Imports Pillow,
numpy and ``errors``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from faithface.errors import UsageError

SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".webp"})


def read_image(path: Path) -> np.ndarray:
    """Return a file's pixels as float32 H×W×3 in [0, 1].

    EXIF rotation is applied; greyscale becomes three equal channels; 16-bit is divided by 65535; a transparent
    pixel is laid over black, the fill of a missing pixel elsewhere.

    Raises:
        UsageError: the file is missing, truncated or not an image; the text names it.
    """
    try:
        with Image.open(path) as opened:
            image = ImageOps.exif_transpose(opened)
            if image.mode.startswith("I;16") or image.mode in ("I", "F"):
                return _deep_grey(np.asarray(image))
            if image.mode in ("RGBA", "LA", "PA") or "transparency" in image.info:
                rgba = image.convert("RGBA")
                black = Image.new("RGBA", rgba.size, (0, 0, 0, 255))
                image = Image.alpha_composite(black, rgba)
            pixels = np.asarray(image.convert("RGB"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such image") from None
    except UnidentifiedImageError:
        raise UsageError(f"{path} is not an image; expected PNG, JPEG, BMP or WebP") from None
    except (OSError, SyntaxError, ValueError) as error:
        raise UsageError(f"{path} cannot be read as an image ({error}); it may be truncated") from None
    return pixels.astype(np.float32) / 255


def _deep_grey(values: np.ndarray) -> np.ndarray:
    """Scale greyscale of more than 8 bits: integers by 65535 (the depth of a 16-bit PNG), floats as they are."""
    grey = values.astype(np.float32)
    if values.dtype.kind in "iu":
        grey /= 65535
    return np.repeat(np.clip(grey, 0, 1)[..., None], 3, axis=2)


def list_images(folder: Path) -> list[Path]:
    """Return the image files below a folder (any depth), sorted by their path as text."""
    found = (path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def safe_id(text: str) -> str:
    """Turn a relative path without its suffix into a safe file name: letters, digits, ``._-``; others become ``_``."""
    return "".join(ch if ch.isascii() and (ch.isalnum() or ch in "._-") else "_" for ch in text)
