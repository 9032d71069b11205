"""The exception family of faithface: everything a user can cause and correct ends in one of these.

Place in the flow: below everything but ``reasons``, which it imports.

* :class:`FaithfaceError`: the base. The command line prints its text as one line and exits with ``exit_code``.
* :class:`UsageError` (exit 2): the request cannot be carried out as written: an unknown name, a wrong parameter, a bad
  card or file.
* :class:`RunError` (exit 1): the request was valid, and carrying it out failed.

A message says what was got, what was expected and what to do next.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from faithface.reasons import Reason, ReasonCode


class FaithfaceError(Exception):
    """Base of all errors that faithface raises on purpose.

    Attributes:
        exit_code: of the command line.
        code: what happened, for programs; the text is for people.
    """

    exit_code = 1
    code = ReasonCode.RUN

    def __init__(self, message: str, code: ReasonCode | None = None) -> None:
        super().__init__(message)
        self.code = code or type(self).code

    @property
    def reason(self) -> Reason:
        return Reason(self.code, str(self))

    def __reduce__(self) -> tuple[type[FaithfaceError], tuple[str, ReasonCode]]:
        return type(self), (str(self), self.code)


class UsageError(FaithfaceError):
    """The request cannot be carried out as it is written (exit code 2)."""

    exit_code = 2
    code = ReasonCode.USAGE


class RunError(FaithfaceError):
    """The request was valid and its execution failed (exit code 1)."""

    exit_code = 1


class NotApplicable(UsageError):
    """An explainer or metric does not fit this model, task or dataset; the text gives the reason.

    The runner turns it into a cell that is shown as "not applicable", never into a number.
    """

    code = ReasonCode.NOT_APPLICABLE


def nearest(name: str, known: Iterable[str]) -> str:
    """Return a hint for a name that is not known: the nearest known one, or the whole list.

    Examples:
        >>> nearest("grad-cm", ["grad-cam", "rise"])
        'did you mean "grad-cam"?'
        >>> nearest("zzz", ["b", "a"])
        'known: a, b'
        >>> nearest("zzz", [])
        'none is registered'
    """
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f'did you mean "{close[0]}"?'
    return f"known: {', '.join(names)}" if names else "none is registered"
