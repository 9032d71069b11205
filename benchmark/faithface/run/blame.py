"""Where in a plugin's own code an exception comes from, and its traceback as text.

Place in the flow: ``shard`` asks for both when an explainer or a metric raises. Imports only the standard library.
"""

from __future__ import annotations

import re
import traceback
from pathlib import PurePath

MOST = 60  # lines of a traceback that are kept, at its end


def place_of(error: BaseException, plugin: object) -> str:
    """Return ``file.py:12, in explain``: the last line of the plugin's own package that the exception went through.

    Args:
        plugin: the explainer or metric. Its package is the first part of its module's name.

    Returns:
        "" if the exception never was in it.
    """
    package = type(plugin).__module__.partition(".")[0]
    found = ""
    for frame, line in traceback.walk_tb(error.__traceback__):
        name = str(frame.f_globals.get("__name__", ""))
        if name.partition(".")[0] == package and not name.startswith(_RUNNER):
            found = f"{PurePath(frame.f_code.co_filename).name}:{line}, in {frame.f_code.co_name}"
    return found


_RUNNER = ("faithface.run.", "faithface.explaining", "faithface.api", "faithface.cli.")
"""What calls plugins; for explainers and metrics of this package it is not their own code."""


def text_of(error: BaseException) -> str:
    """Return a traceback as text, its end if it is long; "" for an exception without one."""
    try:
        lines = "".join(traceback.format_exception(error)).splitlines()
    except BaseException:  # a plugin's own class, whose __str__ raises
        lines = traceback.format_tb(error.__traceback__) if error.__traceback__ else []
    cut = ["  …"] if len(lines) > MOST else []
    return "\n".join([*cut, *lines[-MOST:]])


def without_folders(text: str) -> str:
    """Return a traceback with the last two parts of each path: records are published, and folders are private.

    Examples:
        >>> without_folders('  File "/home/me/code/mine/saliency.py", line 3, in explain')
        '  File "mine/saliency.py", line 3, in explain'
    """

    def short(found: re.Match[str]) -> str:
        return f'File "{PurePath(*PurePath(found[1]).parts[-2:])}"'

    return re.sub(r'File "([^"]+)"', short, text)
