"""A first plugin from the template: ``faithface new-plugin``.

Place in the flow: called by ``cli.plugins``. The template (``plugins/template`` in the repository, ``template``
inside the
installed package) is filled in by copier, which is part of the extra ``plugin``. May call ``errors``.
"""

from __future__ import annotations

import re
from importlib import resources
from pathlib import Path

from faithface.errors import UsageError, nearest

KINDS = ("explainer", "model", "dataset", "metric", "fill", "suite")
ANSWERS = ".copier-answers.yml"
NAME = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def template_folder() -> Path:
    """Return the folder of the template: inside the installed package, or of the checkout that it lies in.

    Raises:
        UsageError: it is in neither place.
    """
    package = Path(str(resources.files("faithface")))
    for place in (package / "template", package.parents[1] / "plugins" / "template"):
        if (place / "copier.yml").is_file():
            return place
    raise UsageError(f"the plugin template is neither in {package} nor beside it; install faithface again")


def new_plugin(name: str, kind: str, parent: Path) -> Path:
    """Write a plugin's folder, named as the plugin, and return it.

    Args:
        name: of the distribution, such as ``cell-drop``.
        kind: one of :data:`KINDS`.
        parent: where the folder goes.

    Raises:
        UsageError: a name that no distribution can have, a folder that is there already and not empty, or copier is
            not installed.
    """
    if kind not in KINDS:
        raise UsageError(f'no kind "{kind}"; {nearest(kind, KINDS)}')
    if not NAME.fullmatch(name):
        raise UsageError(f'"{name}" is no name for a plugin; expected lower-case letters, digits and dashes: cell-drop')
    package = name.replace("-", "_")
    if not package.isidentifier() or package in ("faithface", "faithface_plugins", "tests"):
        raise UsageError(f'"{name}" cannot be imported as {package}; choose a name that begins with a letter')
    target = parent / name
    if target.is_dir() and any(target.iterdir()):
        raise UsageError(f"{target} is there already and not empty; choose another name, or another --out")
    _fill_in(target, {"name": name, "kind": kind})
    return target


def update_plugin(folder: Path) -> list[str]:
    """Bring later changes of the template into a plugin's folder; return the files that changed, sorted.

    The package, the README and ``pyproject.toml`` belong to the author and stay as they are; one that is not there is
    written. Everything else of the template (test, CI, ``.gitignore``) is written anew.

    Raises:
        UsageError: the folder was not made from the template, or copier is not installed.
    """
    try:
        lines = (folder / ANSWERS).read_text(encoding="utf-8").splitlines()
    except OSError:
        raise UsageError(
            f"{folder} holds no {ANSWERS}, so it was not made by `faithface new-plugin`; make a new plugin and move "
            "your package there"
        ) from None
    answers = {key.strip(): value.strip() for key, _, value in (line.partition(":") for line in lines) if value}
    missing = [key for key in ("name", "kind") if not answers.get(key)]
    if missing or answers["kind"] not in KINDS:
        raise UsageError(f"{folder / ANSWERS} does not say {' and '.join(missing) or 'a known kind'}; restore the file")
    before = _contents(folder)
    _fill_in(folder, {key: answers[key] for key in ("name", "kind")}, overwrite=True)
    after = _contents(folder)
    return sorted(path for path in after if after[path] != before.get(path) and path != ANSWERS)


def _fill_in(target: Path, answers: dict[str, str], overwrite: bool = False) -> None:
    try:
        import copier
    except ImportError:
        raise UsageError('copier is not installed: python -m pip install "faithface[plugin]"') from None
    copier.run_copy(str(template_folder()), str(target), data=answers, defaults=True, overwrite=overwrite, quiet=True)


def _contents(folder: Path) -> dict[str, bytes]:
    hidden = {".git", ".venv", "__pycache__"}
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not hidden & set(path.relative_to(folder).parts)
    }
