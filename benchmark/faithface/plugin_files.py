"""Plugins without a package: a Python file with hooks, named by ``--plugin`` or called ``faithfacefile.py``.

Place in the flow: ``plugins`` loads what :func:`plugin_files` finds, beside the installed distributions. May call
``errors``.

The environment variable ``FAITHFACE_PLUGIN_FILES`` holds the paths that ``--plugin`` was given, separated as in
``PATH``, so that every part of the program, and every process that it starts, sees the same plugins. Classes of such a
file are sent to worker processes with their code, because no worker could import them.
"""

from __future__ import annotations

import importlib.util
import os
import re
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from faithface.errors import UsageError

VARIABLE = "FAITHFACE_PLUGIN_FILES"
BESIDE = "faithfacefile.py"
STAMP = "_faithface_stamp"


@dataclass(frozen=True)
class PluginFile:
    """A file that holds hooks.

    Attributes:
        path: absolute.
        named: whether the user named it; then a failure is an error, otherwise it is a row of ``faithface plugins``.
    """

    path: Path
    named: bool

    @property
    def module(self) -> str:
        """The name that its module gets."""
        return re.sub(r"\W", "_", self.path.stem)

    def load(self) -> ModuleType:
        """Return the file's module; it is executed again only after a change.

        Raises:
            UsageError: no such file, not Python, or a name that another module has.
            Exception: what the file itself raises.
        """
        return load_file(self.path, self.module)


def add_plugin_files(paths: list[Path]) -> None:
    """Make files known to this process and those that it starts, as ``--plugin`` does.

    Raises:
        UsageError: one is not there, or two have the same name.
    """
    for path in paths:
        if not path.is_file():
            raise UsageError(f"--plugin {path}: no such file; expected a Python file with hooks")
    known = [file.path for file in _named()]
    every = [*known, *(p for p in (path.resolve() for path in paths) if p not in known)]
    stems = [path.stem for path in every]
    for path in every:
        if stems.count(path.stem) > 1:
            raise UsageError(f"two plugin files are named {path.name}; rename one of them")
    if every:
        os.environ[VARIABLE] = os.pathsep.join(map(str, every))


def plugin_files(beside: bool = True) -> list[PluginFile]:
    """Return the files named by ``--plugin``, then ``faithfacefile.py`` of the working folder if there is one."""
    found = _named()
    own = Path.cwd() / BESIDE
    if beside and own.is_file() and own.resolve() not in [file.path for file in found]:
        found.append(PluginFile(own.resolve(), named=False))
    return found


def _named() -> list[PluginFile]:
    text = os.environ.get(VARIABLE, "")
    return [PluginFile(Path(part), named=True) for part in text.split(os.pathsep) if part]


def load_file(path: Path, name: str) -> ModuleType:
    """Return a file's module under a name; see :meth:`PluginFile.load`."""
    import cloudpickle

    try:
        state = path.stat()
    except OSError as error:
        raise UsageError(f"plugin file {path} cannot be read ({error.strerror})") from None
    stamp = (str(path), state.st_mtime_ns, state.st_size)
    before = sys.modules.get(name)
    if before is not None:
        if getattr(before, STAMP, None) == stamp:
            return before
        if not hasattr(before, STAMP):
            raise UsageError(f"plugin file {path} has the name of the module {name}; rename the file")
    spec = importlib.util.spec_from_file_location(name, path)
    if path.suffix != ".py" or spec is None or spec.loader is None:
        raise UsageError(f"plugin file {path} is no Python file; expected one that ends in .py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    try:
        # Not through the loader: its bytecode is told apart by whole seconds and size, and an edit may change neither.
        exec(compile(path.read_bytes(), str(path), "exec"), module.__dict__)
    except BaseException:
        sys.modules.pop(name, None)
        raise
    setattr(module, STAMP, stamp)
    cloudpickle.register_pickle_by_value(module)
    return module
