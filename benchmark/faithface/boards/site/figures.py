"""Figures that are drawn only when they must be: one whose data and drawing code are the same is read from its page.

Place in the flow: ``pages`` asks :class:`Figures` for the SVG of each chart, ``write`` opens those of the site that
lies there already. Calls ``drawing``, and so matplotlib, for what is new, changed, missing or altered.

    site/assets/figures.json    for each figure the sha256 of what it shows and of its SVG; what drew them

A figure is reused if the file says that the same code drew it from the same data, and its SVG on the table's page has
the sha256 that the file says. Who alters both is found out by ``faithface leaderboard check``, which draws all anew.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from faithface.boards.site import drawing
from faithface.boards.site.charts import Chart

MANIFEST = "assets/figures.json"
END = "</svg>"


@dataclass(frozen=True)
class Drawn:
    """A chart with its SVG element."""

    chart: Chart
    svg: str

    @property
    def title(self) -> str:
        return self.chart.title

    @property
    def caption(self) -> str:
        return self.chart.caption


@dataclass
class Figures:
    """The figures of one site while it is made.

    Attributes:
        folder: of the site that lies there already; None: there is none, or it is not to be used.
        known: by name, the sha256 of what a figure there shows and of its SVG.
        made: the same of the figures that were asked for.
    """

    folder: Path | None = None
    known: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    made: dict[str, tuple[str, str]] = field(default_factory=dict)
    _pages: dict[str, str] = field(default_factory=dict, repr=False)

    def drawn(self, chart: Chart, page: str) -> Drawn:
        """Return a chart with its SVG.

        Args:
            page: on which it lies, if it lies there already.
        """
        shows = chart.digest
        svg = ""
        before = self.known.get(chart.name)
        if before is not None and before[0] == shows:
            svg = self._on_page(page, chart.name)
            svg = svg if _digest(svg) == before[1] else ""
        svg = svg or drawing.draw(chart.shows, chart.name, chart.label)
        self.made[chart.name] = shows, _digest(svg)
        return Drawn(chart, svg)

    def manifest(self) -> bytes:
        """Return the file that says what was made."""
        figures = {name: {"shows": shows, "svg": svg} for name, (shows, svg) in sorted(self.made.items())}
        return (json.dumps({"drawn_by": drawn_by(), "figures": figures}, indent=1) + "\n").encode()

    def _on_page(self, page: str, name: str) -> str:
        """Return the SVG element of a figure as it stands on a page; "" if it does not."""
        if self.folder is None:
            return ""
        if page not in self._pages:
            try:
                self._pages[page] = (self.folder / page).read_bytes().decode("utf-8")
            except (OSError, UnicodeDecodeError):
                self._pages[page] = ""
        text = self._pages[page]
        start = text.find(drawing.opening(name))
        end = text.find(END, start)
        return "" if start < 0 or end < 0 else text[start : end + len(END)]


def open_figures(folder: Path) -> Figures:
    """Return the figures of a site in a folder; none where the manifest is missing, unreadable or of other code."""
    try:
        held = json.loads((folder / MANIFEST).read_bytes())
        if held["drawn_by"] != drawn_by():
            return Figures()
        known = {str(name): (_text(one["shows"]), _text(one["svg"])) for name, one in held["figures"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return Figures()
    return Figures(folder, known)


@functools.cache
def drawn_by() -> dict[str, str]:
    """Return what decides how a figure looks: the drawing code, by sha256, and matplotlib's version."""
    code = Path(drawing.__file__).read_text(encoding="utf-8")
    return {"code": _digest(code), "matplotlib": importlib.metadata.version("matplotlib")}


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError
    return value


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()
