"""The Python API: evaluate explainers on a model and a dataset, as ``faithface run`` does.

Place in the flow: :func:`execute` joins ``run`` and ``boards`` for the command line and for :func:`evaluate`. May
call both, and ``plugins``.
"""

from __future__ import annotations

import shutil
import tempfile
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from faithface.boards.board import Board, make_board
from faithface.boards.collect import publish_run
from faithface.boards.record import Kept
from faithface.boards.render import table_markdown
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Metric
from faithface.plugins import Listener, Registry, load_registry, notify
from faithface.run.driver import Reporter, execute_plan
from faithface.run.executors import Executor
from faithface.run.export import run_values
from faithface.run.outcome import Outcome
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.store import Store, open_run


@dataclass(frozen=True)
class Result:
    """What :func:`evaluate` found.

    Attributes:
        values: one row per value: ``model, dataset, explainer, metric, sample, value`` (polars).
        records: one record per model, dataset and explainer, with means, 95 % intervals and all that is needed to
            re-run.
        failures: one line per explainer or metric that failed, and per explainer with invalid maps; empty if all
            went well.
        not_applicable: one line per explainer or metric that was not applicable.
    """

    values: pl.DataFrame
    records: tuple[Kept, ...]
    failures: tuple[str, ...]
    not_applicable: tuple[str, ...]

    @property
    def board(self) -> Board:
        return make_board(self.records)

    def table(self) -> str:
        """Return the numbers as Markdown tables, one per model and dataset."""
        return "\n\n".join(table_markdown(table) for table in self.board.tables)

    def __str__(self) -> str:
        return self.table()


def evaluate(
    model: str | Path | ModelCard,
    dataset: str | Dataset,
    explainers: Sequence[str | Explainer],
    metrics: Sequence[str | Metric],
    *,
    limit: int | None = None,
    seed: int = 0,
    device: str = "cpu",
    batch_size: int | None = None,
    out: str | Path | None = None,
    registry: Registry | None = None,
) -> Result:
    """Explain a dataset's samples and score the explanations.

    Args:
        model: a registered name, a card's path, or a card.
        dataset: a registered name, ``folder:PATH``, ``pairs:CSV@ROOT``, or a dataset.
        explainers: names with parameters (``"fggb(reading=signed)"``), or explainers.
        metrics: names with versions and parameters (``"deletion@1(grid=14)"``), or metrics.
        limit: how many samples, balanced over classes or genuine and impostor pairs; None for all.
        seed: all random numbers depend on it.
        device: an execution target: ``cpu``, ``cuda``, ``cuda-fp16``, ``tensorrt`` or ``tensorrt-fp16``.
        batch_size: the largest batch of the network; None for its own choice.
        out: a run directory to keep, which an interrupted call resumes; None to keep nothing.
        registry: plugins; None to load what is installed.

    Raises:
        UsageError: an unknown name, or something that cannot apply at all.
        RunError: the run directory cannot be written.
    """
    request = Request(
        models=(str(model) if isinstance(model, Path) else model,),
        datasets=(dataset,),
        explainers=tuple(explainers),
        metrics=tuple(metrics),
        limit=limit,
        seed=seed,
        device=device,
        batch_size=batch_size,
    )
    plugins = registry or load_registry()
    plan = make_plan(request, plugins)
    if out is not None:
        return _evaluate(plan, Path(out), plugins.listeners)
    scratch = Path(tempfile.mkdtemp(prefix="faithface-"))
    try:
        return _evaluate(plan, scratch, plugins.listeners)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _evaluate(plan: Plan, directory: Path, listeners: Sequence[Listener]) -> Result:
    outcome, kept = execute(plan, directory, listeners=listeners)
    with open_run(directory) as store:
        values = run_values(store)
    return Result(values, tuple(kept), tuple(outcome.failures), tuple(outcome.not_applicable))


def execute(
    plan: Plan,
    directory: Path,
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    only_failed: bool = False,
    listeners: Sequence[Listener] = (),
) -> tuple[Outcome, list[Kept]]:
    """Carry out a plan in a run directory and write the records beside the store; return what came of it.

    Args:
        only_failed: do again what failed, and nothing else; while cells are pending, there are no records.
        listeners: plugins whose hooks are called with the records, and with the outcome; what they raise is a warning.
    """
    kept: list[Kept] = []

    def finish(store: Store, done: Plan) -> None:
        kept.extend(publish_run(store, done))

    outcome = execute_plan(plan, directory, reporter, executor, finish, only_failed)
    problems = [line for one in kept for line in notify(listeners, "faithface_cell_finished", one)]
    for line in problems + notify(listeners, "faithface_run_finished", outcome):
        warnings.warn(line, RuntimeWarning, stacklevel=2)
    return outcome, kept
