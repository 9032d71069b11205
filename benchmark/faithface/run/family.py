"""Metrics of several training runs of one model: scored after the cells of all runs, from their kept maps.

Place in the flow: ``driver`` calls :func:`score_family` once per (metric, family, dataset, explainer). The value
belongs to the family; it is stored with each run's cell, so that a board of models can show it beside any of them.
"""

from __future__ import annotations

import json
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from faithface.card import ModelCard
from faithface.contract import Maps, Metric, Samples
from faithface.errors import RunError
from faithface.loading import load_samples
from faithface.model import open_model
from faithface.plugins import Resolved
from faithface.reasons import Reason, ReasonCode, Status
from faithface.run.paths import maps_file
from faithface.run.plan import Cell, FamilyJob, Group, Plan
from faithface.run.reading import EXPLAINED, traceback_key
from faithface.run.results import CellShard
from faithface.run.resume import Basis
from faithface.run.resume import text as as_text
from faithface.run.shard import check_scores, metric_failure, put_scores
from faithface.run.store import Store


def score_family(store: Store, directory: Path, plan: Plan, job: FamilyJob, basis: Basis) -> None:
    """Score what is missing of a family metric and store its values; a failure is the metric's alone.

    Only samples whose map is there and finite in every run are scored.

    Raises:
        RunError: the store cannot be written, or a map that it knows of is gone.
    """
    text = job.metric.spec
    states = {row["id"]: row["status"] for row in store.cells()}
    runs = [(group, cell) for group, cell in job.cells if states[cell.number] is Status.OK]
    if any(states[cell.number] is Status.PENDING for _group, cell in job.cells):
        return  # the maps of a run are still to come
    if len(runs) < 2:
        few = Reason(ReasonCode.SINGLE_RUN, "fewer than two runs of the family have maps")
        for _group, cell in job.cells:
            store.clear_metric(cell.number, text)
            store.set_metric(cell.number, text, Status.NOT_APPLICABLE, few)
        return
    first, leader = runs[0]
    shards = store.shards(first.number)
    inputs = {n: family_inputs(basis, runs, leader, job.metric, ids) for n, ids in shards.items()}
    missing = keep_unchanged(store, runs, text, inputs)
    for _group, cell in runs:
        store.set_metric(cell.number, text, Status.PENDING)  # settled at the end, with all others
    if not missing:
        return
    items = {item.id: item for item in first.dataset.object.items()}
    known = {row["sample"] for row in store.samples(first.number)}
    model = open_model(first.model.object, plan.request.device, plan.request.batch_size)
    threshold = store.group(first.number)["threshold"]
    try:
        for number in missing:
            wanted = [items[name] for name in shards[number] if name in known and name in items]
            done = [CellShard(cell.number, number, tuple(item.id for item in wanted)) for _group, cell in runs]
            if wanted:
                samples = load_samples(model, wanted, plan.request.seed, threshold, first.dataset.object)  # type: ignore[arg-type]
                score_shard(directory, runs, job.metric, samples, done, model.card)
            store.put_family(done, text, inputs[number])
    except RunError:
        raise
    except Exception as error:  # a plugin may raise anything, and must not end the run
        failure = metric_failure(error, job.metric.object)
        for _group, cell in runs:
            store.set_metric(cell.number, text, failure.status, failure.reason)
            store.put_meta(traceback_key(cell.number, text), failure.traceback)


def score_shard(
    directory: Path,
    runs: Sequence[tuple[Group, Cell]],
    resolved: Resolved[Metric],
    samples: Samples,
    done: Sequence[CellShard],
    card: ModelCard,
) -> None:
    """Score one chunk of samples, and put the values into ``done``, one for each run."""
    text, metric = resolved.spec, resolved.object
    device = str(samples.images.device)
    by_run = {g.model.object.name: load_maps(directory, g, c, samples.ids, device) for g, c in runs}
    finite = torch.stack([_finite(maps) for maps in by_run.values()]).all(dim=0).cpu().numpy()
    chosen = np.intersect1d(samples.where(metric.judged_on), np.flatnonzero(finite))
    if not len(chosen):
        return
    scores = metric.score_family({k: m.take(chosen) for k, m in by_run.items()}, samples.take(chosen))
    values = check_scores(metric, scores, len(chosen), card)
    for one in done:
        put_scores(one, text, values, scores, [samples.ids[at] for at in chosen])


def family_inputs(
    basis: Basis,
    runs: Sequence[tuple[Group, Cell]],
    leader: Cell,
    metric: Resolved[Metric],
    ids: tuple[str, ...],
) -> tuple[str, str]:
    """Return what a family metric's values depend on: the maps of all runs and the metric; and the samples."""
    code: dict[str, str] = {}
    for group, cell in runs:
        name = group.model.object.name
        code |= {f"{what} ({name})": value for what, value in json.loads(basis.code(group, cell, EXPLAINED)).items()}
    what = f'metric "{metric.spec}"'
    code[what] = leader.fingerprint.get(what, "")
    return as_text(code), basis.data(runs[0][0], leader, metric.object, ids)


def keep_unchanged(
    store: Store, runs: Sequence[tuple[Group, Cell]], metric: str, inputs: Mapping[int, tuple[str, str]]
) -> list[int]:
    """Forget the shards of a family metric that depend on something that has changed; return those to score."""
    texts = store.inputs()
    kept: list[set[int]] = []
    for _group, cell in runs:
        kept.append(set())
        for done in store.all_done(cell.number):
            if done.metric != metric:
                continue
            if inputs.get(done.number) == (texts[done.code], texts[done.data]):
                kept[-1].add(done.number)
            else:
                store.drop(cell.number, metric, done.number)
    return [number for number in inputs if not all(number in numbers for numbers in kept)]


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
