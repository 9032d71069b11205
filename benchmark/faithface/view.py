"""The pages of a local run or board, also of a run that is still going.

Place in the flow: ``faithface view`` calls :func:`write_pages`. Calls ``boards``, ``gallery``, ``run`` and, where a run
is not finished, the plugins that it names: what a number means (direction, range) is theirs to say.

A run's pages lie in its folder ``view/``, with copies of its records; a board's are its own ``site/``.
"""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from faithface.boards.board import Board, make_board
from faithface.boards.collect import records_so_far
from faithface.boards.record import RECORDS, Kept, copy_record, read_records, write_records
from faithface.boards.site import Progress, read_extras, write_site
from faithface.boards.site.links import SITE
from faithface.boards.tiers import tiers_for
from faithface.boards.verdicts import Audit, audit_for
from faithface.errors import UsageError
from faithface.gallery import GALLERY, Wanted, write_gallery
from faithface.plugins import Registry
from faithface.reasons import Status
from faithface.run.plan import Plan, make_plan
from faithface.run.request import ADHOC, Request
from faithface.run.resume import numbered
from faithface.run.status import CellState, state_of
from faithface.run.store import FILE, Store, open_run

VIEW = "view"


@dataclass(frozen=True)
class Pages:
    """What was written.

    Attributes:
        first: the page to open.
        finished: the cells that are finished, as text; with the same ones the pages need not be made again.
        going: whether somebody is still working on the run.
        notes: one line for each thing that could not be shown.
    """

    first: Path
    finished: frozenset[str]
    going: bool
    notes: tuple[str, ...] = ()


def write_pages(
    target: Path,
    samples: int,
    registry: Callable[[], Registry],
    audit: Path | None = None,
    refresh: int = 0,
) -> Pages:
    """Write the pages of a run or a board.

    Args:
        target: a run directory, finished or not, or a board's folder.
        samples: how many samples of each model and dataset have pictures; those of a board are what it keeps.
        registry: loads the plugins; asked only where they are needed.
        audit: the record of an audit whose verdicts go before those of the audit beside the board.
        refresh: seconds after which the pages of a run that is still going load themselves again; 0: never.

    Raises:
        UsageError: it is neither a run nor a board, or a plugin that an unfinished run needs is not installed.
        RunError: the pages cannot be written.
    """
    if (target / FILE).is_file():
        return _of_run(target, samples, registry, audit, refresh)
    if (target / RECORDS).is_dir():
        board = make_board(read_records(target / RECORDS), audit_for(target, audit), tiers_for(target))
        return Pages(write_site(board, target / SITE, read_extras(target)), frozenset(), False)
    raise UsageError(
        f"{target} is neither a run nor a board; give a folder that `faithface run` or `leaderboard build` wrote"
    )


def finished_cells(run: Path) -> tuple[frozenset[str], bool]:
    """Return the cells of a run that are finished, as text, and whether somebody is working on it."""
    state = state_of(run)
    return frozenset(_name(c) for c in state.cells if c.status is not Status.PENDING), state.writer is not None


def _of_run(run: Path, samples: int, registry: Callable[[], Registry], record: Path | None, refresh: int) -> Pages:
    run = run.resolve()
    audit = audit_for(run, record)
    with open_run(run) as store:
        asked_in = Path((store.meta("command") or {}).get("folder") or ".")
    # Names of cards and datasets may be paths, which are relative to the folder where the run was asked for.
    with contextlib.chdir(asked_in if asked_in.is_dir() else "."):
        return _there(run, samples, registry, audit, refresh)


def _there(run: Path, samples: int, registry: Callable[[], Registry], audit: Audit, refresh: int) -> Pages:
    state = state_of(run)
    folder = run / VIEW
    whole = state.complete and (run / RECORDS).is_dir()
    kept = _copied(run, folder) if whole else _so_far(run, folder, registry())
    shutil.rmtree(folder / GALLERY, ignore_errors=True)
    notes: tuple[str, ...] = ()
    if kept:
        wanted = Wanted(samples, "all")
        notes = write_gallery(run, kept, folder, wanted, registry)
        board = make_board(kept, audit, tiers_for(run))
    else:
        with open_run(run) as store:
            board = Board(*_suite(store), (), ())
    there = [cell for cell in state.cells if cell.status is not Status.NOT_APPLICABLE]
    pending = tuple(f"{_name(c)}: {c.done} of {c.shards} shards" for c in there if c.status is Status.PENDING)
    going = state.writer is not None
    progress = None
    if not whole:
        progress = Progress(len(there) - len(pending), len(there), going, pending, refresh if going else 0)
    first = write_site(board, folder / SITE, read_extras(folder), progress)
    finished = frozenset(_name(c) for c in state.cells if c.status is not Status.PENDING)
    return Pages(first, finished, going, notes)


def _name(cell: CellState) -> str:
    return f"{cell.model} on {cell.dataset}: {cell.explainer}"


def _copied(run: Path, folder: Path) -> list[Kept]:
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    for path in sorted((run / RECORDS).rglob("*.json")):
        copy_record(path, folder / RECORDS / path.relative_to(run / RECORDS))
    return read_records(folder / RECORDS)


def _so_far(run: Path, folder: Path, registry: Registry) -> list[Kept]:
    """Write the records of the cells that are finished, and return them."""
    with open_run(run) as store:
        kept = records_so_far(store, plan_of(store, registry))
    shutil.rmtree(folder / RECORDS, ignore_errors=True)
    if not kept:
        return []
    write_records(kept, folder / RECORDS)
    return read_records(folder / RECORDS)


def plan_of(store: Store, registry: Registry) -> Plan:
    """Return the plan of what a store holds, from the names in it.

    Raises:
        UsageError: a plugin or file that the run used is not there.
    """
    cells = store.cells()
    cards = store.meta("cards") or {}
    names = {row["model"]: None for row in store.groups()}
    request = Request(
        models=tuple(cards.get(name, name) for name in names),
        datasets=tuple(dict.fromkeys(row["dataset"] for row in store.groups())),
        explainers=tuple(dict.fromkeys(cell["explainer"] for cell in cells)),
        metrics=tuple(dict.fromkeys(m["metric"] for cell in cells for m in cell["metrics"])),
        suite=_suite(store)[:2],
        description=_suite(store)[2],
        limit=(store.meta("limit") or {}).get("limit"),
        seed=store.meta("identity")["seed"],
        device=store.meta("identity")["device"],
        allow_outside=True,
        inherited=frozenset({"explainers", "metrics"}),
    )
    plan = numbered(store, make_plan(request, registry))
    there = {cell["id"] for cell in cells}
    groups = [replace(g, cells=tuple(c for c in g.cells if c.number in there)) for g in plan.groups]
    return replace(plan, groups=tuple(g for g in groups if g.cells))


def _suite(store: Store) -> tuple[str, int, str]:
    held = store.meta("suite") or {"name": ADHOC[0], "version": ADHOC[1], "description": ""}
    return held["name"], held["version"], held["description"]
