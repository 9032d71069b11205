"""The page of limits against the limits: every one is there, with its value."""

from __future__ import annotations

import re
from pathlib import Path

from faithface import limits
from faithface.limits import readable_size

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "limits.md"


def written(name: str, value: float) -> str:
    return readable_size(value) if name.endswith("_BYTES") else f"{value:,}"


def test_the_page_has_every_limit_with_its_value() -> None:
    own = {name: value for name, value in vars(limits).items() if name.startswith(("MAX_", "INSPECT_"))}
    rows = dict(re.findall(r"^\| `([A-Z_]+)` \| ([^|]+) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {name: text.strip() for name, text in rows.items()} == {name: written(name, v) for name, v in own.items()}


def test_sizes_are_written_for_people() -> None:
    assert [readable_size(n) for n in (0, 1023, 1024, 1536, 5 << 30, 3 << 50)] == [
        *("0 bytes", "1023 bytes", "1 KiB", "1.5 KiB", "5 GiB", "3072 TiB"),
    ]
