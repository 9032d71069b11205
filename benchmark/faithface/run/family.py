"""Metrics of several training runs of one model: scored after the cells of all runs, from their kept maps.

Place in the flow: ``driver`` calls :func:`score_family` once per (metric, family, dataset, explainer). The value
belongs to the family; it is stored with each run's cell, so that a board of models can show it beside any of them.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from faithface.contract import Maps
from faithface.errors import RunError
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, FamilyJob, Group, Plan
from faithface.run.results import SHARD_SIZE, CellShard
from faithface.run.shard import check_scores, metric_failure, put_scores
from faithface.run.store import Store


def score_family(store: Store, directory: Path, plan: Plan, job: FamilyJob) -> None:
    """Score a family metric and store its values; a failure is the metric's alone and is stored as such.

    Only samples whose map is there and finite in every run are scored.
    """
    text, metric = job.metric.spec, job.metric.object
    states = {row["id"]: row["status"] for row in store.cells()}
    runs = [(group, cell) for group, cell in job.cells if states[cell.number] is Status.OK]
    if any(m["metric"] == text and m["status"] is Status.OK for _g, c in runs for m in store.metrics(c.number)):
        return
    if len(runs) < 2:
        few = Reason(ReasonCode.SINGLE_RUN, "fewer than two runs of the family have maps")
        for _group, cell in job.cells:
            store.set_metric(cell.number, text, Status.NOT_APPLICABLE, few)
        return
    first = runs[0][0]
    dataset = first.dataset.object
    items = {item.id: item for item in dataset.items()}
    names = [row["sample"] for row in store.samples(first.number)]
    model = open_model(first.model.object, plan.request.device, plan.request.batch_size)
    threshold = store.groups()[first.number]["threshold"]
    try:
        for start in range(0, len(names), SHARD_SIZE):
            wanted = [items[name] for name in names[start : start + SHARD_SIZE] if name in items]
            samples = load_samples(model, wanted, plan.request.seed, threshold, dataset)  # type: ignore[arg-type]
            by_run = {g.model.object.name: load_maps(directory, g, c, samples.ids, model.device) for g, c in runs}
            finite = torch.stack([_finite(maps) for maps in by_run.values()]).all(dim=0).cpu().numpy()
            chosen = np.intersect1d(samples.where(metric.judged_on), np.flatnonzero(finite))
            if not len(chosen):
                continue
            scores = metric.score_family({k: m.take(chosen) for k, m in by_run.items()}, samples.take(chosen))
            values = check_scores(metric, scores, len(chosen), model.card)
            shards = []
            for _group, cell in runs:
                done = CellShard(cell.number, start, samples.ids)
                put_scores(done, text, values, scores, [samples.ids[at] for at in chosen])
                shards.append(done)
            store.put_family(shards)
    except Exception as error:  # a plugin may raise anything, and must not end the run
        failure = metric_failure(error)
        for _group, cell in runs:
            store.set_metric(cell.number, text, failure.status, failure.reason)


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
        except (OSError, ValueError) as error:
            raise RunError(f"{path} cannot be read ({error}); start the run again in another --out") from None
    return Maps(**{name: torch.as_tensor(np.stack(column)).to(device) for name, column in arrays.items()})  # type: ignore[arg-type]
