"""The plugin contract: six hooks that return objects (never register by side effect), and three that are called later.

Place in the flow: read by ``plugins.py``; plugin authors import ``faithface.hookimpl`` and write functions of these
names in a module that their distribution names under the entry-point group ``faithface``::

    [project.entry-points.faithface]
    my_lab = "my_lab.faithface_plugin"

Imports pluggy and, for types, the contract. Because hooks return objects, the host knows which distribution, version
and entry point each one came from, and can refuse two of the same name.
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pluggy

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Fill, Metric

PROJECT = "faithface"

LATER = ("faithface_cell_finished", "faithface_run_finished", "faithface_commands")
"""Hooks that are not asked when a plugin is loaded."""

hookspec = pluggy.HookspecMarker(PROJECT)
hookimpl = pluggy.HookimplMarker(PROJECT)


@hookspec
def faithface_explainers() -> Iterable[Explainer]:
    """Return explainers: instances of :class:`faithface.Explainer`, each with its default parameters.

    Example::

        @faithface.hookimpl
        def faithface_explainers():
            return [MyExplainer(), MyExplainer(sharper=True, name="my-explainer-sharp")]
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_models() -> Iterable[ModelCard]:
    """Return model cards; the weights are opened when a run needs them, not before.

    Example::

        @faithface.hookimpl
        def faithface_models():
            return [faithface.load_card(Path(__file__).parent / "my-net.toml")]
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_datasets() -> Iterable[Dataset]:
    """Return datasets: instances of :class:`faithface.Dataset`, light until :meth:`items` is called.

    Example::

        @faithface.hookimpl
        def faithface_datasets():
            return [MyFaces(root="~/faces")]
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_metrics() -> Iterable[Metric]:
    """Return metrics: instances of :class:`faithface.Metric`, whose docstring is the protocol and whose id ends in
    ``@N``.

    Example::

        @faithface.hookimpl
        def faithface_metrics():
            return [CentreOfMass()]
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_fills() -> Iterable[Fill]:
    """Return fills: instances of :class:`faithface.Fill`, which replace the pixels that a metric removes.

    Example::

        @faithface.hookimpl
        def faithface_fills():
            return [Inpainted()]
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_suites() -> Iterable[Path]:
    """Return paths of suite files (TOML); the file's stem is the suite's name.

    Example::

        @faithface.hookimpl
        def faithface_suites():
            return sorted(Path(__file__).parent.glob("suites/*.toml"))
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_cell_finished(record: Any) -> None:
    """Receive one cell's record (``record.record``) and values (``record.values``) when a run has written them.

    Called once for each cell, when all cells of the run are done and their records lie on disk, before
    ``faithface_run_finished``. Not when a cell's own last sample is scored: a record also holds what only the whole run
    knows (metrics that compare several training runs, what is not applicable anywhere), and the records of a run appear
    together. A run that is interrupted calls it for no cell; the command that completes the run calls it for all, those
    that were done before included. What it raises is a warning.

    Example::

        @faithface.hookimpl
        def faithface_cell_finished(record):
            print(record.record.explainer.spec, [n.number for n in record.record.numbers])
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_run_finished(run: Any) -> None:
    """Receive what came of a run (its directory, failures and what was not applicable) when it has ended.

    Called for runs with failures too. What it raises is a warning.

    Example::

        @faithface.hookimpl
        def faithface_run_finished(run):
            print(run.directory, len(run.failures))
    """
    raise NotImplementedError  # pluggy calls implementations only


@hookspec
def faithface_commands(app: Any) -> None:
    """Add subcommands to the program: ``app.command("name")(function)``. A builtin command cannot be replaced.

    Example::

        @faithface.hookimpl
        def faithface_commands(app):
            app.command("hello")(lambda: print("hello"))
    """
    raise NotImplementedError  # pluggy calls implementations only
