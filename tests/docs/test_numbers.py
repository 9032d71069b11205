"""Figures in README, the findings and the pages on papers: each comes from a record or from a command that is named."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from docs.tools.board_pages import PAGES, without_blocks, written
from tests.docs.pages import name_of

_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`[^`\n]*`")
_NOT_MEASURED = re.compile(
    r"arXiv:\d+\.\d+|\d{4}\.\d{5}|Python \d+\.\d+(?: or \d+\.\d+)?|Apache-\d\.\d|\]\([^)]*\)"
    r"|95 % (?:interval|confidence)|(?:at|the) 5 %"
)
_NUMBER = re.compile(r"(?<![\w.])[−+-]?\d+\.\d+|\d+(?:\.\d+)? ?%|(?<![\w.])\d+ (?:times|× )")
_PROOF = re.compile(r"`(?:python -m|faithface|tox|pytest) [^`]+`|`?leaderboards/[\w./-]+`?")


def unproven(text: str) -> list[str]:
    """Return the paragraphs (or lists, or tables) with a measured number and neither a command nor a record."""
    found = []
    for paragraph in re.split(r"\n\s*\n", _FENCE.sub("", without_blocks(text))):
        bare = _NOT_MEASURED.sub("", _CODE.sub("", paragraph))
        if _NUMBER.search(bare) and not _PROOF.search(paragraph):
            found.append(paragraph.strip())
    return found


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_is_what_the_records_give(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert "<!-- figures:" in text
    assert written(text) == text, f"{name_of(page)} is out of date: run `python -m docs.tools.board_pages`"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_number_stands_without_a_record_or_a_command(page: Path) -> None:
    assert unproven(page.read_text(encoding="utf-8")) == []


@pytest.mark.parametrize(
    "text",
    [
        "The oracle has 0.73.",
        "FGGB is 23 times slower.",
        "| network | EER |\n| --- | --- |\n| small | 2.5 % |",
        "A sentence.\n\nIt falls by −0.04.\n\n`faithface run demo` prints something else.",
    ],
)
def test_a_bare_number_is_found(text: str) -> None:
    assert len(unproven(text)) == 1


@pytest.mark.parametrize(
    "text",
    [
        "The oracle has 0.73 (`faithface leaderboard show leaderboards/pad/v1`).",
        "See arXiv:2403.04549; it needs Python 3.11 and has `gap@1(grid=14)`, with its 95 % interval.",
        "```\nfaithface run demo  # 0.73\n```",
        "<!-- figures: tops -->\n\n| 0.73 |\n\n<!-- figures end -->",
    ],
)
def test_a_number_with_its_source_is_accepted(text: str) -> None:
    assert unproven(text) == []
