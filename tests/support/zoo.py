"""Plugins that misbehave, each in one way: explainers, metrics and datasets for the tests of isolation.

Place in the flow: used by tests only. Every class stands in this module, so that worker processes can import it.
"""

from __future__ import annotations

import builtins
import ctypes
import functools
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from faithface.contract import (
    Dataset,
    Explainer,
    Face,
    FaceModel,
    Maps,
    Method,
    Metric,
    Protocol,
    Sample,
    Samples,
    Scores,
)
from faithface.reasons import ReasonCode
from tests.support.runs import Ramp

Way = Callable[[Any, Samples], Any]


class Escapes(BaseException):
    """An exception that is none of ``Exception``."""


class Unspeakable(Exception):
    """An exception that cannot say what it is."""

    def __str__(self) -> str:
        raise ValueError("no text")


def shared_list(samples: Samples) -> list[torch.Tensor]:
    return [torch.ones(3, 4)]


def raises(error: BaseException) -> Any:
    raise error


def forks(seconds: float) -> None:
    if os.fork() == 0:
        time.sleep(seconds)
        os._exit(0)


DAEMON = ("sleep", "86311.25")
"""A program that is known by its number, and would outlive everything."""


def forks_a_daemon() -> None:
    """Start a process in a session of its own whose parent ends at once, and wait until it is there."""
    reader, writer = os.pipe()
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            os.write(writer, b"!")
            time.sleep(600)
        os._exit(0)
    os.read(reader, 1)
    os.wait()


def other_weights(model: Any) -> None:
    weights = next(one for one in model.proto.graph.initializer if len(one.raw_data) > 64)
    weights.raw_data = bytes(len(weights.raw_data))


def fills_memory() -> None:
    held = []
    while True:
        held.append(np.ones(8_000_000))
        time.sleep(0.002)


def forever() -> None:
    while True:
        time.sleep(0.05)


def recurses(n: int = 0) -> int:
    return recurses(n + 1) + 1


def starts_threads() -> None:
    for _ in range(50):
        threading.Thread(target=time.sleep, args=(600,), daemon=True).start()


def patched(*_args: Any, **_options: Any) -> Any:
    raise AssertionError("another plugin called what one plugin had replaced")


def new_handler(*_args: Any) -> None: ...


def no_gradients(model: FaceModel) -> None:
    for weight in model.twin.parameters():
        weight.data.mul_(0.5)


def hook(_module: Any, _inputs: Any, output: Any) -> Any:
    return output * 0


def changes_vars() -> None:
    os.environ["HOME"] = "/nowhere"


def import_core() -> Any:
    import faithface.metrics.entropy as module

    return module


INPUT, STATE = ReasonCode.INPUT_CHANGED, ReasonCode.STATE_CHANGED
RAISED, LOST, LEFT = ReasonCode.EXPLAINER_RAISED, ReasonCode.WORKER_LOST, ReasonCode.LEFT_RUNNING
LATE, MEMORY = ReasonCode.TIME_LIMIT, ReasonCode.MEMORY_LIMIT

EXPLAINERS: dict[str, tuple[Way, ReasonCode, str]] = {
    # what is shared
    "images": (lambda m, s: s.images.mul_(0), INPUT, "samples"),
    "images-numpy": (lambda m, s: s.images.numpy().fill(0.5), INPUT, "samples"),
    "images-data": (lambda m, s: s.images.data.copy_(s.images.flip(-1)), INPUT, "samples"),
    "images-resized": (lambda m, s: s.images.resize_(1), INPUT, "samples"),
    "images-replaced": (lambda m, s: object.__setattr__(s, "images", s.images * 0), INPUT, "samples"),
    "items-replaced": (lambda m, s: object.__setattr__(s, "items", s.items[::-1]), INPUT, "samples"),
    "label": (lambda m, s: object.__setattr__(s.items[0], "label", "attack?"), INPUT, "samples"),
    "scores": (lambda m, s: s.clean.scores.fill_(0.5), INPUT, "samples"),
    "outputs": (lambda m, s: s.clean.outputs.neg_(), INPUT, "samples"),
    "predicted": (lambda m, s: s.clean.predicted.zero_().add_(1), INPUT, "samples"),
    "cached": (lambda m, s: s.cached(shared_list)[0].zero_(), INPUT, "cached"),
    "weights": (lambda m, s: no_gradients(m), INPUT, "weights"),
    "train-mode": (lambda m, s: m.twin.train(), INPUT, "model"),
    "hook": (lambda m, s: list(m.twin.modules())[-1].register_forward_hook(hook), INPUT, "model"),
    "method": (lambda m, s: setattr(m, "outputs", patched), INPUT, "model"),
    "session": (lambda m, s: setattr(m, "session", None), INPUT, "model"),
    "session-inside": (lambda m, s: setattr(m.session, "ort", None), INPUT, "model"),
    "proto": (lambda m, s: other_weights(m), INPUT, "the model's graph or weights (proto)"),
    # what the process has one of
    "dtype": (lambda m, s: torch.set_default_dtype(torch.float64), STATE, "torch's default dtype"),
    "grad": (lambda m, s: torch._C._set_grad_enabled(False), STATE, "torch's gradient mode"),
    "deterministic": (lambda m, s: torch.use_deterministic_algorithms(True), STATE, "deterministic"),
    "threads": (lambda m, s: torch.set_num_threads(torch.get_num_threads() + 1), STATE, "number of threads"),
    "denormals": (lambda m, s: torch.set_flush_denormal(True), STATE, "denormal"),
    "device": (lambda m, s: torch.set_default_device("meta"), STATE, "default device"),
    "numpy-errors": (lambda m, s: np.seterr(all="raise"), STATE, "numpy's error state"),
    "folder": (lambda m, s: os.chdir("/"), STATE, "working directory"),
    "handler": (lambda m, s: signal.signal(signal.SIGTERM, new_handler), STATE, "signal handlers"),
    "alarm": (lambda m, s: signal.setitimer(signal.ITIMER_REAL, 900), STATE, "alarm timer"),
    "variables": (lambda m, s: changes_vars(), STATE, "environment variables"),
    "stdout": (lambda m, s: setattr(sys, "stdout", None), STATE, "standard output"),
    "path": (lambda m, s: sys.path.insert(0, "/nowhere"), STATE, "search path"),
    "recursion": (lambda m, s: sys.setrecursionlimit(5000), STATE, "recursion limit"),
    "patch-numpy": (lambda m, s: setattr(np, "argsort", patched), STATE, "numpy.argsort"),
    "patch-torch": (lambda m, s: setattr(torch.nn.functional, "interpolate", patched), STATE, "interpolate"),
    "patch-tensor": (lambda m, s: setattr(torch.Tensor, "unflatten", patched), STATE, "torch.Tensor.unflatten"),
    "patch-builtins": (lambda m, s: setattr(builtins, "sorted", patched), STATE, "builtins.sorted"),
    "patch-core": (lambda m, s: setattr(import_core(), "Entropy", patched), STATE, "Entropy"),
    "patch-neighbour": (lambda m, s: setattr(Ramp, "explain", patched), STATE, "Ramp.explain"),
    # ends
    "exit": (lambda m, s: sys.exit(0), RAISED, "raised SystemExit: 0"),
    "interrupt": (lambda m, s: raises(KeyboardInterrupt()), RAISED, "raised KeyboardInterrupt"),
    "escapes": (lambda m, s: raises(Escapes("out")), RAISED, "raised Escapes: out"),
    "unspeakable": (lambda m, s: raises(Unspeakable()), RAISED, "raised Unspeakable"),
    "recurses": (lambda m, s: recurses(), RAISED, "raised RecursionError"),
    "hard-exit": (lambda m, s: os._exit(0), LOST, "exit code 0"),
    "exec": (lambda m, s: os.execv("/bin/true", ["true"]), LOST, "exit code 0"),
    "segfault": (lambda m, s: ctypes.string_at(0), LOST, "signal SIGSEGV"),
    "abort": (lambda m, s: os.abort(), LOST, "signal SIGABRT"),
    "kills-itself": (lambda m, s: os.kill(os.getpid(), signal.SIGKILL), LOST, "signal SIGKILL"),
    "closes-all": (lambda m, s: os.closerange(0, 4096), LOST, "worker process"),
    "memory": (lambda m, s: fills_memory(), MEMORY, "memory"),
    "leaves-threads": (lambda m, s: starts_threads(), LEFT, "left 50 threads"),
    "leaves-child": (lambda m, s: forks(600), LEFT, "left 1 forked process"),
    "leaves-daemon": (lambda m, s: forks_a_daemon(), LEFT, "left 1 forked process"),
}
HANGS: dict[str, tuple[Way, ReasonCode, str]] = {
    "hangs": (lambda m, s: forever(), LATE, "did not end within"),
    "hangs-in-c": (lambda m, s: ctypes.CDLL(None).sleep(600), LATE, "did not end within"),
    "hangs-with-lock": (lambda m, s: ctypes.PyDLL(None).sleep(600), LATE, "did not end within"),
    "stops-itself": (lambda m, s: os.kill(os.getpid(), signal.SIGSTOP), LATE, "did not end within"),
}
HARMLESS: dict[str, Way] = {
    "prints": lambda m, s: [print("x" * 99) for _ in range(200_000)],
    "closes-stdout": lambda m, s: (os.close(1), os.close(2)),
    "draws": lambda m, s: (torch.rand(7), np.random.rand(7)),  # noqa: NPY002
    "starts-program": lambda m, s: os.system("true"),
    "starts-a-daemon": lambda m, s: subprocess.Popen(DAEMON, start_new_session=True),
}


@dataclass(frozen=True)
class Bad(Explainer):
    """An explainer that does one bad thing, and then gives good maps."""

    way: str = "images"

    method = Method(name="bad", needs=frozenset({"gradients"}))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        ways = {k: v[0] for k, v in (EXPLAINERS | HANGS).items()} | HARMLESS
        good = Ramp().explain(model, samples) if self.way == "patch-neighbour" else None
        ways[self.way](model, samples)
        return good or Maps(relevance=torch.ones(len(samples), 32, 32) * torch.linspace(0, 1, 32))


@dataclass(frozen=True)
class Shares(Explainer):
    """A good explainer whose map is what a cached value says: it sees what others have done to that."""

    method = Method(name="shares")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return Maps(relevance=samples.images.mean(dim=1) * samples.cached(shared_list)[0].mean())


def value(samples: Samples, number: float = 0.5) -> Scores:
    return Scores({"": np.full(len(samples), number)})


METRICS: dict[str, tuple[Callable[[Any, Samples, Maps], Any], ReasonCode, str]] = {
    "maps": (lambda m, s, maps: maps.headline.zero_() is None or value(s), INPUT, "the maps"),
    "metric-images": (lambda m, s, maps: s.images.zero_() is None or value(s), INPUT, "samples"),
    "metric-scores": (lambda m, s, maps: s.clean.scores.zero_() is None or value(s), INPUT, "samples"),
    "billion": (lambda m, s, maps: value(s, 1e9), ReasonCode.METRIC_RETURNED, "range [0, 1]"),
    "negative": (lambda m, s, maps: value(s, -0.01), ReasonCode.METRIC_RETURNED, "range [0, 1]"),
    "infinite": (lambda m, s, maps: value(s, float("inf")), ReasonCode.METRIC_RETURNED, "range [0, 1]"),
    "none": (lambda m, s, maps: None, ReasonCode.METRIC_RETURNED, "returned NoneType"),
    "bad-curves": (
        lambda m, s, maps: Scores({"": np.zeros(len(s))}, curves={"c": np.zeros((1, 3))[:0]}),
        ReasonCode.METRIC_RAISED,
        "",
    ),
    "metric-exit": (lambda m, s, maps: sys.exit(0), ReasonCode.METRIC_RAISED, "raised SystemExit: 0"),
    "metric-hard-exit": (lambda m, s, maps: os._exit(0), LOST, "exit code 0"),
    "metric-segfault": (lambda m, s, maps: ctypes.string_at(0), LOST, "signal SIGSEGV"),
    "metric-dtype": (
        lambda m, s, maps: torch.set_default_dtype(torch.float64) or value(s),
        STATE,
        "torch's default dtype",
    ),
    "metric-hangs": (lambda m, s, maps: forever(), LATE, "did not end within"),
}


@dataclass(frozen=True)
class BadMetric(Metric):
    """A metric that misbehaves in one way."""

    way: str = "maps"

    protocol = Protocol(id="bad-metric@1", range=(0.0, 1.0))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return METRICS[self.way][0](model, samples, maps)  # type: ignore[no-any-return]


FAMILY: dict[str, tuple[Callable[[Samples], Any], ReasonCode, str]] = {
    "family-raises": (lambda s: raises(ZeroDivisionError("no score")), ReasonCode.METRIC_RAISED, "ZeroDivisionError"),
    "family-exit": (lambda s: sys.exit(0), ReasonCode.METRIC_RAISED, "raised SystemExit: 0"),
    "family-hard-exit": (lambda s: os._exit(0), LOST, "exit code 0"),
    "family-segfault": (lambda s: ctypes.string_at(0), LOST, "signal SIGSEGV"),
    "family-hangs": (lambda s: forever(), LATE, "did not end within"),
    "family-memory": (lambda s: fills_memory(), MEMORY, "memory"),
    "family-images": (lambda s: s.images.zero_(), INPUT, "samples"),
    "family-dtype": (lambda s: torch.set_default_dtype(torch.float64), STATE, "torch's default dtype"),
}


SUMMARIES: dict[str, tuple[Callable[[], Any], ReasonCode, str]] = {
    "summary-raises": (lambda: raises(ZeroDivisionError("no sum")), ReasonCode.METRIC_RAISED, "ZeroDivisionError"),
    "summary-hard-exit": (lambda: os._exit(0), LOST, "exit code 0"),
    "summary-hangs": (lambda: forever(), LATE, "did not end within"),
}


@dataclass(frozen=True)
class BadSummary(Metric):
    """A metric whose own summary does one bad thing."""

    way: str = "summary-raises"

    protocol = Protocol(id="bad-summary@1", range=(0.0, 1.0))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return value(samples)

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        SUMMARIES[self.way][0]()
        return float(values.mean())


@dataclass(frozen=True)
class BadFamily(Metric):
    """A metric of several training runs that does one bad thing, and then gives good values."""

    way: str = "family-raises"

    protocol = Protocol(id="bad-family@1", range=(0.0, 1.0), needs=frozenset({"family"}))

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        raise AssertionError("not scored by cell")

    def score_family(self, runs: Any, samples: Samples) -> Scores:
        FAMILY[self.way][0](samples)
        return value(samples)


def pixels(i: int) -> np.ndarray:
    rng = np.random.default_rng(i)
    return rng.random((32, 32, 3), dtype=np.float32)


READS: dict[str, tuple[Callable[[], Any], ReasonCode, str]] = {
    "read-exit": (lambda: sys.exit(0), ReasonCode.DATASET_UNUSABLE, "SystemExit"),
    "read-hard-exit": (lambda: os._exit(0), LOST, "exit code 0"),
    "read-segfault": (lambda: ctypes.string_at(0), LOST, "signal SIGSEGV"),
    "read-escapes": (lambda: raises(Escapes("out")), ReasonCode.DATASET_UNUSABLE, "Escapes"),
    "read-hangs": (lambda: forever(), LATE, "did not end within"),
    "read-dtype": (lambda: torch.set_default_dtype(torch.float64), STATE, "torch's default dtype"),
}


LISTS: dict[str, tuple[Callable[[], Any], ReasonCode, str]] = {
    "list-hangs": (lambda: forever(), LATE, "did not end within"),
    "list-hard-exit": (lambda: os._exit(0), LOST, "exit code 0"),
    "list-segfault": (lambda: ctypes.string_at(0), LOST, "signal SIGSEGV"),
    "list-kills": (lambda: os.kill(os.getpid(), signal.SIGKILL), LOST, "signal SIGKILL"),
    "list-exit": (lambda: sys.exit(0), ReasonCode.DATASET_UNUSABLE, "raised SystemExit: 0"),
    "list-raises": (lambda: raises(ZeroDivisionError("no list")), ReasonCode.DATASET_UNUSABLE, "ZeroDivisionError"),
    "list-memory": (lambda: fills_memory(), MEMORY, "memory"),
    "list-dtype": (lambda: torch.set_default_dtype(torch.float64), STATE, "torch's default dtype"),
    "list-patches": (lambda: setattr(np, "argsort", patched), STATE, "numpy.argsort"),
}
"""What a dataset does when it is asked for its samples."""


class BadDataset(Dataset):
    """Eighteen images; the last of them misbehaves in one way whenever it is read, but for the first time.

    A file says whether it was read before, because several processes read it.
    """

    task = "pad"
    classes = ("bona-fide", "attack")
    positive = "attack"

    def __init__(self, way: str, folder: Path) -> None:
        self.name = self.way = way
        self.mark = folder / way

    def items(self) -> list[Sample]:
        if self.way in LISTS:
            LISTS[self.way][0]()
        names = ("bona-fide", "attack")
        return [Sample(f"s{i:02d}", Face(f"f{i}", functools.partial(self.read, i)), names[i % 2]) for i in range(18)]

    def read(self, i: int) -> np.ndarray:
        if i == 17 and self.way in READS:
            if self.mark.exists():
                READS[self.way][0]()
            self.mark.touch()
        return pixels(i)
