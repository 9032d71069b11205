"""Which explainers follow the exact region values on this network and this set, better than a map of no face does.

Place in the flow: a part of ``report``. May call ``regions``, ``explaining``, ``loading``, and the boards' statistics
for paired comparisons.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from faithface.boards.compare import compare
from faithface.boards.statistics.means import mean_interval
from faithface.contract import Dataset, FaceModel, Maps, Pair, Sample, Samples
from faithface.errors import FaithfaceError
from faithface.explaining import checked_maps, what_happened
from faithface.loading import load_samples
from faithface.plugins import Registry
from faithface.regions.agreement import agreement, region_sums
from faithface.regions.fills import make_fills
from faithface.regions.partition import Regions
from faithface.regions.values import region_values

CONTROL = "centre-prior"
CLASSIFIERS = ("occlusion", "grad-cam", "hirescam", "input-x-gradient", "smoothgrad")
PAIRS = ("occlusion", "xface", "hirescam", "fggb", "input-x-gradient")


@dataclass(frozen=True)
class Trusted:
    """One explainer over the samples.

    Attributes:
        explainer: the name with its parameters.
        mean, low, high: rank agreement with the exact values (Spearman), and its 95 % interval over people.
        gain, gain_low, gain_high: the paired difference to the centre prior; NaN for the centre prior itself.
    """

    explainer: str
    mean: float
    low: float
    high: float
    gain: float
    gain_low: float
    gain_high: float

    @property
    def verdict(self) -> str:
        if self.explainer == CONTROL:
            return "control"
        if not np.isfinite(self.gain_low):
            return "too few people to tell"
        return "follows the network" if self.gain_low > 0 else "misleads" if self.gain_high < 0 else "may be chance"


@dataclass(frozen=True)
class Trust:
    """What the report says of explainers: a row for each, the best first, and how sure the exact values are.

    Attributes:
        rows: explainers.
        n: samples.
        fill, fills: what replaced a region, and how many of them.
        ceiling: the mean agreement that a perfect map would reach.
        failures: one line per explainer that gave no map.
        passes: forward passes of the exact values.
    """

    rows: tuple[Trusted, ...]
    n: int
    fill: str
    fills: int
    ceiling: float
    failures: tuple[str, ...]
    passes: int


def trust(
    registry: Registry,
    model: FaceModel,
    data: Dataset,
    items: Sequence[Sample | Pair],
    regions: Regions,
    explainers: Sequence[str],
    fills: int,
    threshold: float | None,
    seed: int,
) -> Trust:
    """Compare explainers with exact region values on some samples.

    Raises:
        UsageError, RunError: as the exact values do.
    """
    kind = "stranger" if data.aligned else "blur"
    names = [*dict.fromkeys([*explainers, CONTROL])]
    found: dict[str, dict[str, float]] = {name: {} for name in names}
    failures: dict[str, str] = {}
    ceilings, passes = [], 0
    people: dict[str, tuple[str, ...]] = {}
    for item in items:
        samples = load_samples(model, [item], seed, threshold, data)  # type: ignore[arg-type]
        known = tuple(face.id for face in item.faces)
        strangers = make_fills(model, samples, kind, fills, data, known)
        (exact,) = region_values(model, samples, [strangers], regions.labels)
        passes += exact.passes
        if exact.problem is not None:
            continue
        side, sign = _judged(samples)
        people[item.id] = tuple(sorted({face.identity or face.id for face in item.faces}))
        reliability = exact.rank_reliability
        for name in names:
            if name in failures:
                continue
            try:
                maps = checked_maps(model, samples, registry.explainer(name).object)
            except Exception as error:  # a plugin may raise anything; the others are still compared
                failures[name] = f'explainer "{name}" gave no map: ' + (
                    str(error) if isinstance(error, FaithfaceError) else what_happened(error)
                )
                continue
            one = agreement(name, "", kind, region_sums(side(maps), regions.labels), sign * exact.mean, reliability)
            found[name][item.id] = float(np.nan_to_num(one.spearman))
        # A single fill has no spread: its values are exact.
        ceilings.append(1.0 if np.isnan(reliability) else float(np.sqrt(max(reliability, 0.0))))
    rows = [_row(name, found[name], found[CONTROL], people) for name in names if name not in failures and found[name]]
    rows.sort(key=lambda row: -row.mean)
    ceiling = float(np.mean(ceilings)) if ceilings else float("nan")
    return Trust(tuple(rows), len(ceilings), kind, fills, ceiling, tuple(failures.values()), passes)


def _judged(samples: Samples) -> tuple[Callable[[Maps], np.ndarray], float]:
    """Return which map of the probe is judged, and the sign of the values that it should follow."""
    if not samples.are_pairs:
        return lambda maps: maps.named()["relevance"][0].detach().cpu().numpy(), 1.0
    accepted = bool(samples.clean.predicted[0])
    kind = "similarity" if accepted else "dissimilarity"
    return lambda maps: maps.named()[kind][0, 0].detach().cpu().numpy(), 1.0 if accepted else -1.0


def _row(name: str, values: dict[str, float], control: dict[str, float], people: dict[str, tuple[str, ...]]) -> Trusted:
    own = np.array(list(values.values()))
    interval = mean_interval(own, [people[sample] for sample in values])
    gain = (float("nan"),) * 3
    if name != CONTROL and control:
        try:
            versus = compare(values, control, {sample: people[sample] for sample in values})
            gain = (versus.difference, versus.low, versus.high)
        except FaithfaceError:
            pass
    # An interval of few samples is cut where correlations end.
    low, high = np.clip([interval.low, interval.high], -1, 1)
    return Trusted(name, float(own.mean()), float(low), float(high), *gain)
