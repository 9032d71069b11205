"""What explainers and metrics have in common: a typed value that says what the class is, fields that a user may set.

Place in the flow: base of ``Explainer`` and ``Metric``. Imports only the standard library.

What a class *is* (its name, version, direction, needs) is declared in one class value, ``method`` or ``protocol``. What
a user may *set* are its dataclass fields, and nothing else. The two cannot be confused: a class body that mixes them
up is refused when it is executed.
"""

from __future__ import annotations

import inspect
from dataclasses import Field
from typing import Any, ClassVar

_MUTABLE = ("list", "dict", "set", "bytearray", "List", "Dict", "Set")


class Parametrised:
    """Base of classes whose dataclass fields are their parameters.

    Attributes:
        declared_in: the class value that says what the class is: ``"method"`` or ``"protocol"``.
        declared: the names of its attributes, which no parameter and no class attribute may take.
    """

    declared_in: ClassVar[str] = ""
    declared: ClassVar[frozenset[str]] = frozenset()

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        annotated = {
            name: str(hint) for name, hint in inspect.get_annotations(cls).items() if "ClassVar" not in str(hint)
        }
        for name, hint in annotated.items():
            if name in cls.declared:
                raise TypeError(
                    f"{cls.__name__}.{name} would be a parameter, but what a class is cannot be set: declare it in "
                    f"`{cls.declared_in} = {cls.declared_in.title()}({name}=…)`, or give the parameter another name"
                )
            if name in _reserved(cls):
                raise TypeError(f"{cls.__name__}.{name} hides {_reserved(cls)[name]}; give the parameter another name")
            if not _is_wiring(vars(cls).get(name)) and hint.partition("[")[0].split(".")[-1] in _MUTABLE:
                raise TypeError(
                    f"parameter {name} of {cls.__name__} is a {hint}; a parameter never changes: use tuple, frozenset "
                    "or a plain value"
                )
        for name, value in vars(cls).items():
            if name in annotated or name.startswith("_") or name in inspect.get_annotations(cls):
                continue
            if name in cls.declared and not isinstance(value, property):
                raise TypeError(
                    f"{cls.__name__}.{name} is set in the class body; declare it in "
                    f"`{cls.declared_in} = {cls.declared_in.title()}({name}=…)`"
                )
            if name in _class_variables(cls) or _is_code(value):
                continue
            raise TypeError(
                f"{cls.__name__}.{name} has no annotation, so it is neither a parameter nor a class variable; write "
                f"`{name}: {type(value).__name__} = …` for a parameter, or annotate it as ClassVar"
            )


def _class_variables(cls: type) -> set[str]:
    """Return what the base classes annotate as ClassVar: a subclass may set it without an annotation."""
    hints = [item for base in cls.__mro__[1:] for item in inspect.get_annotations(base).items()]
    return {name for name, hint in hints if "ClassVar" in str(hint)}


def _reserved(cls: type) -> dict[str, str]:
    """Return the methods and properties of the base classes by name, with where they come from."""
    found: dict[str, str] = {}
    for base in cls.__mro__[1:]:
        if issubclass(base, Parametrised):
            for name, value in vars(base).items():
                if not name.startswith("_") and _is_code(value):
                    found.setdefault(name, f"{base.__name__}.{name}")
    return found


def _is_wiring(default: Any) -> bool:
    """Say whether a field is not a parameter but a part that the object is made of (see ``specs.parameters``)."""
    return isinstance(default, Field) and not default.metadata.get("parameter", True)


def _is_code(value: Any) -> bool:
    return callable(value) or isinstance(value, property | classmethod | staticmethod)
