"""What a call of a plugin leaves behind: global random state, settings of the process, changed inputs, memory.

Place in the flow: ``of_explainers`` and ``of_metrics`` make every call through :func:`watched`, as a run makes its
calls through ``run.guard``, but each kind of trace is told apart here. May call ``run.surroundings``,
``run.integrity``, ``run.guard`` and the contract.
"""

from __future__ import annotations

import contextlib
import gc
import random
import tracemalloc
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from faithface.contract import FaceModel, Maps, Samples
from faithface.lazy import torch
from faithface.run.guard import twin_state, what_faces_say
from faithface.run.integrity import arrays_in, digest
from faithface.run.surroundings import Surroundings, seeded

T = TypeVar("T")


@dataclass
class Traces:
    """What the calls of one plugin left, by kind, in words; the first of each kind is kept."""

    inputs: str = ""
    model: str = ""
    process: str = ""
    random: str = ""
    surroundings: Surroundings | None = field(default=None, repr=False)


def watched(
    traces: Traces, model: FaceModel, samples: Samples, call: Callable[[], T], maps: Maps | None = None, seed: int = 0
) -> T:
    """Return ``call()``, note what it left in ``traces``, and put back the settings of the process.

    Args:
        maps: the maps that a metric gets.
        seed: of the global generators during the call.
    """
    if traces.surroundings is None:
        traces.surroundings = Surroundings.read()
    inputs, twin, weights = _inputs(samples, maps), twin_state(model), weights_of(model)
    try:
        with seeded("faithface.testing", seed):
            state = _generators()
            result = call()
            if _generators() != state:
                traces.random = traces.random or "the state of a global random generator is not what it was"
    finally:
        if changed := traces.surroundings.restore():
            traces.process = traces.process or f"changed {', '.join(changed[:4])}"
    if _inputs(samples, maps) != inputs:
        traces.inputs = traces.inputs or (
            "changed the maps it was given" if _inputs(samples, None) == inputs[:1] else "changed the samples"
        )
    _compare_twins(traces, twin, twin_state(model), weights, weights_of(model))
    return result


@contextlib.contextmanager
def restored(traces: Traces) -> Iterator[None]:
    """Put back the settings of the process after the block, and note nothing."""
    if traces.surroundings is None:
        traces.surroundings = Surroundings.read()
    try:
        yield
    finally:
        traces.surroundings.restore()


def _inputs(samples: Samples, maps: Maps | None) -> tuple[Any, ...]:
    """Return digests of what a plugin is given, in this order: the samples, the maps."""
    clean = samples.clean
    held = tuple(digest(t) for t in (samples.images, clean.outputs, clean.scores, clean.predicted))
    faces = tuple(map(what_faces_say, samples.items))
    labels = tuple((i.id, getattr(i, "label", None), getattr(i, "same", None)) for i in samples.items)
    first = (held, faces, labels, clean.threshold, samples.seed)
    if maps is None:
        return (first,)
    return first, tuple(digest(t) for t in maps.named().values())


def weights_of(model: FaceModel) -> tuple[bytes, ...] | None:
    """Return digests of the weights of a model's twin; None where it has none yet."""
    twin = vars(model).get("twin") or vars(model).get("module")
    return None if twin is None else tuple(digest(t) for t in arrays_in(twin))


def _compare_twins(traces: Traces, before: Any, after: Any, weights: Any, weights_after: Any) -> None:
    if before is not None and after is not None and before != after:
        names = ("hooks", "modules in training mode", "weights that ask for gradients")
        parts = [f"{name}: {b} before, {a} after" for name, b, a in zip(names, before, after, strict=True) if a != b]
        traces.model = traces.model or f"left the twin changed ({'; '.join(parts)})"
    if weights is not None and weights != weights_after:
        traces.model = traces.model or "changed weights of the twin"


def _generators() -> tuple[Any, ...]:
    state: Any = np.random.get_state()  # noqa: NPY002 - the global generator is what is watched
    return random.getstate(), state[1].tobytes(), tuple(state[2:]), torch.random.get_rng_state().numpy().tobytes()


def grown(call: Callable[[], object], times: int = 2) -> int:
    """Return by how many bytes of arrays and tensors ``times`` further calls make the process grow.

    The first calls fill caches that are meant to stay; what later calls add stays for good.
    """
    call()
    with _only_new_objects():
        call()
        before = _held()
        for _ in range(times):
            call()
        return _held() - before


@contextlib.contextmanager
def _only_new_objects() -> Iterator[None]:
    """Let the collector, and the count, see only what is made inside: walking all of torch takes a second."""
    gc.collect()
    gc.freeze()
    started = not tracemalloc.is_tracing()
    if started:
        tracemalloc.start()
    try:
        yield
    finally:
        if started:
            tracemalloc.stop()
        gc.unfreeze()


def _held() -> int:
    gc.collect()
    tensors = {}
    for one in gc.get_objects():
        # type() rather than isinstance(): the latter asks lazy stand-ins for their class, which imports things.
        if issubclass(type(one), torch.Tensor):
            with contextlib.suppress(RuntimeError):
                tensors[one.untyped_storage().data_ptr()] = one.untyped_storage().nbytes()
    arrays = tracemalloc.DomainFilter(inclusive=True, domain=np.lib.tracemalloc_domain)
    snapshot = tracemalloc.take_snapshot().filter_traces([arrays])
    return sum(tensors.values()) + sum(trace.size for trace in snapshot.traces)
