"""A place for what several explainers or metrics compute on the same batch, maps or model.

Place in the flow: held by ``Samples``, ``Maps`` and ``FaceModel``. Imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

H = TypeVar("H")
T = TypeVar("T")
P = ParamSpec("P")


class Reads(Protocol):
    """Notes what a dataset is asked for."""

    def add(self, what: Iterable[str], /) -> None: ...

    def begin(self) -> None: ...

    def end(self) -> frozenset[str]: ...


class Cache:
    """Results of functions by function and arguments, stored for as long as the object that holds the cache exists.

    What a function returns is shared by all callers: it must not be changed, unless the function returns a container
    that is meant to be filled.

    Attributes:
        seal: gets every new result before anybody has it, also of caches of what is kept here; None: nobody looks.
        reads: notes what a dataset is asked for while a result is made, and again whenever the result is handed out;
            None: nobody looks.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}
        self._read: dict[Hashable, frozenset[str]] = {}
        self.seal: Callable[[Any], None] | None = None
        self.reads: Reads | None = None

    def get(self, holder: H, function: Callable[Concatenate[H, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(holder, *args, **kwargs)``, computed once; the arguments must be hashable."""
        key = (function, args, tuple(sorted(kwargs.items())))
        if key not in self._found:
            self._found[key] = new = self._noted(key, lambda: function(holder, *args, **kwargs))
            if self.seal is not None:
                self.seal(new)
            within = getattr(new, "cache", None)
            if isinstance(within, Cache):
                within.seal, within.reads = self.seal, self.reads
        elif self.reads is not None and key in self._read:
            self.reads.add(self._read[key])
        found: T = self._found[key]
        return found

    def _noted(self, key: Hashable, make: Callable[[], T]) -> T:
        if self.reads is None:
            return make()
        self.reads.begin()
        try:
            return make()
        finally:
            if read := self.reads.end():
                self._read[key] = read

    def __len__(self) -> int:
        return len(self._found)

    def values(self) -> tuple[Any, ...]:
        """Return all results stored so far."""
        return tuple(self._found.values())

    def clear(self) -> None:
        """Remove all results."""
        self._found.clear()
        self._read.clear()
