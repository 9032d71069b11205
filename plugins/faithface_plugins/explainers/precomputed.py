"""Maps made elsewhere: ``maps:DIR`` reads one file per sample, so that any method can be scored without its code.

Place in the flow: registered by the package; reads files, never the model. Metrics that must explain altered images are
not applicable (``reexplains`` is False).

Layout, the same that ``faithface export`` writes for one model, data set and explainer:

* ``<sample id>.npz`` with ``relevance`` H×W for a classifier; for a pair ``similarity`` and ``dissimilarity``, each
  2×H×W (faces a, b), both >= 0. A pair's missing ``dissimilarity`` (or ``similarity``) is zeros.
* or grey ``.png``, 8 or 16 bit, read as 0 to 1: ``<sample id>.png`` for a classifier; for a pair ``<sample
  id>.similarity.a.png``, ``….similarity.b.png``, and likewise ``dissimilarity``.

Sizes other than the model's input are resized bilinearly, and the stored map is available as ``native``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import PAIR_MAPS, Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import UsageError
from faithface.images import read_grey
from faithface.lazy import torch
from faithface.limits import MAX_MAP_SIDE
from faithface.npz import read_npz
from faithface.specs import configure, split_argument
from faithface_plugins.explainers.cam_math import resize

if TYPE_CHECKING:
    from torch import Tensor

Raw = dict[str, np.ndarray]


@dataclass(frozen=True)
class Precomputed(Explainer):
    """Precomputed maps: ``maps:DIR``, or ``maps:DIR(provenance=TEXT)``; see the module for the layout of DIR.

    Parameters:
        provenance: where the maps come from, in a few words; it is part of the record.

    Cost: none that can be measured; what making the maps cost is not known.

    Raises:
        UsageError: no such folder; a sample without a map; a file that is not a map of the right kind.
    """

    directory: str = field(default="", metadata={"parameter": False})
    provenance: str = ""

    needs_argument = True
    method = Method(name="maps", needs=frozenset(), source="precomputed", reexplains=False)

    @property
    def info(self) -> Method:
        return dataclasses.replace(self.method, name=f"maps:{self.directory}") if self.directory else self.method

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        directory, params = split_argument(argument)
        if not Path(directory).is_dir():
            raise UsageError(f"maps:{directory}: no such folder; expected one with a file per sample, such as ID.npz")
        opened = dataclasses.replace(self, directory=directory)
        return configure(opened, params, 'explainer "maps"')  # type: ignore[no-any-return]

    def files(self, sample_ids: Sequence[str]) -> list[Path]:
        """Return the files of some samples, as far as they exist."""
        stems = [Path(self.directory) / sample_id for sample_id in sample_ids]
        sides = [f".{kind}.{side}" for kind in PAIR_MAPS for side in "ab"]
        ends = [".npz", ".png", *(f"{side}.png" for side in sides)]
        paths = [stem.with_name(stem.name + end) for stem in stems for end in ends]
        return [path for path in paths if path.is_file()]

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        if not self.directory:
            raise UsageError('explainer "maps" needs a folder: write maps:DIR')
        raw = [self._read(sample_id, samples.are_pairs) for sample_id in samples.ids]
        note = {"directory": self.directory, "provenance": self.provenance}
        device = samples.images.device
        kinds = PAIR_MAPS if samples.are_pairs else ("relevance",)
        large = {k: torch.stack([_fit(r[k], model.size) for r in raw]).to(device) for k in kinds}
        first = [torch.from_numpy(r[kinds[0]]) for r in raw]
        native = None
        if len({m.shape for m in first}) == 1 and tuple(first[0].shape[-2:]) != tuple(model.size):
            native = torch.stack(first).to(device)
        return Maps(
            large.get("relevance"), large.get("similarity"), large.get("dissimilarity"), native=native, note=note
        )

    def _read(self, sample_id: str, pair: bool) -> Raw:
        stem = Path(self.directory) / sample_id
        packed = stem.with_name(stem.name + ".npz")
        found = read_npz(packed) if packed.is_file() else _read_pngs(stem, pair)
        wanted, dimensions = (PAIR_MAPS, 3) if pair else (("relevance",), 2)
        maps = {kind: found[kind].astype(np.float32) for kind in wanted if kind in found}
        if not maps:
            have = ", ".join(sorted(found)) or "none"
            raise UsageError(
                f'{stem}: no map of sample "{sample_id}" here (arrays found: {have}); expected {packed.name} with '
                f"{' and '.join(wanted)}, or PNG files"
            )
        for kind, array in maps.items():
            if array.ndim != dimensions or (pair and len(array) != 2) or 0 in array.shape:
                expected = "2×H×W" if pair else "H×W"
                raise UsageError(f"{stem}: {kind} has shape {array.shape}; expected {expected}")
            if max(array.shape) > MAX_MAP_SIDE:
                raise UsageError(f"{stem}: {kind} has shape {array.shape}; a side may have {MAX_MAP_SIDE} at most")
            if pair and (array < 0).any():
                raise UsageError(f"{stem}: {kind} has values below 0; expected both maps of a pair to be >= 0")
        some = next(iter(maps.values()))
        return {kind: maps.get(kind, np.zeros_like(some)) for kind in wanted}


def _read_pngs(stem: Path, pair: bool) -> Raw:
    if not pair:
        path = stem.with_name(stem.name + ".png")
        return {"relevance": read_grey(path)} if path.is_file() else {}
    found: Raw = {}
    for kind in PAIR_MAPS:
        paths = [stem.with_name(f"{stem.name}.{kind}.{side}.png") for side in "ab"]
        if all(path.is_file() for path in paths):
            a, b = (read_grey(path) for path in paths)
            if a.shape != b.shape:
                raise UsageError(f"{paths[0]}: size {a.shape}, but {paths[1].name} has {b.shape}; expected one size")
            found[kind] = np.stack([a, b])
    return found


def _fit(array: np.ndarray, size: tuple[int, int]) -> Tensor:
    return resize(torch.from_numpy(np.ascontiguousarray(array)), size)


EXPLAINERS: tuple[Explainer, ...] = (Precomputed(),)
