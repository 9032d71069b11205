"""Heavy third-party modules, imported when they are first used.

Place in the flow: below everything; imports only the standard library. ``faithface --help``, the listings and the
leaderboards read declarations of explainers and metrics whose code needs torch, but need no torch themselves: modules
that these commands import write ``from faithface.lazy import torch`` instead of ``import torch``.

The stand-in imports the real module when an attribute is first used, and keeps it. It must
not be used where a module needs an attribute at import time (a base class, a decorator): import the real one there.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any


class LazyModule(ModuleType):
    """A stand-in for a module; its attributes are the real module's."""

    def __getattr__(self, name: str) -> Any:
        # typing and inspect look up dunder names such as __wrapped__; those must not load the module.
        if name.startswith("__"):
            raise AttributeError(f"module {self.__name__!r} is not loaded yet and has no attribute {name!r}")
        value = getattr(importlib.import_module(self.__name__), name)
        setattr(self, name, value)
        return value


if TYPE_CHECKING:
    import torch
else:
    torch = LazyModule("torch")

__all__ = ["LazyModule", "torch"]
