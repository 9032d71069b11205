"""Checks of what classes declare.

Place in the flow: called by ``Method`` and ``Protocol`` when they are made. May call ``errors``.
"""

from __future__ import annotations

from typing import Any, get_args

from faithface.errors import nearest


def check_literals(what: str, key: str, given: Any, allowed: Any) -> None:
    """Refuse anything but a frozenset of words of a Literal type.

    Raises:
        TypeError: it is not a frozenset, or holds another word; the nearest is suggested.
    """
    if not isinstance(given, frozenset):
        raise TypeError(f"{what}: {key} is {given!r}; expected frozenset({{…}}) of {', '.join(get_args(allowed))}")
    for word in sorted(map(str, given)):
        if word not in get_args(allowed):
            raise TypeError(f'{what}: unknown {key} "{word}"; {nearest(word, get_args(allowed))}')
