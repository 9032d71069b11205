"""Gaps of several maps of one sample, in one plan: they share the image, the fill, the ties and the batches.

Place in the flow: behind ``gap-specific@1``; users may call :func:`gaps_of_several` themselves. May call ``curves``,
``ranking``, ``fills``, ``masking_plan`` and ``engine``. Each number is that of
:func:`faithface.perturb.curves.curves` for that map alone."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel, Fill, Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.perturb.curves import _filled_scores, _scores, area
from faithface.perturb.engine import run_masking_plan
from faithface.perturb.fills import altered_images, check_fill, fill_images
from faithface.perturb.masking_plan import Track, plan_tracks
from faithface.perturb.ranking import kept_counts, rank, unit_counts
from faithface.threads import one_thread

if TYPE_CHECKING:
    from torch import Tensor


def gaps_of_several(
    model: FaceModel, samples: Samples, maps: Tensor, fill: str | Fill, grid: int = 0, points: int = 51
) -> np.ndarray:
    """Return area(insertion) − area(deletion) of M maps for each of N samples: float64 M×N.

    Maps of a sample that rank its units alike are run once and get the same number, so that the difference of
    the gaps of two equal maps is 0 and not a rounding error.

    Args:
        maps: float32 M×N×H×W, for the sample's image or the pair's probe; a map that is not finite has the gap NaN.
        fill: see :mod:`faithface.perturb.fills`; one that depends on the mask is not possible here.
        grid, points: as in :func:`faithface.perturb.curves.curves`.

    Raises:
        UsageError: maps of another shape than the samples, an unknown fill, a grid that does not fit.
        NotApplicable: the fill does not fit the samples.
    """
    count, n = len(maps), len(samples)
    expected = (n, *samples.images.shape[-2:])
    if tuple(maps.shape[1:]) != expected:
        raise UsageError(f"the maps have shape {tuple(maps.shape)}; expected M×{'×'.join(map(str, expected))}")
    check_fill(fill, samples.dataset, samples.are_pairs, masks=False)
    maps = maps.to(samples.images.device, torch.float32)
    finite = torch.isfinite(maps).flatten(2).all(dim=2).cpu().numpy()
    with one_thread():
        rankings = [rank(one, samples, grid) for one in maps]
        orders = torch.stack([ranking.order for ranking in rankings])
        first = _first_alike(orders.cpu().numpy())
        alone = [(m, i) for m in range(count) for i in range(n) if finite[m, i] and first[m, i] == m]
        units = rankings[0].units
        counts = {"deletion": unit_counts(units, points), "insertion": kept_counts(units, points)}
        inner = {direction: np.setdiff1d(at, [0, units]) for direction, at in counts.items()}
        canvases = torch.cat([altered_images(samples)[:, 0], fill_images(model, samples, fill)[:, 0]])
        rows = np.array([i for _, i in alone], dtype=np.int64)
        tracks: dict[str, list[Track]] = {}
        for direction, at in inner.items():
            stops = [ranking.pixels(at) for ranking in rankings]
            tracks[direction] = [
                Track(i + n * (direction == "insertion"), i + n * (direction == "deletion"), m * n + i, stops[m][i])
                for m, i in alone
            ]
        outputs: dict[str, Tensor] = {}
        # Both directions stop equally often, unless a halfway count falls on an end in one of them.
        groups = [list(tracks)] if len(inner["deletion"]) == len(inner["insertion"]) else [[d] for d in tracks]
        for group in groups:
            chosen = [track for direction in group for track in tracks[direction]]
            done = run_masking_plan(model, plan_tracks(canvases, orders.flatten(0, 1), chosen))
            outputs |= dict(zip(group, done.reshape(len(group), len(alone), *done.shape[1:]), strict=True))
        clean = samples.clean.scores.double().cpu().numpy()
        filled = samples.cached(_filled_scores, model, fill, 1)
        areas = {}
        for direction, at in counts.items():
            start, end = (clean, filled) if direction == "deletion" else (filled, clean)
            by_count = np.full((len(alone), units + 1), np.nan)
            by_count[:, 0], by_count[:, units] = start[rows], end[rows]
            if len(inner[direction]) and alone:
                by_count[:, inner[direction]] = _scores(model, samples, outputs[direction][None], rows)
            areas[direction] = area(by_count[:, at])
    gaps = np.full((count, n), np.nan)
    for place, (m, i) in enumerate(alone):
        gaps[m, i] = areas["insertion"][place] - areas["deletion"][place]
    return np.where(finite, np.take_along_axis(gaps, first, axis=0), np.nan)


def _first_alike(orders: np.ndarray) -> np.ndarray:
    """Return the number of the first map that ranks a sample's pixels as this one does: int64 M×N of M×N×(H·W)."""
    first = np.tile(np.arange(len(orders))[:, None], (1, orders.shape[1]))
    for later in range(len(orders) - 1, 0, -1):
        for earlier in range(later - 1, -1, -1):
            alike = (orders[later] == orders[earlier]).all(axis=1)
            first[later, alike] = earlier
    return first
