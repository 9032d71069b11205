"""Fail if a published file is not in git: a page that was built and not added is missing for everybody else.

Place in the flow: `tox -e boards` calls it beside `git diff`, which does not look at new files. Calls git; imports the
standard library only.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SHOWN = 20


def untracked(root: Path, folders: Sequence[str]) -> list[str]:
    """Return the files below some folders that git neither tracks nor is told to ignore."""
    command = ["git", "ls-files", "--others", "--exclude-standard", "-z", "--", *folders]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True, check=True)
    return [name for name in done.stdout.split("\0") if name]


def main(folders: Sequence[str]) -> int:
    """Name the new files on standard error; return the exit code."""
    found = untracked(ROOT, folders)
    for name in found[:SHOWN]:
        print(f"{name} is not in git; add or remove it", file=sys.stderr)
    if len(found) > SHOWN:
        print(f"and {len(found) - SHOWN} more", file=sys.stderr)
    return int(bool(found))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
