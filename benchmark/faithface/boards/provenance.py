"""Where the source of a plugin is kept: repository, path and revision, as far as its package says.

Place in the flow: ``collect`` writes it into records. Reads the metadata of installed distributions; of this project's
own source checkout, the commit. Imports the standard library and ``run.environment``.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from faithface.card import ModelCard
from faithface.run.environment import commit

OURS = "faithface"
LABELS = ("source", "sourcecode", "repository", "code", "github", "homepage")
"""Labels of a distribution's addresses, the best first (lower case, without spaces and signs)."""


@dataclass(frozen=True)
class Address:
    """Where a source file is kept.

    Attributes:
        repository: its address on the web; "" where the package names none.
        path: the file within the package, such as ``faithface_plugins/explainers/cams.py``; "" for models, whose file
            the card names, and for what was typed at a prompt.
        revision: the commit; "" where it is not known.
    """

    repository: str = ""
    path: str = ""
    revision: str = ""


def address_of(thing: Any, distribution: str) -> Address:
    """Return where the source of a registered object is kept.

    Args:
        thing: an explainer, a metric, a dataset or a model card.
        distribution: the package that provided it.
    """
    repository, revision = _distribution(distribution)
    return Address(repository, _path(type(thing)), revision)


def _path(cls: type) -> str:
    if issubclass(cls, ModelCard) or cls.__module__ == "__main__":
        return ""
    return f"{cls.__module__.replace('.', '/')}.py"


@functools.cache
def _distribution(name: str) -> tuple[str, str]:
    """Return the repository and the revision of an installed distribution."""
    try:
        found = importlib.metadata.distribution(name) if name else None
    except importlib.metadata.PackageNotFoundError:
        found = None
    if found is None:
        return "", ""
    # A package that was installed from a repository says from which, and at which commit (PEP 610).
    installed = json.loads(found.read_text("direct_url.json") or "{}")
    if vcs := installed.get("vcs_info"):
        return public(installed.get("url", "")), str(vcs.get("commit_id", ""))
    urls: dict[str, str] = {}
    for line in found.metadata.get_all("Project-URL") or ():
        label, _, url = line.partition(",")
        urls["".join(filter(str.isalnum, label.lower()))] = url.strip()
    home = next(iter(found.metadata.get_all("Home-page") or ()), "")
    named = next((urls[label] for label in LABELS if label in urls), home)
    return public(named), commit() if name == OURS else ""


def public(url: str) -> str:
    """Return an address without user names and passwords; "" for a path of this machine or another scheme.

    Examples:
        >>> public("https://me:secret@example.org/faces.git")
        'https://example.org/faces.git'
        >>> public("file:///home/me/faces")
        ''
    """
    parts = urlsplit(url.removeprefix("git+"))
    if parts.scheme not in ("http", "https", "ssh", "git") or not parts.hostname:
        return ""
    place = parts.hostname + (f":{parts.port}" if parts.port else "")
    return urlunsplit((parts.scheme, place, parts.path, "", ""))
