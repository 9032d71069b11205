"""Other samples of the same kind, and an explainer's maps of them: what a map is held against to be called specific.

Place in the flow: called by ``gap_specific``. May call ``perturb.strangers``, ``loading``, ``_maps``, ``contract``.

* **The circle.** The samples of one kind in the whole dataset stand in a circle, in the order of their seeds. The
  others of a sample are those that follow it. So each sample is another's other equally often: what is good or bad in
  a map at large cancels in the mean, and nothing depends on batch, order or worker.
* **The order** is the one in which a run's limit takes samples (``run.plan.choose``), so that in a run of few samples
  the others are among them, and each sample is explained about twice.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import Dataset, Explainer, FaceModel, Pair, Sample, Samples
from faithface.lazy import torch
from faithface.loading import load_samples
from faithface.metrics import _maps
from faithface.seeds import seed_for

if TYPE_CHECKING:
    from torch import Tensor

BATCH = 16  # samples that are explained at a time
CAPACITY = 256 * 2**20  # bytes of maps that are kept with a model


def kind_of(item: Sample | Pair) -> str:
    """Return the kind of a sample: a classifier's label; of a pair whether it is genuine, and the name of its sort."""
    if isinstance(item, Sample):
        return item.label or "unlabelled"
    return " ".join(filter(None, ("genuine" if item.same else "impostor", item.kind)))


@dataclass(frozen=True, eq=False)
class Circles:
    """The samples of a dataset by kind, each kind in a circle.

    Attributes:
        items: all samples, in the order of the dataset.
        persons: the people on each sample, as numbers.
        circle: the positions of the samples of a kind, in their circle's order.
        place: kind and place in its circle, by sample id.
    """

    items: Sequence[Sample] | Sequence[Pair]
    persons: Sequence[frozenset[int]]
    circle: dict[str, list[int]]
    place: dict[str, tuple[str, int]]

    def following(self, item: Sample | Pair, count: int) -> list[int]:
        """Return the positions of the next ``count`` samples that show none of this sample's people; fewer if there
        are no more, none for a sample of another dataset."""
        if item.id not in self.place:
            return []
        kind, start = self.place[item.id]
        ring = self.circle[kind]
        mine = self.persons[ring[start]]
        found: list[int] = []
        for step in range(1, len(ring)):
            position = ring[(start + step) % len(ring)]
            if not self.persons[position] & mine:
                found.append(position)
                if len(found) == count:
                    break
        return found


def circles(model: FaceModel, dataset: Dataset, seed: int) -> Circles:
    """Return the circles of a dataset, made once per model and seed."""
    return model.cached(_circles, dataset, seed)


def _circles(model: FaceModel, dataset: Dataset, seed: int) -> Circles:
    from faithface.perturb.strangers import face_index

    index, items = face_index(model, dataset), dataset.items()
    persons = [frozenset(int(index.person[index.number[face.id]]) for face in item.faces) for item in items]
    circle: dict[str, list[int]] = {}
    for position in sorted(range(len(items)), key=lambda i: (seed_for(seed, items[i].id, "limit"), items[i].id)):
        circle.setdefault(kind_of(items[position]), []).append(position)
    place = {items[p].id: (kind, k) for kind, ring in circle.items() for k, p in enumerate(ring)}
    return Circles(items, persons, circle, place)


class KeptMaps:
    """The maps that were asked for last, float32 H×W on the host, up to so many bytes."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.capacity = capacity
        self.size = 0
        self._maps: OrderedDict[object, Tensor] = OrderedDict()

    def get(self, key: object) -> Tensor | None:
        if key in self._maps:
            self._maps.move_to_end(key)
        return self._maps.get(key)

    def put(self, key: object, one: Tensor) -> None:
        if key in self._maps:
            return
        self._maps[key] = one
        self.size += one.nbytes
        while self.size > self.capacity and len(self._maps) > 1:
            self.size -= self._maps.popitem(last=False)[1].nbytes

    def __len__(self) -> int:
        return len(self._maps)


def _kept(_model: FaceModel) -> KeptMaps:
    return KeptMaps()


def maps_of_others(
    model: FaceModel, samples: Samples, explainer: Explainer, rows: Sequence[Sequence[int]]
) -> tuple[Tensor, ...]:
    """Return the judged maps of other samples of ``samples.dataset``, by their positions in it.

    Maps that were made before, for the same model, explainer, dataset, seed and threshold, are taken from what is kept.

    Args:
        rows: for each of some samples, the positions of its others.

    Returns:
        One float32 tensor K×H×W per row, on the device of the samples.
    """
    dataset = samples.dataset
    assert dataset is not None  # the caller has the positions from it
    store = model.cached(_kept)
    setting = (explainer, dataset, samples.seed, samples.threshold)
    wanted = sorted({position for row in rows for position in row})
    found = {position: store.get((setting, position)) for position in wanted}
    missing = [position for position in wanted if found[position] is None]
    for start in range(0, len(missing), BATCH):
        chosen = tuple(missing[start : start + BATCH])
        # Read and scored once for all explainers of this batch.
        others = samples.cached(_loaded, model, chosen)
        made = _maps.judged(others, explainer.explain(model, others)).to("cpu", torch.float32)
        for position, one in zip(chosen, made, strict=True):
            found[position] = one.clone()
            store.put((setting, position), one.clone())
    device = samples.images.device
    empty = torch.zeros((0, *samples.images.shape[-2:]), device=device)
    return tuple(torch.stack([_there(found[p]) for p in row]).to(device) if row else empty for row in rows)


def _there(one: Tensor | None) -> Tensor:
    assert one is not None
    return one


def _loaded(samples: Samples, model: FaceModel, positions: tuple[int, ...]) -> Samples:
    assert samples.dataset is not None
    items = circles(model, samples.dataset, samples.seed).items
    chosen: list[Sample | Pair] = [items[p] for p in positions]
    return load_samples(model, chosen, samples.seed, samples.threshold, samples.dataset)  # type: ignore[arg-type]


def too_few(item: Sample | Pair, found: int, count: int) -> str:
    """Return the reason why a sample has no value: it has too few others."""
    have = "no other sample" if not found else f"{found} other sample{'s' if found > 1 else ''}"
    return f'{have} of its kind ("{kind_of(item)}") without a person of this one; {count} are needed'


def mean_difference(own: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Return the mean of own − other over the first axis of ``others``: exactly 0 where all are equal."""
    return np.asarray((own[None] - others).mean(axis=0))
