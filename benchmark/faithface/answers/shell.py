"""What all pages share: templates, pictures as data, signed numbers, and writing.

Place in the flow: below the pages of ``answers``. May call ``errors``, Jinja2 and Pillow.
"""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
from jinja2 import Environment, FileSystemLoader, StrictUndefined
from PIL import Image

from faithface.errors import RunError


def fill_template(name: str, **context: object) -> str:
    """Return a template of this folder, filled in."""
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    return environment.get_template(name).render(**context)


def write_text(out: Path, text: str) -> None:
    """Write a page.

    Raises:
        RunError: the path cannot be written.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text(text, encoding="utf-8")
    except OSError as error:
        raise RunError(f"{out} cannot be written ({error.strerror or error})") from None


def signed(value: float, digits: int = 4) -> str:
    """Return a number with its sign; the minus is the typographic one."""
    return f"{value:+.{digits}f}".replace("-", "−")


def plain(value: float, digits: int = 3) -> str:
    """Return a number without a plus sign; the minus is the typographic one."""
    return f"{value:.{digits}f}".replace("-", "−")


def data_uri(image: np.ndarray) -> str:
    """Return an image H×W×3 in [0, 1] as a PNG that stands in the page itself."""
    buffer = io.BytesIO()
    Image.fromarray((np.clip(image, 0, 1) * 255).round().astype(np.uint8)).save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()
