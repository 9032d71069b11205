"""Reads the documentation's pages: fenced blocks, command lines, links, headings.

Place in the flow: what ``test_docs`` holds against the code.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
BESIDE = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "plugins").glob("*/README.md"))]

_FENCE = re.compile(r"^```([a-z]*)[^\n]*\n(.*?)^```", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"!?\[[^\]]*\]\(([^)\s]+)\)")
_COMMAND = re.compile(r"^\s*(?:\$ |commands = )?(?:[A-Z_]+=\S*\s+)*faithface\s+(.*?)(?:\s[>|].*)?$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block: its language ("" for none), its text, and the last line of prose before it."""

    language: str
    text: str
    before: str


def pages() -> list[Path]:
    """Return every page of the site, and the READMEs beside it."""
    return [*sorted(DOCS.rglob("*.md")), *(path for path in BESIDE if path.is_file())]


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path) -> list[Block]:
    text = path.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        prose = [line for line in text[: match.start()].splitlines() if line.strip()]
        found.append(Block(match[1], match[2], prose[-1].strip() if prose else ""))
    return found


def block_after(path: Path, line: str) -> str:
    """Return the text of the block that follows a line of prose."""
    (found,) = [block.text for block in blocks(path) if block.before == line]
    return found


def command_lines(path: Path) -> Iterator[list[str]]:
    """Yield the arguments of every ``faithface …`` line in a page's shell blocks (of tox.ini: anywhere)."""
    shell = [b.text for b in blocks(path) if b.language in ("", "console", "bash", "sh", "shell")]
    text = path.read_text(encoding="utf-8") if path.name == "tox.ini" else "\n".join(shell)
    for line in _COMMAND.findall(text):
        yield [word for word in shlex.split(line, comments=True) if word != "{posargs}"]


def is_synopsis(arguments: list[str]) -> bool:
    """Whether a line shows a form (``faithface run [SUITE] …``) rather than a command to type."""
    return any(re.fullmatch(r"\[?-*[A-Z][A-Z_]*(\.[a-z|A-Z.]+)?\]?(\.\.\.)?|\[.*", word) for word in arguments)


def links(path: Path) -> Iterator[str]:
    """Yield the targets of a page's links and pictures that are not on the web."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    for target in _LINK.findall(re.sub(r"`[^`\n]*`", "", text)):
        if not target.startswith(("http://", "https://", "mailto:")):
            yield target


def anchors(path: Path) -> set[str]:
    """Return the anchors of a page's headings, as the site makes them."""
    text = _FENCE.sub("", path.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    plain = [re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", head).lower() for head in heads]
    return {re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", head).strip()) for head in plain}


def sections(path: Path) -> dict[str, str]:
    """Return a page's text by second-level heading, without backticks."""
    parts = re.split(r"^## (.+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {head.replace("`", "").strip(): body for head, body in zip(parts[1::2], parts[2::2], strict=True)}


def first_cells(text: str) -> set[str]:
    """Return what stands in backticks in the first column of a text's tables."""
    rows = [line.split("|")[1] for line in text.splitlines() if line.startswith("| ")]
    return {name for cell in rows for name in re.findall(r"`([^`]+)`", cell)}


def walk(command: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every command of the command line with its full name."""
    for part, child in getattr(command, "commands", {}).items():
        full = f"{name} {part}".strip()
        if hasattr(child, "commands"):
            yield from walk(child, full)
        else:
            yield full, child
