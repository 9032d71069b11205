"""Pages on disk: the folder ``site/`` of a board or run.

Place in the flow: ``cli`` calls :func:`write_site`. Calls ``pages``, ``figures``, ``extras``, ``board``
and ``durable``.
"""

from __future__ import annotations

from pathlib import Path

from faithface.boards.board import Board
from faithface.boards.site.extras import Extras
from faithface.boards.site.figures import Figures, open_figures
from faithface.boards.site.links import INDEX
from faithface.boards.site.pages import Progress, site_files
from faithface.durable import cannot_write

MARK = "assets/VENDORED.md"


def write_site(
    board: Board,
    folder: Path,
    extras: Extras | None = None,
    progress: Progress | None = None,
    downloads: bool = True,
    redraw: bool = False,
) -> Path:
    """Write a board's pages into a folder and return the first one. What no page accounts for is removed.

    A page that has not changed is not written again. The first page comes last, so that whoever opens it finds what it
    links to. Figures whose data and drawing code have not changed are not drawn again.

    Args:
        redraw: draw all figures anew.

    Raises:
        RunError: a file cannot be written, or the folder holds something that is no site.
    """
    if folder.is_dir() and any(folder.iterdir()) and not (folder / MARK).is_file():
        raise cannot_write(folder, FileExistsError(0, "it holds something that is not a site; choose another folder"))
    wanted: set[Path] = set()
    first: bytes | None = None
    figures = Figures() if redraw else open_figures(folder)
    try:
        for name, content in site_files(board, extras, progress, downloads, figures):
            path = folder / name
            wanted.add(path)
            if name == INDEX:
                first = content
            else:
                _write(path, content)
        assert first is not None
        _write(folder / INDEX, first)
        for old in sorted(folder.rglob("*"), reverse=True):
            if old.is_dir() and not any(old.iterdir()):
                old.rmdir()
            elif old.is_file() and old not in wanted:
                old.unlink()
    except OSError as error:
        raise cannot_write(folder, error) from None
    return folder / INDEX


def _write(path: Path, content: bytes) -> None:
    # Not durable.write_whole: pages can be made again at any time, and ten thousand of them are not flushed one by one.
    if path.is_file() and path.stat().st_size == len(content) and path.read_bytes() == content:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    begun = path.with_name(f"{path.name[:80]}.part")
    begun.write_bytes(content)
    begun.replace(path)
