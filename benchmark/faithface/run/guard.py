"""Run a plugin's step so that nothing it does reaches another plugin: shared data and surroundings are held to what
they were, put back where they differ, and whoever changed them is named.

Place in the flow: ``shard`` makes one :class:`Guard` per shard and runs every explainer and metric through it, in
whatever process. May call ``integrity``, ``surroundings`` and the contract.

Held after every step: the pixels and clean scores of the shard, the maps of the cell, every value that explainers and
metrics share through caches, the weights of the model's twin, and the :mod:`~faithface.run.surroundings`. A plugin that
changes one of them fails, because its values may rest on the change; what it changed is restored.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from faithface.contract import Clean, Dataset, Face, FaceModel, Maps, Pair, Sample, Samples
from faithface.errors import FaithfaceError, NotApplicable
from faithface.reasons import ReasonCode
from faithface.run.integrity import Seals, digest
from faithface.run.reads import Reads, Watched
from faithface.run.results import Step
from faithface.run.surroundings import Surroundings, seeded

T = TypeVar("T")
GRACE = 0.2  # seconds for threads to end that a plugin has told to end


class Trespass(FaithfaceError):
    """A plugin changed what is not its own, or left something running; the text follows "explainer" or "metric"."""


def _silent(_step: Step) -> None: ...


def _nothing(_error: BaseException) -> None: ...


@dataclass
class Watch:
    """What a process knows about the plugins in it.

    Attributes:
        tell: is called before each step.
        failed: is called with what a plugin raised, before it is made a reason; a debugger may look at it.
        isolated: whether this process is there for plugins only. Then an interrupt is a plugin's exception; elsewhere
            it is the user's.
        surroundings: how the process must be found after each step; None: as it is when the first guard is made.
        reads: what plugins ask of the dataset beyond their samples.
        soiled: a plugin has trespassed. What it changed is restored as far as it is known; a process that can be
            replaced should be.
    """

    tell: Callable[[Step], None] = _silent
    isolated: bool = False
    surroundings: Surroundings | None = None
    failed: Callable[[BaseException], None] = _nothing
    reads: Reads = field(default_factory=Reads)
    soiled: bool = field(default=False, init=False)
    _watched: tuple[Dataset, Dataset] | None = field(default=None, init=False)

    def watched(self, dataset: Dataset | None) -> Dataset | None:
        """Return a dataset that notes who asks it for more: the same one for as long as the dataset is the same."""
        if dataset is None:
            return None
        if self._watched is None or self._watched[0] is not dataset:
            self._watched = (dataset, Watched(dataset, self.reads))
        return self._watched[1]


class Guard:
    """Holds what the plugins of one shard share; see the module.

    Attributes:
        samples: the shard's samples; others with the same content after somebody has changed them.
        read: what the last step has asked of the dataset beyond its samples.
    """

    def __init__(self, model: FaceModel, samples: Samples, watch: Watch) -> None:
        self.model, self.watch = model, watch
        clean = samples.clean
        self._given = (samples.clean.threshold, samples.seed, samples.dataset)
        self._items = copies(samples.items)
        self._faces = tuple(map(what_faces_say, samples.items))
        self._kept = tuple(t.detach().clone() for t in (samples.images, clean.outputs, clean.scores, clean.predicted))
        self._fingerprint = tuple(map(digest, self._kept))
        self.samples = samples
        self.read: frozenset[str] = frozenset()
        self.maps: Maps | None = None
        self._kept_maps: Maps | None = None
        self._map_digests: tuple[bytes, ...] = ()
        self._seal(model, samples)
        self._members = {k: v for k, v in vars(model).items() if k not in _OWN_STATE}
        self._twin_state = twin_state(model)
        held = self._members.get("session")
        self._session = (getattr(held, "ort", None), getattr(held, "workers", 1))
        if watch.surroundings is None:
            watch.surroundings = Surroundings.read()

    def _seal(self, model: FaceModel, samples: Samples) -> None:
        """Take digests of what is shared now, and of each cached value as it is made."""
        self._seals = Seals()
        self._seals.changed(model, samples.cache)
        model.cache.seal = samples.cache.seal = self._seals.add
        model.cache.reads = samples.cache.reads = self.watch.reads

    def hold(self, maps: Maps | None) -> None:
        """Hold the maps of a cell against changes from now on; None: those of the last cell are done with."""
        if maps is not None:
            maps.cache.seal, maps.cache.reads = self._seals.add, self.watch.reads
        self.maps, self._kept_maps, self._map_digests = maps, None, ()
        if maps is not None:
            copies = {name: t.detach().clone() for name, t in _tensors(maps).items()}
            self._kept_maps = dataclasses.replace(maps, **copies, cache=type(maps.cache)())
            self._map_digests = tuple(digest(t) for t in copies.values())

    def let_through(self, error: BaseException) -> None:
        """Raise what is no plugin's doing: the user's interrupt, and the end of the generator that runs this."""
        if isinstance(error, GeneratorExit) or (isinstance(error, KeyboardInterrupt) and not self.watch.isolated):
            raise error

    def run(self, step: Step, call: Callable[[Samples, Maps | None], T]) -> T:
        """Return what ``call(samples, maps)`` returns, after looking at what it left.

        Raises:
            Trespass: it changed what it shares with others, or left something running; all is restored.
        """
        self.watch.tell(step)
        threads, children = set(threading.enumerate()), forked_children()
        first = self.samples.ids[0]
        problem: BaseException | None = None
        self.watch.reads.begin()
        try:
            # Explained again, whoever draws from the global generators gets other numbers.
            with seeded(self.samples.seed, step.shard, first, *(["again"] if step.kind == "again" else [])):
                result = call(self.samples, self.maps)
        except BaseException as error:
            self.let_through(error)
            problem = error
        finally:
            self.read = self.watch.reads.end()
        try:
            trespass = self._changed()
            trespass = self._left_running(threads, children) or trespass
        except BaseException as error:  # what this very look relies on may be gone
            self.let_through(error)
            text = f"left the process unusable ({type(error).__name__})"
            trespass = Trespass(text, ReasonCode.STATE_CHANGED)
        if trespass is not None:
            self.watch.soiled = True
            raise trespass from problem
        if problem is not None:
            raise problem
        return result

    # --- what a step left

    def _left_running(self, threads: set[threading.Thread], children: frozenset[int]) -> Trespass | None:
        """Say whether Python threads or copies of this process go on after the step; they could change anything."""

        def left() -> list[threading.Thread]:
            return [t for t in threading.enumerate() if t not in threads and not _is_pool(t)]

        end = time.monotonic() + GRACE
        while left() and time.monotonic() < end:
            time.sleep(0.01)
        parts = []
        if running := left():
            parts.append(f"{len(running)} thread{'s' * (len(running) > 1)} ({running[0].name})")
        if more := forked_children() - children:
            parts.append(f"{len(more)} forked process{'es' * (len(more) > 1)}")
        if not parts:
            return None
        return Trespass(f"left {' and '.join(parts)} running; end them before returning", ReasonCode.LEFT_RUNNING)

    def _changed(self) -> Trespass | None:
        """Put back what the step changed, and say what it was."""
        assert self.watch.surroundings is not None
        state = self.watch.surroundings.restore()
        inputs = []
        if self._samples_changed():
            inputs.append("the samples (images, clean scores or items)")
        if self._kept_maps is not None and self._maps_changed():
            inputs.append("the maps")
        held = (self.model, self.samples.cache, self.maps.cache if self.maps is not None else None)
        if self._seals.changed(*held):
            inputs.append("values that others share by `cached`, or weights of the model")
        if self._model_changed():
            inputs.append("the model")
        if getattr(self.model, "take_back_proto", bool)():
            inputs.append("the model's graph or weights (proto)")
        if inputs:
            self._restore()
            text = (
                f"changed {' and '.join(inputs + state)}, which all explainers and metrics share; alter copies instead"
            )
            return Trespass(text, ReasonCode.INPUT_CHANGED)
        if state:
            shown = ", ".join(state[:4]) + (f" and {len(state) - 4} more" if len(state) > 4 else "")
            text = f"changed {shown} for the whole process; restore what was there before returning"
            return Trespass(text, ReasonCode.STATE_CHANGED)
        return None

    def _samples_changed(self) -> bool:
        now, clean = self.samples, self.samples.clean
        try:
            held = (now.images, clean.outputs, clean.scores, clean.predicted)
            same = now.items == self._items and self._given == (clean.threshold, now.seed, now.dataset)
            same = same and tuple(map(what_faces_say, now.items)) == self._faces
            return not same or tuple(map(digest, held)) != self._fingerprint
        except Exception:  # no tensors any more
            return True

    def _maps_changed(self) -> bool:
        assert self.maps is not None
        try:
            return tuple(digest(t) for t in _tensors(self.maps).values()) != self._map_digests
        except Exception:
            return True

    def _model_changed(self) -> bool:
        now = vars(self.model)
        replaced = any(now.get(key) is not value for key, value in self._members.items())
        replaced |= self._session_replaced()
        twin, before = twin_state(self.model), self._twin_state
        # One that was built since is no change, and is held from now on.
        self._twin_state = before if before is not None else twin
        return replaced or bool(self._hidden()) or (before is not None and twin is not None and twin != before)

    def _session_replaced(self) -> bool:
        """Put back what runs the network if somebody has replaced it.

        The model itself opens it anew where passes are to run side by side; their number has changed then.
        """
        held = self._members.get("session")
        now = (getattr(held, "ort", None), getattr(held, "workers", 1))
        before, self._session = self._session, now
        if now[0] is before[0] or now[1] != before[1]:
            return False
        setattr(held, "ort", before[0])  # noqa: B010 - not every model has one
        self._session = before
        return True

    def _hidden(self) -> list[str]:
        """Return methods of the model that an attribute of the same name hides since the guard was made."""
        kind = type(self.model)
        new = [key for key in vars(self.model) if key not in self._members and key not in _OWN_STATE]
        return [key for key in new if callable(getattr(kind, key, None))]

    def _restore(self) -> None:
        """Give everybody who comes next the data as they were, and no cached values."""
        images, outputs, scores, predicted = (t.clone() for t in self._kept)
        threshold, seed, dataset = self._given
        clean = Clean(outputs, scores, predicted, threshold)
        self.samples = Samples(copies(self._items), images, clean, seed, dataset)
        model = self.model
        for key in self._hidden():
            delattr(model, key)
        for key, value in self._members.items():
            if vars(model).get(key) is not value:
                setattr(model, key, value)
        model.cache.clear()
        had_twin = "twin" in vars(model)
        for key in ("twin", "derived"):
            vars(model).pop(key, None)
        if "_last" in vars(model):
            setattr(model, "_last", {})  # noqa: B010 - not every model has one
        if had_twin:
            # Made again now rather than when somebody asks for it, so that no plugin can change it unseen.
            with contextlib.suppress(NotApplicable):
                _ = model.twin
        self._twin_state = twin_state(model)
        self._seal(model, self.samples)
        if self._kept_maps is not None:
            self.hold(dataclasses.replace(self._kept_maps, cache=type(self._kept_maps.cache)()))


# State of a model that changes as it is used.
_OWN_STATE = frozenset(
    {
        *("_passes", "_batching", "_last", "_lent", "cache", "derived", "twin", "parity", "notes", "fixed_batch"),
        "batch_size",
    }
)


def twin_state(model: FaceModel) -> tuple[int, int, int] | None:
    """Return what the weights do not say of a twin: training mode, hooks, and which weights ask for gradients."""
    twin = vars(model).get("twin")
    if twin is None or not hasattr(twin, "modules"):
        return None
    hooks = sum(len(m._forward_hooks) + len(m._forward_pre_hooks) + len(m._backward_hooks) for m in twin.modules())
    return hooks, sum(m.training for m in twin.modules()), sum(p.requires_grad for p in twin.parameters())


def _tensors(maps: Maps) -> dict[str, Any]:
    return maps.named() | ({} if maps.native is None else {"native": maps.native})


def _is_pool(thread: threading.Thread) -> bool:
    """Say whether a thread is one of an executor's, which waits for work."""
    return "_worker" in getattr(getattr(thread, "_target", None), "__name__", "") or thread.name == "tqdm_monitor"


def forked_children() -> frozenset[int]:
    """Return the numbers of child processes that are copies of this one; programs that it started are none."""
    try:
        found = [n for task in Path("/proc/self/task").iterdir() for n in (task / "children").read_text().split()]
        own = Path("/proc/self/cmdline").read_bytes()
    except OSError:  # not Linux
        return frozenset()
    copies = set()
    for number in found:
        try:
            if Path(f"/proc/{number}/cmdline").read_bytes() == own:
                copies.add(int(number))
        except OSError:
            continue
    return frozenset(copies)


# --- what items give


def copies(items: tuple[Any, ...]) -> Any:
    """Return copies of items: the same faces and truth in other objects and mappings."""
    return tuple(dataclasses.replace(i, truth=dict(i.truth), others=dict(i.others)) for i in items)


def what_faces_say(item: Sample | Pair) -> tuple[Any, ...]:
    """Return what comparing two items leaves out: their truth, and all about their faces."""
    faces = (*item.faces, *item.others.values())
    truth = tuple((kind, id(read)) for kind, read in item.truth.items())
    return truth, tuple((face.id, face.identity, id(face.read)) for face in faces)


def read_only(item: Sample | Pair) -> Sample | Pair:
    """Return an item whose truth and faces give arrays that cannot be written: a dataset may keep what it gives out."""
    changes: dict[str, Any] = {}
    if item.truth:
        changes["truth"] = {kind: functools.partial(_read_only, read) for kind, read in item.truth.items()}
    if item.others:
        changes["others"] = {role: _read_only_face(face) for role, face in item.others.items()}
    if isinstance(item, Pair):
        changes |= {"a": _read_only_face(item.a), "b": _read_only_face(item.b)}
    else:
        changes["face"] = _read_only_face(item.face)
    return dataclasses.replace(item, **changes)


def _read_only_face(face: Face) -> Face:
    return dataclasses.replace(face, read=functools.partial(_read_only, face.read))


def _read_only(read: Callable[[], np.ndarray]) -> np.ndarray:
    found = np.asarray(read()).view()
    found.flags.writeable = False
    return found
