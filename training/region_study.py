"""Which explainers agree with the exact region values on real pairs: a table of ``docs/explanation/region-shapley.md``.

Place in the flow: ``python -m training.region_study --dataset pairs:FACES.csv@FOLDER --found FOUND.jsonl`` scores pairs
and keeps what it has found in a file, pair by pair, so that it can be interrupted; ``--publish`` makes it the record
``leaderboards/audit/regions.json``, without the names of the images. Without a data set the table is written again from
the record. Calls ``regions``, ``explaining``, and the boards' statistics for paired comparisons.

Half of the pairs are genuine, half impostor. They are drawn so that each person stands in as few of them as possible.
Genuine pairs are judged by the probe's similarity map, impostor pairs by its dissimilarity map, whose sums should be
large where the exact value is negative.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from faithface.boards.compare import compare
from faithface.boards.statistics.means import mean_interval
from faithface.contract import Dataset, FaceModel, Pair
from faithface.errors import FaithfaceError, UsageError
from faithface.explaining import checked_maps
from faithface.loading import clean_threshold, load_samples
from faithface.model import open_model
from faithface.perturb.strangers import FaceIndex, build_index
from faithface.plugins import Registry, load_registry
from faithface.regions import agreement, make_fills, region_sums, region_values, regions_of, reliability
from faithface.regions.agreement import specific_agreement
from faithface.regions.shapley import ENOUGH, fills_needed
from faithface.seeds import rng_for
from training.simulate_statistics import replace
from training.train_zoo import ROOT

EXPLAINERS = (
    "occlusion",
    "xface",
    "hirescam",
    "grad-cam",
    "grad-cam++",
    "xssab",
    "fggb",
    "fggb(reading=signed)",
    "input-x-gradient",
    "edges",
    "random",
)
CONTROL = "centre-prior"
PAGE = ROOT / "docs" / "explanation" / "region-shapley.md"
RECORD = ROOT / "leaderboards" / "audit" / "regions.json"
SECTION = "study"


@dataclass(frozen=True)
class Studied:
    """What was found for one pair.

    Attributes:
        pair: its id.
        same: whether it is genuine.
        people: the persons in it, as the boards' statistics count them.
        values: F×k: exact region values for each fill, the sign as the score has it.
        passes: forward passes behind them.
        seconds: processor seconds behind them.
        sums: k numbers by explainer: the judged map summed over the regions.
    """

    pair: str
    same: bool
    people: tuple[str, ...]
    values: list[list[float]]
    passes: int
    seconds: float
    sums: dict[str, list[float]]

    @property
    def wanted(self) -> np.ndarray:
        """What the judged map should follow: the mean over fills, negated for impostor pairs."""
        return (1 if self.same else -1) * np.array(self.values).mean(axis=0)


def choose_pairs(dataset: Dataset, index: FaceIndex, count: int, seed: int = 0) -> list[Pair]:
    """Return ``count`` pairs, genuine and impostor in turn, that spread over the people as evenly as can be.

    Raises:
        UsageError: the data set has too few pairs of a kind.
    """
    pairs = [item for item in dataset.items() if isinstance(item, Pair)]
    order = rng_for(seed, dataset.name, "region study").permutation(len(pairs))
    left = {same: [pairs[int(i)] for i in order if pairs[int(i)].same is same] for same in (True, False)}
    seen = {same: np.zeros(int(index.person.max()) + 1, dtype=int) for same in left}
    chosen = []
    for number in range(count):
        same = number % 2 == 0
        if not left[same]:
            raise UsageError(f"the data set has too few {'genuine' if same else 'impostor'} pairs for {count} pairs")
        best = min(left[same], key=lambda pair: sum(seen[same][index.person[index.number[f.id]]] for f in pair.faces))
        left[same].remove(best)
        for face in best.faces:
            seen[same][index.person[index.number[face.id]]] += 1
        chosen.append(best)
    return chosen


def study_pair(
    registry: Registry,
    model: FaceModel,
    dataset: Dataset,
    index: FaceIndex,
    pair: Pair,
    threshold: float,
    explainers: Sequence[str],
    fills: int,
) -> Studied:
    """Compute the exact values of one pair, and every explainer's sums."""
    samples = load_samples(model, [pair], 0, threshold, dataset)
    labels = regions_of(model.size).labels
    known = tuple(face.id for face in pair.faces)
    start = time.process_time()
    strangers = make_fills(model, samples, "stranger", fills, dataset, known)
    (exact,) = region_values(model, samples, [strangers], labels)
    seconds = time.process_time() - start
    if exact.problem is not None:
        raise UsageError(f'pair "{pair.id}": {exact.problem}')
    kind = "similarity" if pair.same else "dissimilarity"
    sums = {}
    for name in (*explainers, CONTROL):
        maps = checked_maps(model, samples, registry.explainer(name).object)
        sums[name] = region_sums(maps.named()[kind][0, 0].detach().cpu().numpy(), labels).tolist()
    people = tuple(f"person {index.person[index.number[face]]}" for face in dict.fromkeys(known))
    return Studied(pair.id, pair.same, people, exact.values.tolist(), exact.passes, seconds, sums)


# --- what it says


@dataclass(frozen=True)
class Row:
    """One explainer over all pairs: means of Spearman's coefficient, and the paired gain over the centre prior.

    Attributes:
        genuine, impostor: mean agreement on pairs of one kind.
        mean, low, high: mean agreement over all pairs and its 95 % interval.
        gain, gain_low, gain_high: mean difference to the control, and its 95 % interval; NaN for the control.
        p: of "no gain", adjusted for the number of explainers by Holm's method.
        specific, specific_low, specific_high: mean agreement of what is specific to the pair; NaN where nothing is.
    """

    explainer: str
    genuine: float
    impostor: float
    mean: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float
    p: float
    specific: float
    specific_low: float
    specific_high: float


def summarise(found: Sequence[Studied]) -> list[Row]:
    """Return a row per explainer, the largest mean agreement first."""
    names = list(found[0].sums)
    people = {one.pair: one.people for one in found}
    by_name = {name: _agreements(found, name) for name in names}
    versus = {name: compare(by_name[name], by_name[CONTROL], people) for name in names if name != CONTROL}
    p = holm({name: one.p for name, one in versus.items()})
    rows = []
    for name in names:
        values = np.array([by_name[name][one.pair] for one in found])
        own = _specific(found, name)
        at = [one.people for one in found]
        interval, specific = mean_interval(values, at), _interval(own, at)
        gain = versus.get(name)
        same = np.array([one.same for one in found])
        rows.append(
            Row(
                name,
                float(values[same].mean()),
                float(values[~same].mean()),
                float(values.mean()),
                interval.low,
                interval.high,
                *((gain.difference, gain.low, gain.high, float(p[name])) if gain else (math.nan,) * 4),
                *specific,
            )
        )
    return sorted(rows, key=lambda row: -row.mean)


def holm(p: Mapping[str, float]) -> dict[str, float]:
    """Return p values corrected for their number by Holm's step-down (1979); NaN (nothing is claimed) stays.

    Examples:
        >>> holm({"a": 0.01, "b": 0.04, "c": 0.03})
        {'a': 0.03, 'b': 0.06, 'c': 0.06}
    """
    given = sorted((value, name) for name, value in p.items() if math.isfinite(value))
    corrected, largest = dict.fromkeys(p, math.nan), 0.0
    for place, (value, name) in enumerate(given):
        largest = max(largest, min(1.0, value * (len(given) - place)))
        corrected[name] = largest
    return corrected


def _agreements(found: Sequence[Studied], name: str) -> dict[str, float]:
    """Spearman's coefficient by pair; a map with equal sums agrees with nothing: 0."""
    return {
        one.pair: float(
            np.nan_to_num(agreement(name, "", "stranger", np.array(one.sums[name]), one.wanted, math.nan).spearman)
        )
        for one in found
    }


def _specific(found: Sequence[Studied], name: str) -> np.ndarray:
    """Agreement after each region's mean is taken away, within the pairs of a kind: they are judged by other maps."""
    own = np.full(len(found), np.nan)
    for same in (True, False):
        at = [i for i, one in enumerate(found) if one.same is same]
        if len(at) >= 3:
            own[at] = specific_agreement(
                np.array([found[i].sums[name] for i in at]), np.array([found[i].wanted for i in at])
            )
    return own


def _interval(values: np.ndarray, people: Sequence[Sequence[str]]) -> tuple[float, float, float]:
    there = np.isfinite(values)
    if not there.any():
        return math.nan, math.nan, math.nan
    interval = mean_interval(values[there], [one for one, is_there in zip(people, there, strict=True) if is_there])
    return float(values[there].mean()), interval.low, interval.high


def render(found: Sequence[Studied], source: str) -> str:
    """Return the section of the page."""
    fills, k = np.array(found[0].values).shape
    same = sum(one.same for one in found)
    of_values = np.array([reliability(np.array(one.values)) for one in found])
    of_order = np.array([reliability(_ranks(np.array(one.values)), ranks=True) for one in found])
    ceiling = float(np.sqrt(of_order).mean())
    rows = summarise(found)
    control = next(row for row in rows if row.explainer == CONTROL)
    better = [row.explainer for row in rows if row.gain_low > 0 and row.p < 0.05]
    unsure = [row.explainer for row in rows if row.gain_low > 0 and row.p >= 0.05]
    worse = [row.explainer for row in rows if row.gain_high < 0 and row.p < 0.05]
    seconds = float(np.median([one.seconds for one in found]))
    people = len({name for one in found for name in one.people})
    lines = [
        f"{len(found)} pairs ({same} genuine, {len(found) - same} impostor) of {people} people, {source}, {k} regions, "
        f"{fills} strangers as fills: {found[0].passes:,} passes and {seconds:.0f} processor seconds a pair (median).",
        "",
        f"Reliability of the mean over {fills} fills, median and range over pairs: values {_spread(of_values)}, order "
        f"of the regions {_spread(of_order)}. A map that gave the true values would reach {ceiling:.2f} on average.",
        _enough(of_values, fills, 1 << k, "values reach"),
        _enough(of_order, fills, 1 << k, "order reaches"),
        "",
        "Means of Spearman's coefficient over pairs, with 95 % intervals that take people into account. *Gain* is the "
        "paired difference to the centre prior, p is adjusted for the number of explainers (Holm). *Specific* is the "
        "agreement after each region's mean over the pairs of a kind is taken away.",
        "",
        "| explainer | genuine | impostor | all | gain over the centre prior | p | specific |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| `{row.explainer}` | {_signed(row.genuine)} | {_signed(row.impostor)} | "
        f"{_with_interval(row.mean, row.low, row.high)} | {_with_interval(row.gain, row.gain_low, row.gain_high)} | "
        f"{'–' if math.isnan(row.p) else '< 0.001' if row.p < 0.001 else f'{row.p:.3f}'} | "
        f"{_with_interval(row.specific, row.specific_low, row.specific_high)} |"
        for row in rows
    ]
    lines += [
        "",
        f"Better than the centre prior ({_signed(control.mean)}): {_names(better)}."
        + (f" Better before the correction for many comparisons only: {_names(unsure)}." if unsure else "")
        + f" Worse: {_names(worse)}. For the others the difference may be chance.",
        "",
        "What is specific to a pair, of which the centre prior knows nothing, is followed by (interval above zero): "
        f"{_names([row.explainer for row in rows if row.specific_low > 0])}.",
    ]
    return "\n".join(line for line, before in zip(lines, ["x", *lines], strict=False) if line or before)


def _ranks(values: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata

    return np.asarray(rankdata(values, axis=1))


def _spread(values: np.ndarray) -> str:
    return f"{np.median(values):.2f} ({values.min():.2f} to {values.max():.2f})"


def _enough(values: np.ndarray, fills: int, passes: int, what: str) -> str:
    """Say on how many pairs a reliability is enough, and how many fills it takes for the median and the weakest."""
    reached = int((values >= ENOUGH).sum())
    needed = [fills_needed(float(value), fills) for value in (np.median(values), values.min())]
    costs = [f"{n} fills ({n * passes:,} passes)" if n else "more fills than can be told" for n in needed]
    return (
        f"The {what} {ENOUGH} on {reached} of {len(values)} pairs with {fills} fills; by the Spearman–Brown formula "
        f"the median pair needs {costs[0]}, the weakest {costs[1]}."
    )


def _signed(value: float) -> str:
    return "–" if math.isnan(value) else f"{value:+.2f}".replace("-", "−")


def _with_interval(value: float, low: float, high: float) -> str:
    if math.isnan(value):
        return "–"
    return _signed(value) + ("" if math.isnan(low) else f" [{_signed(low)}, {_signed(high)}]")


def _names(names: Sequence[str]) -> str:
    return ", ".join(f"`{name}`" for name in names) or "none"


# --- the record and the command


def as_record(found: Sequence[Studied], source: str) -> dict[str, Any]:
    """Return findings as JSON takes them: pairs and people by number, and numbers to six digits."""
    people = {name: f"person {i}" for i, name in enumerate(dict.fromkeys(n for one in found for n in one.people))}
    rows = []
    for number, one in enumerate(found):
        rows.append(
            {
                **asdict(one),
                "pair": f"pair {number}",
                "people": [people[name] for name in one.people],
                "values": [_rounded(row) for row in one.values],
                "seconds": round(one.seconds, 1),
                "sums": {name: _rounded(sums) for name, sums in one.sums.items()},
            }
        )
    return {"source": source, "pairs": rows}


def _rounded(values: Sequence[float]) -> list[float]:
    return [float(f"{value:.6g}") for value in values]


def text_of(record: Mapping[str, Any]) -> str:
    """Return the section of the page that a record gives."""
    return render([_studied(row) for row in record["pairs"]], record["source"])


def _studied(row: Mapping[str, Any]) -> Studied:
    return Studied(**{**row, "people": tuple(row["people"])})


def read(path: Path) -> dict[str, Studied]:
    """Return what an earlier call has found, by pair."""
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    rows = [json.loads(line) for line in lines]
    return {row["pair"]: _studied(row) for row in rows}


def write_page(record: Mapping[str, Any]) -> None:
    PAGE.write_text(replace(PAGE.read_text(encoding="utf-8"), SECTION, text_of(record)), encoding="utf-8")


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--model", default="resnet29")
    parser.add_argument("--dataset", help="aligned pairs; none: the page is written from the record")
    parser.add_argument("--source", default="aligned photographs", help="what the page calls the data set")
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--fills", type=int, default=8)
    parser.add_argument("--explainer", action="append", help="repeatable; default: the list of this module")
    parser.add_argument("--found", type=Path, help="where findings are kept: .jsonl")
    parser.add_argument("--publish", action="store_true", help="write the record and the page")
    given = parser.parse_args(arguments)
    if given.dataset is None:
        write_page(json.loads(RECORD.read_text(encoding="utf-8")))
        return
    if given.found is None:
        parser.error("--dataset needs --found, where findings are kept")
    registry = load_registry()
    dataset = registry.dataset(given.dataset).object
    index = build_index(dataset)
    chosen = choose_pairs(dataset, index, given.pairs)
    found = read(given.found)
    todo = [pair for pair in chosen if pair.id not in found]
    if todo:
        model = open_model(registry.model(given.model).object)
        threshold = clean_threshold(model, dataset)
        given.found.parent.mkdir(parents=True, exist_ok=True)
        for pair in todo:
            names = given.explainer or EXPLAINERS
            try:
                found[pair.id] = study_pair(registry, model, dataset, index, pair, threshold, names, given.fills)
            except FaithfaceError as error:
                raise SystemExit(f"{pair.id}: {error}") from None
            with given.found.open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(found[pair.id])) + "\n")
            print(f"{pair.id}: {found[pair.id].seconds:.1f} s", flush=True)
    record = as_record([found[pair.id] for pair in chosen], f"{given.source}, `{given.model}`")
    if given.publish:
        rows = ",\n".join(json.dumps(row) for row in record["pairs"])  # a line for each pair
        text = f'{{"source": {json.dumps(record["source"])}, "pairs": [\n{rows}\n]}}\n'
        RECORD.write_text(text, encoding="utf-8")
        write_page(record)
    print(text_of(record))


if __name__ == "__main__":
    main()
