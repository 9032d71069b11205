"""What moved between two versions of a board, and which change moved it.

Place in the flow: ``faithface leaderboard diff`` prints :func:`diff_boards`; ``history`` sums it up for the changelog.
Calls ``board`` and ``record``; a pure function of the records of both.

A number is compared with that of the same model, dataset, explainer and protocol by name: ``gap@2(grid=14)`` follows
``gap@1(grid=14)``. Its causes are what the two records say differently: protocol, model, dataset, plugin. Where several
differ, nobody can say from the records which one moved the number, and all are named. Where nothing does, only where it
was run is left, and if that is the same too, ``nothing that the records name``.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from faithface.boards.board import Board, make_board
from faithface.boards.record import Kept, Number, Record
from faithface.boards.render import figure
from faithface.boards.verdicts import Audit

SAME = 1e-6
"""Numbers of the same code on the same machine agree to nine figures; relative differences below this are rounding."""
NOTHING = "nothing that the records name"
SURROUNDINGS = "surroundings"

Key = tuple[str, str, str, str, str]


@dataclass(frozen=True)
class Moved:
    """One number that is not what it was.

    Attributes:
        protocol: as it is named now.
        before, after: None: no number.
        rank_before, rank_after: as boards print them; "" for none.
        causes: what the records say differently, such as ``protocol: gap@1 → gap@2``.
    """

    model: str
    dataset: str
    explainer: str
    protocol: str
    value_name: str
    before: float | None
    after: float | None
    rank_before: str
    rank_after: str
    causes: tuple[str, ...]

    @property
    def kinds(self) -> tuple[str, ...]:
        """The kinds of the causes: ``protocol``, ``model``, ``dataset``, ``plugin``, ``surroundings``."""
        return tuple(dict.fromkeys(cause.partition(":")[0] for cause in self.causes))


@dataclass(frozen=True)
class Changes:
    """What differs between two boards.

    Attributes:
        before, after: their names, such as ``demo v1``.
        added, removed: models, datasets, explainers and protocols that only one of them has, such as
            ``explainer rise``.
        moved: numbers, in the order of models, datasets, explainers and protocols.
        same: how many numbers are what they were.
    """

    before: str
    after: str
    added: tuple[str, ...]
    removed: tuple[str, ...]
    moved: tuple[Moved, ...]
    same: int

    def counts(self) -> Counter[str]:
        """Return how many numbers each cause, or combination of causes, moved."""
        return Counter(" and ".join(one.kinds) for one in self.moved)

    def summary(self) -> list[str]:
        """Return the changes in a few lines, without single numbers."""
        lines = [f"added: {', '.join(self.added)}"] if self.added else []
        lines += [f"removed: {', '.join(self.removed)}"] if self.removed else []
        for kinds, count in sorted(self.counts().items()):
            named = [cause for one in self.moved if " and ".join(one.kinds) == kinds for cause in one.causes]
            which = "; ".join(dict.fromkeys(named))
            lines.append(f"{count} {'number' if count == 1 else 'numbers'} moved by {which}")
        return [*lines, f"{self.same} numbers are what they were"]

    def text(self, width: int = 80) -> str:
        """Return the changes in lines of at most ``width`` columns."""
        lines = [f"{self.before} → {self.after}", *self.summary()]
        lines = [part for line in lines for part in textwrap.wrap(line, width, subsequent_indent="  ") or [""]]
        place = ("", "", "")
        for one in self.moved:
            here = (one.model, one.dataset, one.explainer)
            if here != place:
                lines += ["", *textwrap.wrap(f"{one.explainer} · {one.model} on {one.dataset}", width)]
                place = here
            name = f"{one.protocol}:{one.value_name}" if one.value_name else one.protocol
            ranks = ""
            if one.rank_before != one.rank_after:
                ranks = f", rank {one.rank_before or '–'} → {one.rank_after or '–'}"
            moved = f"{name} {figure(one.before)} → {figure(one.after)}{ranks} ({', '.join(one.kinds)})"
            lines += textwrap.wrap(
                moved, width, initial_indent="  ", subsequent_indent="      ", break_on_hyphens=False
            )
        return "\n".join(lines) + "\n"


def diff_boards(before: Sequence[Kept], after: Sequence[Kept], audit: Audit | None = None) -> Changes:
    """Return what differs between the records of two boards.

    Args:
        audit: of the metrics, by which both are ranked; None: the one that comes with faithface.
    """
    old_board, new_board = make_board(before, audit), make_board(after, audit)
    old, new = _numbers(old_board), _numbers(new_board)
    old_ranks, new_ranks = _ranks(old_board), _ranks(new_board)
    moved, same = [], 0
    for key in sorted(old.keys() & new.keys()):
        (record, number), (record_now, number_now) = old[key], new[key]
        ranks = old_ranks.get(key, ""), new_ranks.get(key, "")
        if _same(number.number, number_now.number):
            same += 1
            continue
        causes = tuple(_causes(record, number, record_now, number_now)) or (NOTHING,)
        names = (record_now.model.name, record_now.dataset.spec, record_now.explainer.spec)
        numbers = (number.number, number_now.number)
        moved.append(Moved(*names, number_now.protocol, number_now.value_name, *numbers, *ranks, causes))
    things = _things(old_board.records), _things(new_board.records)
    return Changes(
        f"{old_board.suite} v{old_board.version}",
        f"{new_board.suite} v{new_board.version}",
        tuple(sorted(things[1] - things[0])),
        tuple(sorted(things[0] - things[1])),
        tuple(moved),
        same,
    )


def _same(before: float | None, after: float | None) -> bool:
    if before is None or after is None:
        return before is after
    return abs(before - after) <= SAME * max(1e-3, abs(before))


def _base(protocol: str) -> str:
    """Return a protocol's text without its version: ``gap(grid=14)``."""
    name, _, rest = protocol.partition("@")
    return name + rest.lstrip("0123456789")


def _key(record: Record, number: Number) -> Key:
    names = (record.model.name, record.dataset.name, record.explainer.spec)
    return (*names, _base(number.protocol), number.value_name)


def _numbers(board: Board) -> dict[Key, tuple[Record, Number]]:
    return {_key(record, number): (record, number) for record in board.records for number in record.numbers}


def _ranks(board: Board) -> dict[Key, str]:
    found = {}
    for table in board.tables:
        for row in table.rows:
            for column in table.columns:
                number = row.number(column.protocol)
                if number is not None and (rank := row.rank(column.protocol)):
                    found[_key(row.record, number)] = rank
    return found


def _things(records: Iterable[Record]) -> set[str]:
    found = set()
    for record in records:
        found |= {f"model {record.model.name}", f"dataset {record.dataset.name}", f"explainer {record.explainer.spec}"}
        found |= {f"protocol {number.protocol}" for number in record.numbers}
    return found


def _causes(before: Record, number: Number, after: Record, now: Number) -> Iterable[str]:
    """Yield what two records say differently of what can move a number."""
    protocol = []
    if number.protocol != now.protocol:
        protocol.append(f"{number.protocol} → {now.protocol}")
    elif number.parameters != now.parameters:
        protocol.append(f"{now.protocol}: {_differing(number.parameters, now.parameters)}")
    elif number.origin.fingerprint != now.origin.fingerprint:
        protocol.append(f"the code of {now.protocol}")
    yield from (f"protocol: {one}" for one in protocol)
    if before.model.sha256 != after.model.sha256:
        yield f"model: another file of {after.model.name}"
    elif before.model.origin.fingerprint != after.model.origin.fingerprint:
        yield f"model: the card of {after.model.name}"
    old, new = before.dataset, after.dataset
    parts = {
        "revision": (old.revision, new.revision),
        "parameters": (str(old.parameters), str(new.parameters)),
        "samples": (old.samples_sha256, new.samples_sha256),
        "seed": (str(old.seed), str(new.seed)),
        "code": (old.origin.fingerprint, new.origin.fingerprint),
    }
    if changed := [what for what, (one, other) in parts.items() if one != other]:
        yield f"dataset: {', '.join(changed)} of {new.name}"
    one, other = before.explainer, after.explainer
    if one.version != other.version:
        yield f"plugin: {other.name} version {one.version} → {other.version}"
    elif one.origin.fingerprint != other.origin.fingerprint:
        yield f"plugin: the code of {other.name}"
    elif one.note != other.note:
        yield f"plugin: what {other.name} chose ({_differing(one.note, other.note)})"
    where, there = before.where, after.where
    if (where.device, where.device_name, where.provider) != (there.device, there.device_name, there.provider):
        yield f"{SURROUNDINGS}: {where.device} {where.device_name} → {there.device} {there.device_name}"
    elif packages := _differing(where.versions, there.versions):
        yield f"{SURROUNDINGS}: {packages}"


def _differing(before: Mapping[str, object], after: Mapping[str, object]) -> str:
    names = sorted(name for name in {**before, **after} if before.get(name) != after.get(name))
    return ", ".join(f"{name} {before.get(name, '–')} → {after.get(name, '–')}" for name in names)
