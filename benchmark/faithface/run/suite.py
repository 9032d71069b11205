"""Suite files: which models, datasets, explainers and protocols make a board, and its version.

Place in the flow: ``faithface run SUITE`` reads one and hands it to ``plan`` as if its names had been typed.
Imports only pydantic and ``errors``.

A suite is a TOML file::

    [suite]
    name = "demo"
    version = 0                       # a change that can move a number is a new version
    description = "One model per task on rendered faces"
    seed = 0
    limit = 48                        # samples per dataset; leave it out for all
    models = ["zoo-pad-traditional-0"]
    datasets = ["planted-pad"]
    explainers = ["grad-cam", "fggb(reading=signed)"]
    metrics = ["gap@1", "deletion@1(grid=14)"]

Every model meets every dataset of its task; paths of cards and datasets are relative to the folder where the
command runs.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from faithface.errors import UsageError, nearest
from faithface.files import shorten
from faithface.toml_files import read_toml


class Published(BaseModel):
    """A figure that a paper or its readers report, for comparison.

    Attributes:
        explainer: as the paper names it.
        protocol: the nearest protocol here; the paper's own differs where ``note`` says so.
        value: on this project's scale (a share, not per cent).
        source: where the figure was read.
        note: what is known to differ.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    explainer: str
    protocol: str
    value: float = Field(allow_inf_nan=False)
    source: str
    note: str = ""


class Suite(BaseModel):
    """A named and versioned list of what to run.

    Attributes:
        name: unique, lower case.
        version: the board's version; boards of two versions never share a table.
        seed: from which, with sample ids and purposes, all random numbers come.
        limit: samples per dataset (a seeded, balanced choice); None for all.
        models, datasets, explainers, metrics: names as on the command line; the first two may be left to the user.
        published: figures to print beside the board.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]*$")
    version: int = Field(ge=0)
    description: str = ""
    seed: int = 0
    limit: int | None = Field(default=None, ge=1)
    models: tuple[str, ...] = ()
    datasets: tuple[str, ...] = ()
    explainers: tuple[str, ...] = Field(min_length=1)
    metrics: tuple[str, ...] = Field(min_length=1)
    published: tuple[Published, ...] = ()


def load_suite(path: str | Path) -> Suite:
    """Read a suite file.

    Raises:
        UsageError: no such file, not TOML, an unknown key (the nearest is suggested), or a missing or wrong value.
    """
    path = Path(path)
    data = read_toml(path, "suite file", "a TOML file with a section [suite]")
    for section in data:
        if section != "suite":
            raise UsageError(f"{path}: unknown section or key '{section}'; expected only [suite]")
    body = data.get("suite")
    if not isinstance(body, dict):
        raise UsageError(f"{path}: section [suite] is missing")
    for key in body:
        if key not in Suite.model_fields:
            raise UsageError(f"{path}: unknown key '{key}' in [suite]; {nearest(key, Suite.model_fields)}")
    try:
        return Suite(**body)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise UsageError(f"{path}: suite.{where}: {first['msg']} (got {shorten(first.get('input'))})") from None
