"""What a process has only one of, and every plugin in it can alter: torch's and numpy's settings, the folder, handlers.

Place in the flow: ``guard`` reads it before plugins run, compares it after each step, and puts back what has changed.
May call ``lazy``.

Compared: torch's default dtype and device, gradient and inference mode, deterministic and denormal settings, number of
threads, autocast, matrix precision; numpy's error state; the working directory; environment variables; signal handlers
and timers; standard output and error; Python's search path, recursion limit, collector and trace function; and the
public functions of torch, numpy, ``builtins``, ``math`` and this package, which a plugin may have replaced.

Not compared: filters of warnings, further environment variables and further modules. Libraries set these when they are
first imported, and no number depends on them. The state of the global random generators is handled by :func:`seeded`.
"""

from __future__ import annotations

import builtins
import contextlib
import gc
import hashlib
import math
import operator
import os
import random
import signal
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from faithface.lazy import torch

SIGNALS = ("SIGINT", "SIGTERM", "SIGALRM", "SIGCHLD", "SIGPIPE", "SIGUSR1", "SIGUSR2", "SIGSEGV", "SIGABRT", "SIGHUP")
OWN_VARIABLE = "OMP_NUM_THREADS"


@dataclass(frozen=True)
class Setting:
    """One thing that is compared: what people call it, how it is read, how it is put back."""

    name: str
    read: Callable[[], Any]
    write: Callable[[Any], Any]


def _grad_mode(value: bool) -> None:
    torch._C._set_grad_enabled(value)  # the function behind the context manager, which has no effect by itself


def _deterministic() -> tuple[bool, bool]:
    return torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()


def _set_deterministic(value: tuple[bool, bool]) -> None:
    torch.use_deterministic_algorithms(value[0], warn_only=value[1])


def _set_device(value: Any) -> None:
    # "cpu" by name would put a mode around every call of torch; None is the state of a fresh process.
    torch.set_default_device(None if value.type == "cpu" else value)


def _denormals_flushed() -> bool:
    return bool((torch.tensor([1e-40], dtype=torch.float32) * 1).item() == 0)


def _autocast() -> tuple[bool, bool]:
    return torch.is_autocast_enabled("cpu"), torch.is_autocast_enabled("cuda")


def _set_autocast(value: tuple[bool, bool]) -> None:
    for device, enabled in zip(("cpu", "cuda"), value, strict=True):
        torch.set_autocast_enabled(device, enabled)


def _backends() -> tuple[Any, ...]:
    back = torch.backends
    return back.cudnn.enabled, back.cudnn.benchmark, back.cudnn.deterministic, torch.get_float32_matmul_precision()


def _set_backends(value: tuple[Any, ...]) -> None:
    back = torch.backends
    back.cudnn.enabled, back.cudnn.benchmark, back.cudnn.deterministic = value[:3]
    torch.set_float32_matmul_precision(value[3])


def _folder() -> str:
    try:
        return os.getcwd()
    except OSError:  # the folder is gone
        return ""


def _handlers() -> dict[str, Any]:
    return {name: signal.getsignal(getattr(signal, name)) for name in SIGNALS if hasattr(signal, name)}


def _set_handlers(value: Mapping[str, Any]) -> None:
    for name, handler in value.items():
        if handler is not None and signal.getsignal(getattr(signal, name)) != handler:
            with contextlib.suppress(ValueError, OSError):  # only the main thread may
                signal.signal(getattr(signal, name), handler)


def _timer() -> bool:
    return hasattr(signal, "getitimer") and signal.getitimer(signal.ITIMER_REAL)[0] > 0


def _set_timer(_value: bool) -> None:
    if hasattr(signal, "setitimer"):
        signal.setitimer(signal.ITIMER_REAL, 0)


def _variables() -> dict[str, str]:
    return dict(os.environ)


def _set_variables(value: Mapping[str, str]) -> None:
    for name, text in value.items():
        if os.environ.get(name) != text:
            os.environ[name] = text
    if OWN_VARIABLE not in value:
        os.environ.pop(OWN_VARIABLE, None)


def _streams() -> tuple[Any, ...]:
    return sys.stdout, sys.stderr


def _set_streams(value: tuple[Any, ...]) -> None:
    sys.stdout, sys.stderr = value


def _trace() -> tuple[Any, Any]:
    return sys.gettrace(), sys.getprofile()


def _set_trace(value: tuple[Any, Any]) -> None:
    sys.settrace(value[0])
    sys.setprofile(value[1])


SETTINGS = (
    Setting("torch's default dtype", lambda: torch.get_default_dtype(), lambda v: torch.set_default_dtype(v)),
    Setting("torch's default device", lambda: torch.get_default_device(), _set_device),
    Setting("torch's gradient mode", lambda: torch.is_grad_enabled(), _grad_mode),
    Setting("torch's deterministic mode", _deterministic, _set_deterministic),
    Setting("torch's number of threads", lambda: torch.get_num_threads(), lambda v: torch.set_num_threads(v)),
    Setting("torch's treatment of denormal numbers", _denormals_flushed, lambda v: torch.set_flush_denormal(v)),
    Setting("torch's autocast", _autocast, _set_autocast),
    Setting("torch's backend settings", _backends, _set_backends),
    Setting("numpy's error state", np.geterr, lambda v: np.seterr(**v)),
    Setting("the working directory", _folder, os.chdir),
    Setting("the signal handlers", _handlers, _set_handlers),
    Setting("the alarm timer", _timer, _set_timer),
    Setting("standard output or error", _streams, _set_streams),
    Setting("Python's search path", lambda: list(sys.path), lambda v: sys.path.__setitem__(slice(None), v)),
    Setting("Python's recursion limit", sys.getrecursionlimit, sys.setrecursionlimit),
    Setting("Python's garbage collector", gc.isenabled, lambda v: gc.enable() if v else gc.disable()),
    Setting("Python's trace function", _trace, _set_trace),
)


@dataclass(frozen=True)
class Functions:
    """The functions and classes that an object (a module, a class) held, and under which names."""

    where: str
    holder: Any
    names: tuple[str, ...]
    values: tuple[Any, ...]

    @classmethod
    def of(cls, where: str, holder: Any, private: bool = False) -> Functions:
        # torch.Storage follows the default dtype, which is compared by itself.
        found = [
            (k, v)
            for k, v in vars(holder).items()
            if callable(v) and (private or not k.startswith("_")) and k != "Storage"
        ]
        return cls(where, holder, tuple(k for k, _ in found), tuple(v for _, v in found))

    def replaced(self) -> list[str]:
        """Return the names that hold something else now."""
        now = vars(self.holder)
        if all(map(operator.is_, map(now.get, self.names), self.values)):
            return []
        return [n for n, v in zip(self.names, self.values, strict=True) if now.get(n) is not v]

    def put_back(self, names: list[str]) -> None:
        was = dict(zip(self.names, self.values, strict=True))
        for name in names:
            setattr(self.holder, name, was[name])


@dataclass(frozen=True)
class Surroundings:
    """The state of this process at one moment; see the module."""

    settings: tuple[Any, ...]
    variables: Mapping[str, str]
    functions: tuple[Functions, ...]

    @classmethod
    def read(cls, *more: Any) -> Surroundings:
        """Return the present state.

        Args:
            more: classes whose functions are compared too, such as those of the other plugins.
        """
        holders = [("torch", torch), ("torch.Tensor", torch.Tensor), ("torch.nn.functional", torch.nn.functional)]
        holders += [("numpy", np), ("numpy.random", np.random), ("numpy.linalg", np.linalg), ("numpy.fft", np.fft)]
        holders += [("builtins", builtins), ("math", math), ("os", os)]
        functions = [Functions.of(where, _real(holder)) for where, holder in holders]
        for name, module in sorted(sys.modules.items()):
            if name.split(".")[0] == "faithface" and module is not None:
                functions.append(Functions.of(name, module, private=True))
                functions += [
                    Functions.of(f"{name}.{k}", v, private=True)
                    for k, v in vars(module).items()
                    if isinstance(v, type) and v.__module__ == name
                ]
        functions += [Functions.of(f"{c.__module__}.{c.__qualname__}", c, private=True) for c in dict.fromkeys(more)]
        return cls(tuple(s.read() for s in SETTINGS), _variables(), tuple(functions))

    def restore(self) -> list[str]:
        """Put back what differs from this state; return what it was, in words."""
        changed = []
        for functions in self.functions:  # first: what is compared next may rely on them
            if names := functions.replaced():
                functions.put_back(names)
                changed += [f"{functions.where}.{name}" for name in names]
        for setting, was in zip(SETTINGS, self.settings, strict=True):
            if setting.read() != was:
                setting.write(was)
                changed.append(setting.name)
        now = os.environ
        if any(now.get(k) != v for k, v in self.variables.items()) or (
            OWN_VARIABLE in now and OWN_VARIABLE not in self.variables
        ):
            _set_variables(self.variables)
            changed.append("environment variables")
        return changed


def _real(holder: Any) -> Any:
    """Return the module behind a lazy one."""
    return sys.modules[holder.__name__] if getattr(holder, "__name__", "") in sys.modules else holder


@contextlib.contextmanager
def seeded(*parts: object) -> Iterator[None]:
    """Give the global random generators a fixed state within the block, and their own after it.

    Plugins should draw from ``samples.rng``. One that draws from the global generators gets the same numbers in every
    run, and others do not notice.
    """
    seed = int.from_bytes(hashlib.blake2b(repr(parts).encode(), digest_size=4).digest(), "little")
    with warnings.catch_warnings():
        before = random.getstate(), np.random.get_state(), torch.random.get_rng_state()  # noqa: NPY002
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.random.default_generator.manual_seed(seed)
        try:
            yield
        finally:
            random.setstate(before[0])
            np.random.set_state(before[1])  # noqa: NPY002
            torch.random.set_rng_state(before[2])
