"""Completion of registered names in a shell, by Typer's own means (``faithface --install-completion``).

Place in the flow: given to options of the commands beside it. Loads the registry only when a shell asks.
"""

from __future__ import annotations

from collections.abc import Callable


def names(kind: str) -> Callable[[str], list[str]]:
    """Return a completer of the names of a kind, such as ``explainers`` or ``suites``."""

    def complete(incomplete: str) -> list[str]:
        from faithface.plugins import load_registry

        try:
            known = getattr(load_registry(), kind)
        except Exception:  # a shell must not be disturbed; the command itself will say what is wrong
            return []
        return [name for name in sorted(known) if name.startswith(incomplete)]

    return complete
