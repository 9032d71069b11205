"""The values of a table as matrices: one row per sample, one column per explainer.

Place in the flow: ``board`` and ``outcomes`` compute on them, a protocol at a time. Calls ``statistics.design``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from faithface.boards.record import Kept
from faithface.boards.statistics.design import Design, make_design, make_units
from faithface.boards.statistics.ranking import Designs as Subsets

WANTED = ("protocol", "sample", "value", "units", "label", "correct")


@dataclass(frozen=True)
class Matrix:
    """Values of one protocol.

    Attributes:
        titles: K explainers, sorted.
        samples: n samples, sorted.
        values: float64 n×K; NaN where there is no value.
    """

    titles: tuple[str, ...]
    samples: tuple[str, ...]
    values: np.ndarray

    @classmethod
    def of(cls, frame: pl.DataFrame) -> Matrix:
        """Return the matrix of rows of :func:`headlines`."""
        _codes, at, column = np.unique(frame["title_code"].to_numpy(), return_index=True, return_inverse=True)
        _codes, first, row = np.unique(frame["sample_code"].to_numpy(), return_index=True, return_inverse=True)
        values = np.full((len(first), len(at)), np.nan)
        values[row, column] = frame["value"].to_numpy()
        titles, samples = frame["title"].gather(at).to_list(), frame["sample"].gather(first).to_list()
        return cls(tuple(titles), tuple(samples), values)

    def take(self, chosen: np.ndarray) -> Matrix:
        """Return the rows of some samples (bool n)."""
        samples = tuple(name for name, here in zip(self.samples, chosen, strict=True) if here)
        return Matrix(self.titles, samples, self.values[chosen])


@dataclass(frozen=True)
class Designs:
    """Who stands in which samples, worked out once for each set of samples.

    Attributes:
        units: the people (or images) of each sample.
    """

    units: Mapping[str, Sequence[str]]
    made: dict[tuple[str, ...], Design] = field(default_factory=dict, compare=False, repr=False)
    subsets: dict[tuple[str, ...], Subsets] = field(default_factory=dict, compare=False, repr=False)

    def of(self, samples: Sequence[str]) -> Design:
        """Return the design of some samples."""
        key = tuple(samples)
        if key not in self.made:
            self.made[key] = make_design(make_units([self.units[name] for name in key]))
        return self.made[key]

    def within(self, samples: Sequence[str]) -> Subsets:
        """Return the designs of all subsets of some samples."""
        key = tuple(samples)
        if key not in self.subsets:
            self.subsets[key] = Subsets(make_units([self.units[name] for name in key]))
        return self.subsets[key]


def headlines(members: Sequence[Kept], titles: Sequence[str]) -> pl.DataFrame:
    """Return the headline values that are there, of several records: ``title``, ``member`` and ``WANTED``.

    ``member`` is the record's place; ``title_code`` and ``sample_code`` number titles and samples in the order of their
    names: numbers are quicker to group by.
    """
    code = {title: number for number, title in enumerate(sorted(set(titles)))}
    member = np.repeat(np.arange(len(members)), [len(one.values) for one in members])
    frame = pl.concat([one.values for one in members]).with_columns(member=pl.Series(member, dtype=pl.Int64))
    frame = frame.filter((pl.col("value_name") == "") & pl.col("value").is_not_null()).select("member", *WANTED)
    at = frame["member"]
    return frame.with_columns(
        title=pl.Series(titles, dtype=pl.String).gather(at),
        title_code=pl.Series([code[title] for title in titles], dtype=pl.Int64).gather(at),
        sample_code=pl.col("sample").rank("dense"),
    )


def values_by_member(frame: pl.DataFrame, count: int) -> list[dict[str, dict[str, float]]]:
    """Return the values of each of ``count`` records by protocol and sample, from rows of :func:`headlines`."""
    found: list[dict[str, dict[str, float]]] = [{} for _ in range(count)]
    member, protocol = frame["member"].to_list(), frame["protocol"].to_list()
    sample, value = frame["sample"].to_list(), frame["value"].to_list()
    runs = frame.select(pl.struct("member", "protocol").rle_id().rle().struct.field("len")).to_series().to_list()
    start = 0
    for length in runs:
        end = start + length
        mine = found[member[start]].setdefault(protocol[start], {})
        mine.update(zip(sample[start:end], value[start:end], strict=True))
        start = end
    return found


def units_of(frame: pl.DataFrame) -> dict[str, list[str]]:
    """Return the people of each sample."""
    known = frame.unique(subset="sample")
    return dict(zip(known["sample"].to_list(), known["units"].to_list(), strict=True))
