"""Simulated boards: how often the boards' test claims what is not so, and how often it finds what is.

Place in the flow: ``python -m training.simulate_statistics`` writes the tables of ``docs/explanation/statistics.md``
between their markers. Calls ``faithface.boards.statistics`` and ``faithface.boards.compare`` as boards do, and the
methods that were not chosen, which stand in ``statistics_rivals``.

A simulated board has K = 8 rivals and n samples. A rival's value on a sample is its mean, plus noise of standard
deviation 1, plus an effect of each person in the sample. Effects are drawn anew for each rival and person, so a
person who is easy for one rival may be hard for another. Pairs are of two different people, drawn at random; 25 boards
share their pairs.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from faithface.boards.compare import Verdict, compare
from faithface.boards.statistics.design import Design, make_design, make_units
from faithface.boards.statistics.means import p_values, too_few, variances
from faithface.boards.statistics.ranking import adjust, rank_intervals
from faithface.seeds import rng_for
from training import statistics_rivals

RIVALS = 8
SAME_PAIRS = 25
LEVEL = 0.05
PEOPLE = (0, 13, 40, 200)
EFFECTS = (0.0, 0.1, 0.3, 1.0)
SAMPLES = (12, 24, 48, 100, 300, 1000)
MOST_FOR_ALL = 100
GAIN = 1.1
OURS = "halfway"
PAGE = Path("docs/explanation/statistics.md")


@dataclass(frozen=True)
class Setting:
    """What is simulated.

    Attributes:
        people: pairs are drawn from so many; 0: independent samples of one unit each.
        effect: standard deviation of a person's effect; the noise has 1.
        samples: n.
        heavy: Student's t with 3 degrees of freedom, scaled to the same variance, in place of the normal.
        gains: by how much each rival is better, in standard deviations of the paired difference.
    """

    people: int
    effect: float
    samples: int
    heavy: bool = False
    gains: tuple[float, ...] = (0.0,) * RIVALS


@dataclass(frozen=True)
class Boards:
    """Boards that share their pairs: ``values`` B×n×K, ``names`` the people of each sample."""

    values: np.ndarray
    names: list[list[str]]


def draw(setting: Setting, boards: int, seed: int = 0) -> Iterator[Boards]:
    """Yield simulated boards, 25 at a time."""
    rng = rng_for(seed, f"{setting}", "simulated boards")
    n, rivals = setting.samples, len(setting.gains)

    def noise(*shape: int) -> np.ndarray:
        return rng.standard_t(3, size=shape) / np.sqrt(3) if setting.heavy else rng.normal(size=shape)

    done = 0
    while done < boards:
        size = min(SAME_PAIRS, boards - done)
        done += size
        values, width = noise(size, n, rivals), 1
        names = [[f"s{i}"] for i in range(n)]
        if setting.people:
            first = rng.integers(0, setting.people, n)
            second = (first + rng.integers(1, setting.people, n)) % setting.people
            names, width = [[f"p{a}", f"p{b}"] for a, b in zip(first, second, strict=True)], 2
            if setting.effect:
                people = setting.effect * noise(size, setting.people, rivals)
                values += people[:, first] + people[:, second]
        elif setting.effect:
            values += setting.effect * noise(size, n, rivals)
        spread = np.sqrt(2 * (1 + width * setting.effect**2))
        yield Boards(values + spread * np.array(setting.gains), names)


def claims(adjusted: np.ndarray) -> np.ndarray:
    """Return bool …×K×K: which differences are called significant."""
    found: np.ndarray = adjusted < LEVEL
    return found


def ours(made: Boards, design: Design | None = None) -> np.ndarray:
    """Return the corrected p values of the boards' own test, B×K×K."""
    design = design or make_design(make_units(made.names))
    if too_few(design):
        return np.ones((len(made.values), made.values.shape[-1], made.values.shape[-1]))
    means = made.values.mean(axis=1)
    gaps = means[:, :, None] - means[:, None, :]
    errors = np.sqrt(variances(design, made.values, pairs=True))
    return np.stack([adjust(p) for p in p_values(gaps, errors, design.df, np.abs(made.values).max())])


def family_wise_error(setting: Setting, boards: int, methods: tuple[str, ...] = (OURS,)) -> dict[str, float]:
    """Return by method the share of boards of equal rivals with any claim."""
    wrong = dict.fromkeys(methods, 0)
    for made in draw(setting, boards):
        for method in methods:
            wrong[method] += int(claims(_adjusted(method, made)).any(axis=(1, 2)).sum())
    return {method: count / boards for method, count in wrong.items()}


def power(setting: Setting, boards: int, methods: tuple[str, ...] = (OURS,)) -> dict[str, float]:
    """Return by method the share found of the first rival's differences from the others."""
    found = dict.fromkeys(methods, 0.0)
    for made in draw(setting, boards):
        for method in methods:
            found[method] += float(claims(_adjusted(method, made))[:, 0, 1:].mean(axis=1).sum())
    return {method: count / boards for method, count in found.items()}


def rank_coverage(setting: Setting, boards: int) -> tuple[float, float]:
    """Return the share of boards on which all true ranks lie in their intervals, and the mean width of these."""
    gains = np.array(setting.gains)
    first, last = 1 + (gains > gains[:, None]).sum(axis=1), (gains >= gains[:, None]).sum(axis=1)
    covered, width = 0, 0.0
    for made in draw(setting, boards):
        means = made.values.mean(axis=1)
        gaps = means[:, :, None] - means[:, None, :]
        for better in claims(ours(made)) & (gaps > 0):
            low, high = rank_intervals(better)
            # With equal true means, each rank from the first to the last that they share is a true one.
            covered += bool(((low <= first) & (high >= last)).all())
            width += float((high - low).mean())
    return covered / boards, width / boards


def same_explainer(setting: Setting, boards: int) -> tuple[float, float]:
    """Return how often two seeds of one explainer are called different: by ``compare`` alone, and on a board of 8.

    All rivals are seeds of one explainer that ignores the face, such as ``random``: a sample's own level is shared.
    """
    alone, on_board = 0, 0
    level = rng_for(1, f"{setting}", "samples' levels")
    for made in draw(setting, boards):
        shared = Boards(made.values + level.normal(size=(*made.values.shape[:2], 1)), made.names)
        names = {f"{i:04d}": one for i, one in enumerate(made.names)}
        on_board += int(claims(ours(shared))[:, 0, 1].sum())
        for board in shared.values:
            a, b = (dict(zip(names, board[:, k].tolist(), strict=True)) for k in (0, 1))
            alone += compare(a, b, names).verdict in (Verdict.HIGHER, Verdict.LOWER)
    return alone / boards, on_board / boards


def _adjusted(method: str, made: Boards) -> np.ndarray:
    return ours(made) if method == OURS else statistics_rivals.METHODS[method](made.values, made.names)


# --- the page


def pipe(headers: list[str], rows: list[list[str]]) -> str:
    lines = [headers, ["---"] * len(headers), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def settings(heavy: bool) -> list[Setting]:
    """Return the settings of the error table; independent samples have no people, so one effect is all."""
    kinds = [(0, 0.0), *itertools.product(PEOPLE[1:], EFFECTS)]
    return [Setting(p, e, n, heavy) for p, e in kinds for n in SAMPLES]


def label(setting: Setting) -> list[str]:
    who = f"pairs of {setting.people} people" if setting.people else "independent"
    return [who, f"{setting.effect:g}" if setting.people else "–", "heavy" if setting.heavy else "normal"]


def for_all(setting: Setting) -> bool:
    """Return whether the methods that are not used are simulated too: what is wrong with them shows in small boards."""
    return setting.samples <= MOST_FOR_ALL and not setting.heavy


def error_tables(boards: int) -> tuple[str, str]:
    """Return the chosen method's table of errors, and the methods' summary."""
    methods = (OURS, *statistics_rivals.METHODS)
    asked = [setting for heavy in (False, True) for setting in settings(heavy)]
    errors = {s: family_wise_error(s, boards, methods if for_all(s) else (OURS,)) for s in asked}
    rows: dict[tuple[str, ...], list[str]] = {}
    for setting, found in errors.items():
        rows.setdefault(tuple(label(setting)), []).append(f"{found[OURS]:.3f}")
    full = pipe(
        ["samples", "person effect", "noise", *(f"n = {n}" for n in SAMPLES)], [[*k, *v] for k, v in rows.items()]
    )
    weak = [found for setting, found in errors.items() if setting.effect <= 0.3]
    strong = [found for setting, found in errors.items() if setting.effect > 0.3]
    better = (GAIN, *[0.0] * (RIVALS - 1))
    cases = [(0, 12), (0, 24), (13, 24), (13, 48), (40, 12), (40, 24), (40, 48)]
    powers = [power(Setting(p, 0.0, n, gains=better), boards, methods) for p, n in cases]
    summary = []
    for method in methods:
        worst = [f"{max(one[method] for one in group if method in one):.3f}" for group in (weak, strong)]
        summary.append([method, *worst, *(f"{100 * one[method]:.0f} %" for one in powers)])
    heads = [f"{n} pairs of {p}" if p else f"{n} independent" for p, n in cases]
    return full, pipe(["method", "worst error, effects to 0.3", "worst error, effect 1", *heads], summary)


def rank_table(boards: int) -> str:
    """Return the table of rank intervals' coverage and width, for rivals at equal steps and in two groups."""
    steps, groups = tuple(-0.3 * k for k in range(RIVALS)), (0.6,) * 4 + (0.0,) * 4
    rows = []
    for name, gains in (("steps of 0.3", steps), ("two groups, 0.6 apart", groups)):
        for people, effect, n in ((0, 0.0, 48), (0, 0.0, 300), (13, 0.1, 100), (40, 0.3, 100), (40, 0.3, 1000)):
            setting = Setting(people, effect, n, gains=gains)
            covered, width = rank_coverage(setting, boards)
            rows.append([name, *label(setting)[:2], str(n), f"{covered:.3f}", f"{width:.1f}"])
    return pipe(["true means", "samples", "person effect", "n", "all ranks covered", "mean width"], rows)


def same_table(boards: int) -> str:
    """Return the table of the comparison of an explainer with itself."""
    rows = []
    for people, n in ((0, 24), (0, 100), (13, 24), (13, 100), (40, 48), (40, 300), (200, 300)):
        setting = Setting(people, 0.0, n)
        alone, on_board = same_explainer(setting, boards)
        rows.append([label(setting)[0], str(n), f"{alone:.3f}", f"{on_board:.3f}"])
    return pipe(["samples", "n", "by `compare`", "on a board of 8"], rows)


def skew_table(boards: int) -> str:
    """Return how often one comparison errs at a nominal 5 % with differences that are exponential less their mean."""
    row = []
    for n in SAMPLES:
        rng, wrong = rng_for(2, str(n), "skewed differences"), 0
        names = {f"{i:04d}": [f"s{i}"] for i in range(n)}
        zeros = dict.fromkeys(names, 0.0)
        for _ in range(boards):
            drawn = dict(zip(names, (rng.exponential(size=n) - 1).tolist(), strict=True))
            wrong += compare(drawn, zeros, names).verdict in (Verdict.HIGHER, Verdict.LOWER)
        row.append(f"{wrong / boards:.3f}")
    return pipe([f"n = {n}" for n in SAMPLES], [row])


def replace(page: str, name: str, body: str) -> str:
    """Return a page with the text between ``<!-- name -->`` and ``<!-- end name -->`` replaced.

    Raises:
        ValueError: the page lacks the markers.
    """
    start, end = f"<!-- {name} -->", f"<!-- end {name} -->"
    if start not in page or end not in page:
        raise ValueError(f"the page lacks the markers {start} and {end}; put them where the table belongs")
    return page.split(start)[0] + f"{start}\n{body}\n{end}" + page.split(end)[1]


def main() -> None:
    parser = argparse.ArgumentParser(description="Write the simulation tables of the page on statistics.")
    parser.add_argument("--boards", type=int, default=1000, help="boards per setting (default 1000)")
    parser.add_argument("--page", type=Path, default=PAGE, help=f"the page to write to (default {PAGE})")
    parser.add_argument("--only", choices=("errors", *SHORT), help="write one table (errors: with that of the methods)")
    asked = parser.parse_args()
    page = asked.page.read_text("utf-8")
    if asked.only in (None, "errors"):
        full, summary = error_tables(asked.boards)
        page = replace(replace(page, "errors", full), "methods", summary)
    for name, make in SHORT.items():
        if asked.only in (None, name):
            page = replace(page, name, make(asked.boards))
    asked.page.write_text(page, "utf-8")


SHORT = {"ranks": rank_table, "same": same_table, "skew": skew_table}

if __name__ == "__main__":
    main()
