"""What several metrics ask of the maps: which map is judged, is it valid, how are its pixels ranked.

Place in the flow: called by the metrics beside it; may call ``contract`` and ``errors``.

The **judged map** is one per sample: a classifier's relevance, the probe's similarity on a genuine pair, the probe's
dissimilarity on an impostor pair. The probe is image A, the one that perturbation metrics alter.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Maps, Samples, Scores
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.reasons import Reason

if TYPE_CHECKING:
    from torch import Tensor

CONSTANT = "constant map"


def judged_kinds(samples: Samples) -> tuple[str, ...]:
    """Return the name of each sample's judged map."""
    if not samples.are_pairs:
        return ("relevance",) * len(samples)
    return tuple("similarity" if same else "dissimilarity" for same in samples.genuine)


def judged(samples: Samples, maps: Maps) -> Tensor:
    """Return the judged maps, float32 N×H×W (see the module's first lines); shared between metrics, not to be altered.

    Raises:
        UsageError: a map that is needed is not there.
    """
    return maps.cached(pick, judged_kinds(samples))


def pick(maps: Maps, kinds: tuple[str, ...]) -> Tensor:
    """Return one map per sample by name, of the probe where the maps belong to pairs: float32 N×H×W."""
    named = maps.named()
    missing = sorted(set(kinds) - set(named))
    if missing:
        raise UsageError(f"the maps hold {', '.join(named) or 'nothing'}; expected {' and '.join(missing)} as well")
    probes = {kind: value[:, 0] if value.ndim == 4 else value for kind, value in named.items()}
    if len(set(kinds)) == 1:
        return probes[kinds[0]].detach()
    return torch.stack([probes[kind][i] for i, kind in enumerate(kinds)]).detach()


def invalid(values: Tensor) -> dict[int, str]:
    """Return the reason, by index, for every map N×… that holds a value that is not finite."""
    finite = torch.isfinite(values).flatten(1).all(dim=1)
    return {int(i): "the map is not finite" for i in torch.nonzero(~finite).flatten()}


def constant(values: Tensor, remark: str = CONSTANT) -> dict[int, str]:
    """Return a flag, by index, for every map N×… whose values are all equal."""
    flat = values.flatten(1)
    same = (flat == flat[:, :1]).all(dim=1)
    return {int(i): remark for i in torch.nonzero(same).flatten()}


def finite(values: Tensor) -> Tensor:
    """Return maps N×H×W with every map that is not finite replaced by zeros, so that the batch can go on."""
    bad = list(invalid(values))
    if not bad:
        return values
    values = values.clone()
    values[bad] = 0
    return values


def result(
    values: Mapping[str, np.ndarray],
    reasons: Mapping[int, Reason | str],
    flags: Mapping[int, Reason | str] | None = None,
    curves: Mapping[str, np.ndarray] | None = None,
) -> Scores:
    """Return Scores in which every sample with a reason is NaN, and has no flag."""
    blank = sorted(reasons)

    def cleared(array: np.ndarray) -> np.ndarray:
        array = np.array(array, dtype=np.float64)
        array[blank] = np.nan
        return array

    return Scores(
        {name: cleared(array) for name, array in values.items()},
        dict(reasons),
        {name: cleared(array) for name, array in (curves or {}).items()},
        {i: text for i, text in (flags or {}).items() if i not in reasons},
    )


def to_numpy(values: Tensor) -> np.ndarray:
    """Return float64 values on the host."""
    return values.detach().to("cpu", torch.float64).numpy()


def check_grid(grid: int) -> None:
    """Refuse a negative grid where a metric is made."""
    if grid < 0:
        raise ValueError(f"grid is {grid}; expected 0 (pixels) or the number of cells per side")


def on_grid(values: Tensor, grid: int) -> Tensor:
    """Return the mean of each map N×H×W over the cells of a G×G grid, float64 N×G×G; ``grid=0``: the pixels themselves.

    Cells are those of ``perturb.ranking``: pixel row r belongs to cell row ⌊r·G/H⌋, columns alike.

    Raises:
        UsageError: a grid finer than the map.
    """
    values = values.double()
    height, width = values.shape[-2:]
    if not grid:
        return values
    if not 0 < grid <= min(height, width):
        raise UsageError(f"grid is {grid}; expected 0 (pixels) or 1 to {min(height, width)} for {height}×{width} maps")
    rows, columns = (_membership(n, grid).to(values.device) for n in (height, width))
    return rows @ values @ columns.T


def _membership(pixels: int, grid: int) -> Tensor:
    """Return float64 G×pixels: 1 / (pixels in the cell) where a pixel belongs to a cell, else 0."""
    cell = torch.arange(pixels) * grid // pixels
    member = (cell[None] == torch.arange(grid)[:, None]).double()
    return member / member.sum(dim=1, keepdim=True)
