"""The Python API: evaluate explainers on a model and a dataset, as ``faithface run`` does; explain one image.

Place in the flow: :func:`execute` joins ``run`` and ``boards`` for the command line and for :func:`evaluate`. May
call both, ``plugins``, and ``notebook`` and ``figures`` for what is looked at.
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import polars as pl

from faithface.boards.board import Board, make_board
from faithface.boards.collect import publish_run
from faithface.boards.record import Kept
from faithface.boards.render import table_markdown
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Maps, Metric, Samples
from faithface.errors import RunError, UsageError
from faithface.notebook import Shown, curves_figure, html_of, intervals_figure, keeping, overlays_figure, text_of
from faithface.plugins import Registry, load_registry
from faithface.run.driver import Reporter, execute_plan
from faithface.run.executors import Executor
from faithface.run.export import run_curves, run_values
from faithface.run.outcome import Outcome
from faithface.run.plan import Plan, make_plan
from faithface.run.request import Request
from faithface.run.store import Store, open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True, repr=False)
class Result:
    """What :func:`evaluate` found. A notebook shows it as a small table with intervals and thumbnails.

    Attributes:
        values: one row per value: ``model, dataset, explainer, metric, sample, value`` (polars).
        records: one record per model, dataset and explainer, with means, 95 % intervals and all that is needed to
            re-run.
        failures: one line per explainer or metric that failed, and per explainer with invalid maps; empty if all
            went well.
        not_applicable: one line per explainer or metric that was not applicable.
        curve_points: one row per point of a curve: ``model, dataset, explainer, metric, curve, sample, step, fraction,
            value`` (polars).
        shown: image and maps of the first four samples of each explainer; none of a run that was there already.
    """

    values: pl.DataFrame
    records: tuple[Kept, ...]
    failures: tuple[str, ...]
    not_applicable: tuple[str, ...]
    curve_points: pl.DataFrame = field(default_factory=pl.DataFrame)
    shown: tuple[Shown, ...] = ()

    @property
    def board(self) -> Board:
        return make_board(self.records)

    def table(self) -> str:
        """Return the numbers as Markdown tables, one per model and dataset."""
        return "\n\n".join(table_markdown(table) for table in self.board.tables)

    def __str__(self) -> str:
        return self.table()

    def __repr__(self) -> str:
        return text_of(self.board, self.failures, self.not_applicable)

    def _repr_html_(self) -> str:
        return html_of(self.board, self.shown, self.failures)

    def plot(self, metrics: str | Sequence[str] | None = None) -> Figure:
        """Draw the numbers with their 95 % intervals, a panel for each protocol (default: all).

        Raises:
            UsageError: no such protocol, or no number.
        """
        return intervals_figure(self.board, _several(metrics))

    def curves(self, metric: str | None = None, explainers: str | Sequence[str] | None = None) -> Figure:
        """Draw the mean curves of metrics that have some (deletion and insertion, for instance).

        Args:
            metric: the beginning of its text, such as ``deletion@1``; None: all.
            explainers: names; None: all.

        Raises:
            UsageError: there are no such curves.
        """
        return curves_figure(self.curve_points, metric, _several(explainers))

    def overlays(self, explainers: str | Sequence[str] | None = None, samples: int = 4) -> Figure:
        """Draw the maps of the first samples, at most four, over their images; of pairs, the probe's similarity.

        Raises:
            UsageError: no map was kept.
        """
        return overlays_figure(self.shown, _several(explainers), samples)

    def to_pandas(self) -> Any:
        """Return ``values`` as a pandas frame.

        Raises:
            UsageError: pandas is not installed.
        """
        try:
            import pandas as pd
        except ImportError:
            raise UsageError(
                "to_pandas() needs pandas: pip install pandas; `values` is the same as a Polars frame"
            ) from None
        return pd.DataFrame(self.values.to_dict(as_series=False))


@dataclass(frozen=True, repr=False)
class Explanation:
    """What :func:`explain` returns; a notebook shows the figure.

    Attributes:
        maps: as the explainer gave them, of a batch of one.
        samples: the image or pair, with the model's own answer.
        figure: the maps over the image (matplotlib).
        answer: the model's answer in words.
    """

    maps: Maps
    samples: Samples
    figure: Figure
    answer: str

    def __iter__(self) -> Iterator[Any]:
        """Unpack as ``maps, figure``."""
        return iter((self.maps, self.figure))

    def __repr__(self) -> str:
        return f"<Explanation: {', '.join(self.maps.named())}; {self.answer}>"

    def _repr_png_(self) -> bytes:
        data = io.BytesIO()
        self.figure.savefig(data, format="png", dpi=110)
        return data.getvalue()


def _several(names: str | Sequence[str] | None) -> tuple[str, ...] | None:
    return None if names is None else (names,) if isinstance(names, str) else tuple(names)


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
    errors: Literal["record", "raise"] = "record",
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
        errors: what becomes of an explainer or metric that fails. ``record``: the others go on, and a summary is
            printed on stderr. ``raise``: the first failure is raised, with the plugin's own traceback as a note.
        registry: plugins; None to load what is installed.

    Raises:
        UsageError: an unknown name, or something that cannot apply at all.
        RunError: the run directory cannot be written; or with ``errors="raise"`` an explainer or metric failed.
    """
    if errors not in ("record", "raise"):
        raise UsageError(f'errors is "{errors}"; expected "record" or "raise"')
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
    plan = make_plan(request, registry or load_registry())
    if out is not None:
        return _evaluate(plan, Path(out), errors)
    scratch = Path(tempfile.mkdtemp(prefix="faithface-"))
    try:
        return _evaluate(plan, scratch, errors)
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _evaluate(plan: Plan, directory: Path, errors: str) -> Result:
    from faithface.run.executors.local import run_group

    shown: list[Shown] = []
    outcome, kept = execute(plan, directory, executor=keeping(run_group, shown))
    if outcome.failures and errors == "raise":
        first, others = outcome.failures[0], len(outcome.failures) - 1
        error = RunError(first + (f" (and {others} more failures)" if others else ""))
        if first in outcome.tracebacks:
            error.add_note(outcome.tracebacks[first])
        raise error
    if outcome.failures:
        for line in outcome.failures:
            print(f"faithface: failed: {line}", file=sys.stderr)
        print(f"faithface: {len(outcome.failures)} failed; result.failures lists them", file=sys.stderr)
    with open_run(directory) as store:
        values, curves = run_values(store), run_curves(store)
    return Result(values, tuple(kept), tuple(outcome.failures), tuple(outcome.not_applicable), curves, tuple(shown))


def explain(
    model: str | Path | ModelCard,
    image: str | Path | np.ndarray | Sequence[str | Path | np.ndarray],
    explainer: str | Explainer,
    *,
    device: str = "cpu",
    seed: int = 0,
    threshold: float | None = None,
    registry: Registry | None = None,
) -> Explanation:
    """Explain one image, or one pair of a verification model, and draw it.

    Args:
        model: a registered name, a card's path, or a card.
        image: a file, or an array H×W×3 (uint8, or floats in [0, 1]); for verification two of them.
        explainer: a name with parameters, or an explainer.
        device: an execution target, as for :func:`evaluate`.
        seed: all random numbers depend on it.
        threshold: the similarity at which a pair is accepted; None: the card's, if it has one.
        registry: plugins; None to load what is installed.

    Returns:
        maps and figure; it can be unpacked: ``maps, figure = faithface.explain(…)``.

    Raises:
        UsageError: an unknown name, the wrong number of images, or one that cannot be read.
        NotApplicable: the explainer does not fit the model.
        RunError: a map holds values that are not finite.
    """
    from faithface.explaining import checked_maps, samples_of
    from faithface.figures import describe_score, draw_pair, draw_single
    from faithface.model import open_model
    from faithface.run.plan import resolve

    known = registry or load_registry()
    card = resolve(str(model) if isinstance(model, Path) else model, known.model).object
    how = resolve(explainer, known.explainer)
    given = list(image) if isinstance(image, list | tuple) else [image]
    opened = open_model(card, device)
    samples = samples_of(opened, given, seed, threshold)
    maps = checked_maps(opened, samples, how.object)
    answer = describe_score(card, samples)
    draw = draw_pair if samples.are_pairs else draw_single
    return Explanation(maps, samples, draw(samples, maps, how.spec, answer), answer)


def execute(
    plan: Plan,
    directory: Path,
    reporter: Reporter | None = None,
    executor: Executor | None = None,
    only_failed: bool = False,
) -> tuple[Outcome, list[Kept]]:
    """Carry out a plan in a run directory and write the records beside the store; return the result.

    Args:
        only_failed: repeat what failed, and nothing else; while cells are pending, there are no records.
    """
    kept: list[Kept] = []

    def finish(store: Store, done: Plan) -> None:
        kept.extend(publish_run(store, done, executor))

    outcome = execute_plan(plan, directory, reporter, executor, finish, only_failed)
    return outcome, kept
