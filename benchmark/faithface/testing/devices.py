"""Would this code run on a CUDA device? Asked on a machine that has none.

Place in the flow: ``of_explainers`` and ``of_metrics`` run a plugin once inside :class:`HostTensors`. Imports torch.

Inside the context every tensor is taken to be on a device, but those that a program makes on the host: by a function
like ``torch.zeros`` without ``device=``, from numpy, or by ``.cpu()``. They are marked, and so is what is computed from
marked tensors alone. On a real device an operation on tensors of both kinds fails, and so does ``.numpy()`` of a tensor
that is not marked; here they are written down. A tensor with no axes counts as a number, as it does on a device.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from faithface import lazy

MARK = "_faithface_host"
PLACES = (torch, lazy.torch)
"""Where code finds ``from_numpy``: the stand-in keeps what it has looked up once."""
DEVICE = torch.device("cpu")
MAKERS = {
    "zeros", "ones", "full", "empty", "rand", "randn", "randint", "randperm", "arange", "linspace", "logspace", "eye",
    "tensor", "meshgrid", "hann_window", "tril_indices", "triu_indices",
}  # fmt: skip
FROM_NUMPY = {"as_tensor", "frombuffer"}
MOVES = {"to", "type", "new_tensor"}
LIKE = {"zeros_like", "ones_like", "full_like", "empty_like", "rand_like", "randn_like"}
# What takes an index or a mask from the host on a device too, or copies between the two.
FREE = {
    "__getitem__",
    "__setitem__",
    "copy_",
    "__get__",
    "__repr__",
    "requires_grad_",
    "data_ptr",
    "__len__",
    "item",
    "tolist",
}


class HostTensors(TorchFunctionMode):
    """Writes down where code would fail on a device.

    Attributes:
        problems: one line each.
    """

    def __init__(self) -> None:
        super().__init__()
        self.problems: list[str] = []
        self._inside = False

    def __enter__(self) -> HostTensors:
        self._from_numpy: Any = torch.from_numpy  # a function that modes are not told of

        def from_numpy(array: Any) -> torch.Tensor:
            made: torch.Tensor = self._from_numpy(array)
            _mark(made, not self._inside)
            return made

        for place in PLACES:
            setattr(place, "from_numpy", from_numpy)  # noqa: B010 - its type says that it is never replaced
        super().__enter__()
        return self

    def __exit__(self, *error: Any) -> None:
        for place in PLACES:
            setattr(place, "from_numpy", self._from_numpy)  # noqa: B010
        super().__exit__(*error)

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = getattr(func, "__name__", "")
        result = func(*args, **kwargs)
        if self._inside:
            return result
        given = list(_tensors((args, kwargs)))
        if name == "numpy" and given and not _marked(given[0]):
            self._note("calls .numpy() on a tensor of the device; call .cpu() first")
        elif name in MAKERS:
            _mark(result, kwargs.get("device") is None and not given)
        elif name in FROM_NUMPY:
            _mark(result, kwargs.get("device") is None and not (given and not _marked(given[0])))
        elif name == "cpu" or name in MOVES:
            if any(result is one for one in given):  # here the move is none; there it gives another tensor
                result = torch.ops.aten.alias(result)
            _mark(result, name == "cpu" or _host_after_move(args, kwargs))
        elif name not in FREE:
            whole = [t for t in given if t.ndim]
            host = [t for t in whole if _marked(t)]
            if host and len(host) < len(whole):
                self._note(f"torch.{name} gets a tensor of the device and one that was made on the host")
            _mark(result, bool(host) and len(host) == len(whole))
        elif name in ("__getitem__", "__get__", "requires_grad_") and given:  # __get__: attributes such as .T
            _mark(result, _marked(given[0]))
        return result

    def _note(self, text: str) -> None:
        frame = sys._getframe(2)
        while frame.f_back is not None and _is_library(frame.f_code.co_filename):
            frame = frame.f_back
        where = f"{frame.f_code.co_filename.rpartition('/')[2]}, line {frame.f_lineno}"
        self.problems.append(f"{text} ({where})")

    @contextlib.contextmanager
    def model(self) -> Iterator[None]:
        """Do not look inside: what a model does on its own device is its own business."""
        before, self._inside = self._inside, True
        try:
            yield
        finally:
            self._inside = before


def is_on_host(tensor: torch.Tensor) -> bool:
    """Say whether a tensor was made on the host inside :class:`HostTensors`."""
    return _marked(tensor)


def _is_library(path: str) -> bool:
    return "/torch/" in path or path == __file__


def _host_after_move(args: Any, kwargs: Any) -> bool:
    """Whether ``tensor.to(…)`` gives a tensor of the host: it was one, and is not moved to a device."""
    target = kwargs.get("device")
    for one in args[1:]:
        if isinstance(one, torch.Tensor):
            return _marked(one)
        if isinstance(one, torch.device | str):
            target = one
    return _marked(args[0]) if target is None else False


def _tensors(value: Any) -> Iterator[torch.Tensor]:
    if isinstance(value, torch.Tensor):
        yield value
    elif isinstance(value, tuple | list):
        for one in value:
            yield from _tensors(one)
    elif isinstance(value, dict):
        yield from _tensors(tuple(value.values()))


def _marked(tensor: torch.Tensor) -> bool:
    return bool(getattr(tensor, MARK, False))


def _mark(result: Any, host: bool) -> None:
    for one in _tensors(result):
        with contextlib.suppress(AttributeError, RuntimeError):
            setattr(one, MARK, host)


def on_device(model: Any, mode: HostTensors) -> Any:
    """Return a model like this one whose own work is not watched, and whose results are on the device."""
    import copy

    kind = type(model)

    def wrapped(name: str) -> Any:
        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            for one in _tensors((args, kwargs)):
                if _marked(one) and one.ndim:
                    mode._note(f"model.{name} gets a tensor that was made on the host")
            with mode.model():
                result = getattr(kind, name)(self, *args, **kwargs)
            _mark(
                vars(result) if hasattr(result, "__dict__") and not isinstance(result, torch.Tensor) else result, False
            )
            return result

        return call

    def outputs_of(self: Any, count: int, make: Any) -> Any:
        if mode._inside:
            return kind.outputs_of(self, count, make)
        return self.outputs(make(slice(0, count)))  # in one piece and in this thread, where it is watched

    names = ("outputs", "scores", "embeddings", "gradient", "vjp", "activations")
    made = copy.copy(model)
    made.__class__ = type(kind.__name__, (kind,), {n: wrapped(n) for n in names} | {"outputs_of": outputs_of})
    return made
