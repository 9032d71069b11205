"""What several metrics ask of the maps: which map is judged, is it valid, how are its pixels ranked.

Place in the flow: called by the metrics beside it; may call ``contract`` and ``errors``.

The **judged map** is one per sample: a classifier's relevance, the probe's similarity on a genuine pair, the probe's
dissimilarity on an impostor pair. The probe is image A, the one that perturbation metrics alter.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Maps, Samples, Scores
from faithface.errors import UsageError

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
    return maps.shared("judged", lambda: pick(maps, judged_kinds(samples)))  # type: ignore[no-any-return]


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
    reasons: Mapping[int, str],
    flags: Mapping[int, str] | None = None,
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


def tie_order(samples: Samples, pixels: int) -> np.ndarray:
    """Return, per sample, the permutation of the pixels in which ties are broken: int64 N×pixels.

    It depends on the sample alone, so that every explainer's ties fall the same way (protocol rule 2).
    """

    def draw() -> np.ndarray:
        return np.stack([samples.rng(i, "ties").permutation(pixels) for i in range(len(samples))])

    return samples.shared(("ties", pixels), draw)  # type: ignore[no-any-return]


def descending(samples: Samples, values: Tensor) -> np.ndarray:
    """Return the pixels of each map N×H×W from the most to the least relevant: int64 N×(H·W), raster indices."""
    flat = values.flatten(1).cpu().numpy()
    ties = tie_order(samples, flat.shape[1])
    shuffled = np.take_along_axis(flat, ties, axis=1)
    return np.take_along_axis(ties, np.argsort(-shuffled, axis=1, kind="stable"), axis=1)
