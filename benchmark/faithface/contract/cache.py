"""A place for what several explainers or metrics compute on the same batch, maps or model.

Place in the flow: held by ``Samples``, ``Maps`` and ``FaceModel``. Imports only the standard library.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Concatenate, ParamSpec, TypeVar

H = TypeVar("H")
T = TypeVar("T")
P = ParamSpec("P")


class Cache:
    """Results of functions by function and arguments, stored for as long as the object that holds the cache exists.

    What a function returns is shared by all callers: it must not be changed, unless the function returns a container
    that is meant to be filled.

    Attributes:
        seal: gets every new result before anybody has it, also of caches of what is kept here; None: nobody looks.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, Any] = {}
        self.seal: Callable[[Any], None] | None = None

    def get(self, holder: H, function: Callable[Concatenate[H, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(holder, *args, **kwargs)``, computed once; the arguments must be hashable."""
        key = (function, args, tuple(sorted(kwargs.items())))
        if key not in self._found:
            self._found[key] = new = function(holder, *args, **kwargs)
            if self.seal is not None:
                self.seal(new)
                within = getattr(new, "cache", None)
                if isinstance(within, Cache):
                    within.seal = self.seal
        found: T = self._found[key]
        return found

    def __len__(self) -> int:
        return len(self._found)

    def values(self) -> tuple[Any, ...]:
        """Return all results stored so far."""
        return tuple(self._found.values())

    def clear(self) -> None:
        """Remove all results."""
        self._found.clear()
