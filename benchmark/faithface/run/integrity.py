"""Digests of arrays that several plugins share, so that a change by one of them is noticed before another sees it.

Place in the flow: ``guard`` seals what it hands to plugins and compares after each step. May call the contract.

The digest reads memory once, at its full speed: the array's 64-bit words are summed in 1,021 columns, and the sums are
hashed. 1,021 is a prime number, so that words which change places end up in other columns, unless they lie a multiple
of 8,168 bytes apart.
"""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Face, FaceModel, Pair, Sample
from faithface.contract.cache import Cache

COLUMNS = 1021
EMPTY = np.empty(0, np.uint8)
ITEMS = frozenset({Sample, Pair, Face})
PLAIN = frozenset({type(None), str, bytes, int, float, bool})
DEEP = 8  # containers within containers, before a walk ends


def digest(array: Tensor | np.ndarray) -> bytes:
    """Return a digest of an array's shape, dtype and content."""
    if isinstance(array, Tensor):
        shape, kind = tuple(array.shape), str(array.dtype)
        try:
            held = _smallest(array.detach()).numpy()
        except (TypeError, RuntimeError):  # on a device, sparse, quantized, conjugated, or of a type numpy lacks
            plain = array.detach().resolve_conj().resolve_neg().cpu()
            if plain.layout != torch.strided or plain.is_quantized:
                return repr(plain).encode()
            held = _smallest(plain).contiguous().reshape(-1).view(torch.uint8).numpy() if plain.numel() else EMPTY
    else:
        shape, kind, held = array.shape, array.dtype.str, array
    raw = np.ascontiguousarray(held).reshape(-1).view(np.uint8)
    whole = len(raw) // (8 * COLUMNS) * 8 * COLUMNS
    found = hashlib.blake2b(repr((shape, kind)).encode(), digest_size=16)
    if whole:
        words = raw[:whole].view(np.uint64) if raw.ctypes.data % 8 == 0 else raw[:whole].copy().view(np.uint64)
        found.update(np.add.reduce(words.reshape(-1, COLUMNS), axis=0).tobytes())
    found.update(raw[whole:].tobytes())
    return found.digest()


def _smallest(tensor: Tensor) -> Tensor:
    """Return a tensor without the axes along which it is only repeated."""
    strides = tensor.stride()
    if 0 not in strides:
        return tensor
    for axis, (size, stride) in enumerate(zip(tensor.shape, strides, strict=True)):
        if stride == 0 and size > 1:
            tensor = tensor.narrow(axis, 0, 1)
    return tensor


def arrays_in(value: Any, depth: int = DEEP) -> Iterator[Tensor | np.ndarray]:
    """Yield the arrays in nested containers, dataclasses, modules, models and caches."""
    left = [(value, depth)]
    while left:  # a loop, not a recursion: this is done after every step of a run, and most of what is met are numbers
        one, more = left.pop()
        if type(one) in PLAIN:
            continue
        if isinstance(one, Tensor):
            yield one
        elif isinstance(one, np.ndarray):
            if not one.dtype.hasobject:
                yield one
        elif more == 0 or isinstance(one, str | bytes | int | float | type):
            continue
        elif isinstance(one, torch.nn.Module):
            yield from one.parameters()
            yield from one.buffers()
        else:
            left += [(inner, more - 1) for inner in _inside(one) if type(inner) not in PLAIN]


def _inside(value: Any) -> Iterable[Any]:
    """Return what a container, dataclass, model or cache holds.

    Items hold no arrays, and a set has very many; a class derived from theirs may hold some.
    """
    if type(value) in ITEMS:
        return ()
    if isinstance(value, Cache):
        return value.values()
    if isinstance(value, FaceModel):
        return [found for key, found in vars(value).items() if key in ("cache", "twin", "_last")]
    if isinstance(value, Mapping):
        return tuple(value.values())
    if isinstance(value, list | tuple | set | frozenset):
        return tuple(value)
    if dataclasses.is_dataclass(value):
        return [getattr(value, field.name, None) for field in dataclasses.fields(value)]
    return ()


class Seals:
    """Digests of arrays by the object that holds them.

    An array that was sealed must stay as it is; others may be added at any time. The arrays are kept alive, so that
    none is taken for another that lies at the same address later.
    """

    def __init__(self) -> None:
        self.known: dict[int, tuple[Tensor | np.ndarray, bytes]] = {}

    def add(self, value: Any) -> None:
        """Seal the arrays of a value that are not sealed yet."""
        for array in arrays_in(value):
            if id(array) not in self.known:
                self.known[id(array)] = (array, digest(array))

    def changed(self, *holders: Any) -> bool:
        """Say whether an array of the holders has changed since it was sealed, and seal those that are new."""
        found = False
        seen: dict[int, tuple[Tensor | np.ndarray, bytes]] = {}
        for array in arrays_in(holders):
            if id(array) in seen:
                continue
            now = digest(array)
            before = self.known.get(id(array))
            found |= before is not None and before[1] != now
            seen[id(array)] = (array, now)
        self.known = seen  # what is no longer held by anybody is forgotten
        return found
