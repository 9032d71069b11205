"""Deletion and insertion curves of a batch of maps: the one function behind all curve metrics.

Place in the flow: ``metrics/curves`` takes areas of what this returns; users may call :func:`curves` themselves. May
call ``ranking``, ``fills``, ``finite``, ``linear``, ``masking_plan``, ``engine``, and ``tasks`` for the scores.

At fraction f of the pixels, deletion has replaced the round(f·H·W) most salient pixels by the fill, and insertion has
put as many back into an image that starts as the fill. The clean image is scored when samples are loaded, the fill
once per sample (a pair's partner not at all: it is a clean image); neither is scored again for another explainer.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

import numpy as np

from faithface.contract import FaceModel, Fill, Maps, Samples
from faithface.contract.fill import SIDES
from faithface.errors import UsageError, nearest
from faithface.lazy import torch
from faithface.perturb.engine import run_masking_plan
from faithface.perturb.fills import altered_images, check_fill, fill_images, inpainted, sees_mask
from faithface.perturb.finite import require_finite
from faithface.perturb.masking_plan import Track, plan_tracks
from faithface.perturb.ranking import Ranking, kept_counts, rank, unit_counts
from faithface.reasons import Reason, ReasonCode
from faithface.tasks import class_probabilities, pair_similarity
from faithface.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor

Direction = Literal["deletion", "insertion"]
Alter = Literal["probe", "both"]
DIRECTIONS: tuple[Direction, ...] = ("deletion", "insertion")


@dataclass(frozen=True)
class Curves:
    """Scores along the curves of N maps.

    Attributes:
        fractions: float64 P: share of the pixels (of the cells, with a grid), 0 to 1.
        scores: float64 N×P by direction: probability of the class predicted on the clean image, or the pair's
            similarity. Rows of invalid maps are NaN.
        reasons: why a map (by index) is invalid.
        flags: remarks on maps that are scored nevertheless.
    """

    fractions: np.ndarray
    scores: Mapping[str, np.ndarray]
    reasons: Mapping[int, Reason] = field(default_factory=dict)
    flags: Mapping[int, Reason] = field(default_factory=dict)


@dataclass(frozen=True)
class _Setting:
    """What makes two requests for curves the same; the key under which they are shared."""

    kind: str
    fill: str | Fill
    grid: int
    points: int
    alter: str

    @property
    def sides(self) -> int:
        return 2 if self.alter == "both" else 1


def curves(
    model: FaceModel,
    samples: Samples,
    maps: Maps,
    kind: str | None = None,
    fill: str | Fill | None = None,
    grid: int = 0,
    points: int = 51,
    alter: Alter = "probe",
    directions: Sequence[Direction] = DIRECTIONS,
) -> Curves:
    """Return deletion and insertion curves; each is computed once per batch of maps and shared.

    Args:
        model, samples, maps: as an explainer received and made them.
        kind: ``relevance`` (classifiers), ``similarity`` or ``dissimilarity`` (pairs); default: the first that fits.
        fill: see :mod:`faithface.perturb.fills`, or a plugin's :class:`faithface.Fill`; default: ``blur`` for
            classifiers, ``stranger`` for similarity and ``partner`` for dissimilarity maps.
        grid: 0 = pixels, G = cells of a G×G grid (:func:`faithface.perturb.ranking.rank`).
        points: points of a curve, both ends included.
        alter: pairs: ``probe`` alters image A by its own map; ``both`` alters each image by its own map.
        directions: which curves are wanted.

    Raises:
        UsageError: maps of the wrong kind or shape, an unknown fill, a grid that does not fit.
        NotApplicable: the fill does not fit the samples.
    """
    kind = kind or next(iter(maps.named()))
    fill = fill or {"similarity": "stranger", "dissimilarity": "partner"}.get(kind, "blur")
    setting = _Setting(kind, fill, grid, points, alter)
    _maps_of(samples, maps, setting)  # refuses maps of a wrong kind or shape
    check_fill(fill, samples.dataset, samples.are_pairs)
    known = maps.cached(_known_curves, model, samples, setting)
    with one_thread():
        reasons, flags = maps.cached(_remarks, samples, setting)
        missing = [d for d in directions if d not in known]
        known.update(_compute(model, samples, maps, setting, missing, reasons))
    return Curves(np.linspace(0, 1, points), {d: known[d] for d in directions}, reasons, flags)


def _known_curves(maps: Maps, model: FaceModel, samples: Samples, setting: _Setting) -> dict[str, np.ndarray]:
    """Return the curves known so far by direction, to be filled in; called through :meth:`Maps.cached`.

    The same maps have other curves on another model, and on samples of another seed.
    """
    return {}


def area(curve: np.ndarray) -> np.ndarray:
    """Return the area under curves …×P by the trapezoid rule over equally spaced fractions of [0, 1].

    Examples:
        >>> float(area(np.array([1.0, 0.5, 0.0])))
        0.5
    """
    curve = np.asarray(curve, dtype=np.float64)
    return (curve.sum(axis=-1) - (curve[..., 0] + curve[..., -1]) / 2) / (curve.shape[-1] - 1)


def _maps_of(samples: Samples, maps: Maps, setting: _Setting) -> Tensor:
    """Return the maps that rank pixels: float32 N×sides×H×W."""
    named = maps.named()
    if setting.kind not in named:
        raise UsageError(f'these maps have no "{setting.kind}"; {nearest(setting.kind, named)}')
    found = named[setting.kind]
    expected = (len(samples), *((2,) if samples.are_pairs else ()), *samples.images.shape[-2:])
    if tuple(found.shape) != expected:
        raise UsageError(f"{setting.kind} maps have shape {tuple(found.shape)}; expected {expected} for these samples")
    if setting.points < 2:
        raise UsageError(f"points is {setting.points}; expected at least 2, both ends of the curve")
    if setting.alter == "both" and not samples.are_pairs:
        raise UsageError("alter=both needs pairs; a classifier's sample has one image: use alter=probe")
    found = found.to(samples.images.device, torch.float32)
    return found[:, : setting.sides] if samples.are_pairs else found[:, None]


def _remarks(maps: Maps, samples: Samples, setting: _Setting) -> tuple[dict[int, Reason], dict[int, Reason]]:
    relevance = _maps_of(samples, maps, setting)
    low, high = (m.cpu().numpy() for m in relevance.flatten(2).aminmax(dim=2))
    # A NaN anywhere makes both extremes NaN, an infinity one of them.
    finite = (np.isfinite(low) & np.isfinite(high)).all(axis=1)
    constant = (low == high).any(axis=1)
    bad = Reason(ReasonCode.NON_FINITE_MAP, "the map holds non-finite values")
    flat = Reason(ReasonCode.CONSTANT_MAP, "constant map")
    return {int(i): bad for i in np.flatnonzero(~finite)}, {int(i): flat for i in np.flatnonzero(constant & finite)}


def _rankings(maps: Maps, samples: Samples, kind: str, grid: int, alter: str) -> list[Ranking]:
    setting = _Setting(kind, "", grid, 2, alter)
    relevance = _maps_of(samples, maps, setting)
    return [rank(relevance[:, s], samples, grid, SIDES[s]) for s in range(setting.sides)]


def _compute(
    model: FaceModel,
    samples: Samples,
    maps: Maps,
    setting: _Setting,
    directions: Sequence[str],
    invalid: Mapping[int, Reason],
) -> dict[str, np.ndarray]:
    if not directions:
        return {}
    rankings = maps.cached(_rankings, samples, setting.kind, setting.grid, setting.alter)
    units = rankings[0].units
    counts = {"deletion": unit_counts(units, setting.points), "insertion": kept_counts(units, setting.points)}
    # Between the ends, each count is run once, however many points round to it.
    inner = {d: np.setdiff1d(counts[d], [0, units]) for d in directions}
    rows = np.array([i for i in range(len(samples)) if i not in invalid], dtype=np.int64)
    run = _run_inpainted if sees_mask(setting.fill) else _run_lanes
    outputs = run(model, samples, rankings, setting, rows, inner)
    clean = samples.clean.scores.double().cpu().numpy()
    filled = samples.cached(_filled_scores, model, setting.fill, setting.sides)
    curves: dict[str, np.ndarray] = {}
    for direction in directions:
        start, end = (clean, filled) if direction == "deletion" else (filled, clean)
        by_count = np.full((len(samples), units + 1), np.nan)
        by_count[rows, 0], by_count[rows, units] = start[rows], end[rows]
        if len(inner[direction]) and len(rows):
            by_count[np.ix_(rows, inner[direction])] = _scores(model, samples, outputs[direction], rows)
        curves[direction] = by_count[:, counts[direction]]
        require_finite(
            model, [samples.ids[i] for i in rows], curves[direction][rows], f"{direction} with fill {setting.fill}"
        )
    return curves


def _run_lanes(
    model: FaceModel,
    samples: Samples,
    rankings: Sequence[Ranking],
    setting: _Setting,
    rows: np.ndarray,
    inner: Mapping[str, np.ndarray],
) -> dict[str, Tensor]:
    """Run all directions, samples and sides as one plan; return outputs sides×R×S×K by direction."""
    sides, n = setting.sides, len(samples)
    images = altered_images(samples, sides).transpose(0, 1).flatten(0, 1)
    fills = fill_images(model, samples, setting.fill, sides).transpose(0, 1).flatten(0, 1)
    orders = torch.cat([ranking.order for ranking in rankings])
    outputs: dict[str, Tensor] = {}
    groups: dict[int, list[str]] = {}
    for direction, counts in inner.items():
        groups.setdefault(len(counts), []).append(direction)
    for directions in groups.values():
        tracks = []
        for direction in directions:
            for s in range(sides):
                stops = rankings[s].pixels(inner[direction])
                for i in rows:
                    image, fill = s * n + int(i), (sides + s) * n + int(i)
                    base, other = (image, fill) if direction == "deletion" else (fill, image)
                    tracks.append(Track(base, other, image, stops[i]))
        done = run_masking_plan(model, plan_tracks(torch.cat([images, fills]), orders, tracks))
        parts = done.reshape(len(directions), sides, len(rows), *done.shape[1:])
        outputs |= dict(zip(directions, parts, strict=True))
    return outputs


def _run_inpainted(
    model: FaceModel,
    samples: Samples,
    rankings: Sequence[Ranking],
    setting: _Setting,
    rows: np.ndarray,
    inner: Mapping[str, np.ndarray],
) -> dict[str, Tensor]:
    """Fill every altered image on its own: the fill depends on the mask, so there is nothing to share."""
    size = tuple(samples.images.shape[-2:])
    outputs: dict[str, Tensor] = {}
    for direction, counts in inner.items():
        parts = []
        for s, ranking in enumerate(rankings):
            for i in rows:
                masks = [ranking.removed(int(i), int(k)).cpu().numpy().reshape(size) for k in counts]
                removed = masks if direction == "deletion" else [~mask for mask in masks]
                if removed:
                    made = inpainted(model, samples, setting.fill, int(i), np.stack(removed), s)
                    parts.append(model.outputs(made).cpu())
        stacked = torch.stack(parts) if parts else torch.zeros((0, 0, 0))
        outputs[direction] = stacked.reshape(setting.sides, len(rows), len(counts), -1) if parts else stacked
    return outputs


def _filled_scores(samples: Samples, model: FaceModel, fill: str | Fill, sides: int) -> np.ndarray:
    """Return the scores of the fully masked samples (float64 N); called through :meth:`Samples.cached`."""
    if fill == "partner":
        outputs = samples.clean.outputs.flip(1)[:, :sides].transpose(0, 1)
    else:
        if sees_mask(fill):
            full = np.ones((1, *samples.images.shape[-2:]), dtype=bool)
            fills = torch.stack(
                [
                    torch.cat([inpainted(model, samples, fill, i, full, s) for s in range(sides)])
                    for i in range(len(samples))
                ]
            )
        else:
            fills = fill_images(model, samples, fill, sides)
        outputs = model.outputs(fills.flatten(0, 1)).unflatten(0, (len(samples), sides)).transpose(0, 1)
    return _scores(model, samples, outputs[:, :, None], np.arange(len(samples)))[:, 0]


def _scores(model: FaceModel, samples: Samples, outputs: Tensor, rows: np.ndarray) -> np.ndarray:
    """Turn raw outputs sides×R×S×K of altered images into scores R×S."""
    at = torch.from_numpy(rows)
    outputs = outputs.cpu()
    if samples.are_pairs:
        clean = samples.clean.outputs.cpu()[at]
        reference = outputs[1] if len(outputs) == 2 else clean[:, 1:2].expand_as(outputs[0])
        return pair_similarity(model.card, outputs[0], reference).double().numpy()
    n, stops, width = outputs[0].shape
    probabilities = class_probabilities(model.card, outputs[0].reshape(n * stops, width)).reshape(n, stops, -1)
    predicted = samples.clean.predicted.cpu()[at]
    return probabilities.gather(2, predicted[:, None, None].expand(n, stops, 1))[..., 0].double().numpy()
