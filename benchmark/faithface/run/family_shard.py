"""Score a metric of several training runs on some shards, from the kept maps of all runs.

Place in the flow: ``family`` has :func:`score_family_shards` called where plugins run. May call ``guard``, ``shard``,
``loading`` and ``model``.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faithface.contract import FaceModel, Maps, Samples, Scores
from faithface.errors import RunError
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.run.family_work import FamilyShard, FamilyWork
from faithface.run.guard import Guard, Watch, read_only
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, Group
from faithface.run.results import CellShard, Step
from faithface.run.shard import check_scores, metric_failure, put_scores
from faithface.run.surroundings import Surroundings


def score_family_shards(work: FamilyWork, watch: Watch) -> Iterator[FamilyShard]:
    """Yield what the metric makes of each shard; ends after one in which it fails.

    Raises:
        UsageError: the model cannot be opened.
        RunError: a map is not there.
    """
    group, leader = work.runs[0]
    watch.tell(Step("call"))
    items: Mapping[str, Any] = {item.id: item for item in group.dataset.object.items()}
    watch.tell(Step("open"))
    model = open_model(group.model.object, work.request.device, work.request.batch_size)
    watch.surroundings = Surroundings.read(type(work.metric.object), type(leader.explainer.object))
    dataset = watch.watched(group.dataset.object)
    for number, ids in work.shards.items():
        wanted = [read_only(items[one]) for one in ids if one in items]
        if not wanted:
            yield FamilyShard(number)
            continue
        watch.tell(Step("load", number))
        samples = load_samples(model, wanted, work.request.seed, work.threshold, dataset)  # type: ignore[arg-type]
        maps = {
            g.model.object.name: load_maps(work.directory, g, c, samples.ids, str(samples.images.device))
            for g, c in work.runs
        }
        found = score_shard(work, model, samples, maps, number, watch)
        yield found
        if found.failure is not None:
            return


def score_shard(
    work: FamilyWork, model: FaceModel, samples: Samples, maps: Mapping[str, Maps], number: int, watch: Watch
) -> FamilyShard:
    """Score one shard: the samples that the metric is judged on and whose maps are finite in every run."""
    text, metric, leader = work.metric.spec, work.metric.object, work.runs[0][1]
    guard = Guard(model, samples, watch)
    found = CellShard(leader.number, number, samples.ids)
    try:
        finite = torch.stack([_finite(one) for one in maps.values()]).all(dim=0).cpu().numpy()
        chosen = np.intersect1d(samples.where(metric.judged_on), np.flatnonzero(finite))
        if len(chosen):

            def score(samples: Samples, _maps: Maps | None) -> Scores:
                return metric.score_family({k: m.take(chosen) for k, m in maps.items()}, samples.take(chosen))

            scores = guard.run(Step("score", number, leader.number, text), score)
            values = check_scores(metric, scores, len(chosen), model.card)
            put_scores(found, text, values, scores, [samples.ids[at] for at in chosen])
    except BaseException as error:  # a plugin may raise anything, and must not end the run
        guard.let_through(error)
        return FamilyShard(number, samples.ids, failure=metric_failure(error, metric))
    reads = watch.reads.of(("score", text), guard.read)
    return FamilyShard(number, samples.ids, found.values, found.curves, reads=reads)


def _finite(maps: Maps) -> torch.Tensor:
    parts = [torch.isfinite(m).flatten(1).all(dim=1) for m in maps.named().values()]
    return torch.stack(parts).all(dim=0)


def load_maps(directory: Path, group: Group, cell: Cell, ids: tuple[str, ...], device: str = "cpu") -> Maps:
    """Read the kept maps of some samples.

    Raises:
        RunError: a map is not there.
    """
    names = (group.model.object.name, group.dataset.spec, cell.explainer.spec)
    arrays: dict[str, list[np.ndarray]] = {}
    for sample in ids:
        path, native = (maps_file(directory, *names, sample, folder) for folder in ("maps", "native"))
        try:
            for file in (path, native) if native.is_file() else (path,):
                with np.load(file) as kept:
                    for name in kept.files:
                        arrays.setdefault(name, []).append(kept[name])
        except (OSError, ValueError, zipfile.BadZipFile) as error:
            raise RunError(
                f"{path} cannot be read ({error}); remove it, then give the same command again to make it again"
            ) from None
    return Maps(**{name: torch.as_tensor(np.stack(column)).to(device) for name, column in arrays.items()})  # type: ignore[arg-type]
