"""Do the metrics of a table order its methods alike, and what order do they give together?

Place in the flow: the site, ``leaderboard show`` and whoever studies a board call :func:`rank_agreement`,
:func:`fill_agreement`, :func:`diagram` and :func:`overall_order`. Calls ``board`` and ``statistics.agreement``; pure
functions of records and values.

Controls take no part: agreement that comes from everybody's putting ``random`` last says nothing of the metrics.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence

import polars as pl

from faithface.boards.board import Column, Table
from faithface.boards.record import Kept, Number
from faithface.boards.statistics.agreement import (
    REPLICATES,
    Agreement,
    Diagram,
    Overall,
    agreement,
    borda,
    critical_difference,
)

Values = dict[str, dict[str, float]]
FAITHFUL = ("faithful", "specific", "truth")
"""The families that may order methods. What describes a map, passes or fails it, or costs, is no place in an order."""


def rank_agreement(
    table: Table, kept: Iterable[Kept], seed: int = 0, replicates: int = REPLICATES
) -> dict[tuple[str, str], Agreement]:
    """Return how alike each two protocols of a table order its methods (Kendall's tau-b, 95 % interval).

    Only protocols with a mean count, of families that may order methods.

    Args:
        table: a table of explainers.
        kept: the board's records with their values; those of other tables are not used.
        seed: of the resampling.
        replicates: how many resamples an interval is made of.
    """
    columns = [column for column in table.columns if column.sample.family in FAITHFUL and _is_mean(column)]
    return _agreement(table, columns, kept, seed, replicates)


def fill_agreement(
    table: Table, kept: Iterable[Kept], seed: int = 0, replicates: int = REPLICATES
) -> dict[tuple[str, str], Agreement]:
    """Return :func:`rank_agreement` of each two columns that differ in what they fill with, and in nothing else."""
    columns = [column for column in table.columns if "fill" in column.sample.parameters and _is_mean(column)]
    alike: dict[tuple[object, ...], list[Column]] = {}
    for column in columns:
        others = {name: value for name, value in column.sample.parameters.items() if name != "fill"}
        alike.setdefault((column.sample.id, *sorted(others.items())), []).append(column)
    found: dict[tuple[str, str], Agreement] = {}
    kept = tuple(kept)
    for members in alike.values():
        if len(members) > 1:
            found |= _agreement(table, members, kept, seed, replicates)
    return found


def diagram(table: Table, kept: Iterable[Kept], protocol: str) -> Diagram:
    """Return the critical-difference diagram of a table's methods by one protocol."""
    column = _column(table, protocol)
    values, units = table_values(table, kept, [protocol])
    return critical_difference(values[protocol], units, column.sample.better == "higher")


def overall_order(table: Table, fit: Collection[str]) -> Overall:
    """Return the order of a table's methods by their mean rank over metric families (Borda).

    Args:
        table: a table of explainers.
        fit: the protocols that may rank, as the table names them: those that passed the metrics' exam. Others are named
            in the result and do not count, and neither do families that say nothing of right and wrong.
    """
    families: dict[str, dict[str, dict[str, float]]] = {}
    higher: dict[str, bool] = {}
    for column in table.columns:
        if column.sample.family not in FAITHFUL:
            continue
        higher[column.protocol] = column.sample.better == "higher"
        numbers = {row.title: _number(row.number(column.protocol)) for row in table.rows if not row.control}
        if any(math.isfinite(one) for one in numbers.values()):
            families.setdefault(column.sample.family, {})[column.protocol] = numbers
    return borda(families, higher, fit)


def fit_protocols(
    verdicts: Mapping[str, str], protocols: Iterable[str], passed: Collection[str] = ("judges",)
) -> set[str]:
    """Return the protocols of a board whose verdict in the metrics' exam lets them rank.

    Args:
        verdicts: by protocol as the exam names it, its verdict.
        protocols: as the board names them.
        passed: the verdicts that are enough.
    """
    return {protocol for protocol in protocols if verdicts.get(protocol) in passed}


def table_values(
    table: Table, kept: Iterable[Kept], protocols: Sequence[str], controls: bool = False
) -> tuple[dict[str, Values], dict[str, list[str]]]:
    """Return the headline values of a table's rows by protocol, title and sample, and the units of each sample.

    Args:
        kept: records with values, those of the table among them.
        protocols: which columns.
        controls: whether controls are among the rows.
    """
    by_record = {(one.record.stem, one.record.digest): one for one in kept}
    values: dict[str, Values] = {protocol: {} for protocol in protocols}
    units: dict[str, list[str]] = {}
    for row in table.rows:
        one = by_record.get((row.record.stem, row.record.digest))
        if one is None or (row.control and not controls):
            continue
        frame = headline(one).filter(pl.col("protocol").is_in(list(protocols)))
        for protocol, sample, value, names in frame.select("protocol", "sample", "value", "units").iter_rows():
            values[protocol].setdefault(row.title, {})[sample] = value
            units[sample] = names
    return values, units


def headline(kept: Kept) -> pl.DataFrame:
    """Return the headline values of a record that are there."""
    return kept.values.filter((pl.col("value_name") == "") & pl.col("value").is_not_null())


def _agreement(
    table: Table, columns: Sequence[Column], kept: Iterable[Kept], seed: int, replicates: int
) -> dict[tuple[str, str], Agreement]:
    values, units = table_values(table, kept, [column.protocol for column in columns])
    values = {protocol: rivals for protocol, rivals in values.items() if rivals}
    higher = {column.protocol: column.sample.better == "higher" for column in columns}
    return agreement(values, units, {protocol: higher[protocol] for protocol in values}, seed, replicates)


def _is_mean(column: Column) -> bool:
    return column.sample.summary == "mean"


def _column(table: Table, protocol: str) -> Column:
    return next(column for column in table.columns if column.protocol == protocol)


def _number(number: Number | None) -> float:
    return math.nan if number is None or number.number is None else number.number
