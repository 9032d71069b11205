"""The version of the plugin contract, and how a part of it is taken away.

Place in the flow: ``plugins`` asks :func:`check_contract` of every plugin module; :func:`warn_deprecated` is called
where
something that is deprecated is used. Imports only ``errors``.

The contract is what ``docs/reference/stable-api.md`` lists. Its version is none of the package's: a new major version
means that plugins must change, a new minor version that they may use something new. A module says which major version
it was written for: ``FAITHFACE_CONTRACT = 1``. One that says nothing is taken to be written for 1.
"""

from __future__ import annotations

import warnings
from typing import Any

from faithface.errors import UsageError

CONTRACT = (1, 0)
ATTRIBUTE = "FAITHFACE_CONTRACT"
FIRST = 1


class FaithfaceDeprecationWarning(FutureWarning):
    """Something of the plugin contract will go with the next minor version; shown by default, once for each place."""


def check_contract(module: Any) -> None:
    """Refuse a plugin that was written for another major version of the contract.

    Raises:
        UsageError: it was, or says something that is no version; both versions are named.
    """
    given = getattr(module, ATTRIBUTE, FIRST)
    if isinstance(given, bool) or not isinstance(given, int | str) or not str(given).partition(".")[0].isdigit():
        raise UsageError(f"{ATTRIBUTE} of {module.__name__} is {given!r}; expected a version such as {CONTRACT[0]}")
    wanted = int(str(given).partition(".")[0])
    if wanted != CONTRACT[0]:
        newer = wanted > CONTRACT[0]
        raise UsageError(
            f"{module.__name__} was written for version {wanted} of the plugin contract, and this faithface has "
            f"version {CONTRACT[0]}.{CONTRACT[1]}; install "
            f"{'a newer faithface' if newer else 'a newer version of the plugin'}"
        )


def warn_deprecated(what: str, gone_in: str, instead: str, level: int = 2) -> None:
    """Warn that something will be gone one minor version later.

    Args:
        what: its name, such as ``Explainer.old_name``.
        gone_in: the version of the contract in which it will be gone, such as ``1.1``.
        instead: what to use.
        level: how many frames above this function the place lies that is warned about.
    """
    warnings.warn(
        f"{what} is deprecated and will be gone in version {gone_in} of the plugin contract; use {instead}",
        FaithfaceDeprecationWarning,
        stacklevel=level + 1,
    )
