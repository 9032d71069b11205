"""Write what the published boards say into README files and pages: ``python -m docs.tools.board_pages``.

Place in the flow: ``tox -e boards`` calls it after the boards are checked, so that a figure that is out of date shows
as a difference; a test holds every page against :func:`written`. Calls ``board_blocks``; reads records, runs no
network.

A block stands between two marks. Nothing is written outside of blocks, and no figure of a board is typed by hand:

    <!-- figures: NAME -->
    …
    <!-- figures end -->
"""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path

from docs.tools.board_blocks import BLOCKS
from docs.tools.board_figures import ROOT

PAGES = (
    ROOT / "README.md",
    ROOT / "leaderboards" / "README.md",
    ROOT / "docs" / "explanation" / "findings.md",
    *(ROOT / "docs" / "explanation" / "papers" / f"{name}.md" for name in ("ensemble-cam", "fggb", "explain-to-me")),
)
_BLOCK = re.compile(r"<!-- figures: ([\w-]+) -->\n.*?<!-- figures end -->", re.DOTALL)


def written(text: str) -> str:
    """Return a page's text with every block made anew.

    Raises:
        KeyError: a block has a name that is not known.
    """
    return _BLOCK.sub(
        lambda found: f"<!-- figures: {found[1]} -->\n\n{BLOCKS[found[1]]()}\n\n<!-- figures end -->", text
    )


def without_blocks(text: str) -> str:
    """Return what people wrote: a page's text without its blocks."""
    return _BLOCK.sub("", text)


def main(arguments: Sequence[str]) -> None:
    """Write all pages, or those whose paths are given."""
    for page in [Path(one) for one in arguments] or PAGES:
        page.write_text(written(page.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
