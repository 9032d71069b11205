"""Protocol pages: one Markdown file and one figure per metric, from its docstring and from running it.

Place in the flow: ``python -m docs.tools.protocol_pages docs/protocols`` writes them; a test holds them against the
docstrings. May call faithface, ``protocol_example`` (where figures and costs are computed) and ``protocol_figures``.
"""

from __future__ import annotations

import argparse
import dataclasses
import re
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from docs.tools.protocol_example import Good, Opposite, Summing, load_example, open_example
from docs.tools.protocol_figures import draw, figure_name, on_example
from faithface.applicability import metric_applies
from faithface.contract import Cache, Dataset, Explainer, FaceModel, Maps, Method, Metric, Samples
from faithface.metrics import METRICS
from faithface.metrics.describe import ARROWS, facts, is_item, parameter_rows, sections, title
from faithface.metrics.gates import Completeness

COMMON = "common-rules.md"  # written by hand
NOTE = "<!-- Written by `python -m docs.tools.protocol_pages docs/protocols` from the docstring: edit that. -->"
CAPTION = (
    "Computed by this protocol on a small example: drawn faces whose evidence is known, explained by three "
    "explainers. Numbers are means over the example."
)

REMARKS = {
    "region-shapley@1": "With grid=3 and 4 fills: the example's faces follow no template.",
    "optimum-share@1": "With grid=3: 512 sets of cells.",
    "inpainting-game@1": (
        "The maps shown are those of probe and mate; the game is played with those of probe and non-mate."
    ),
    "average-increase@1": "The example's network is certain already, so that no map can raise its score.",
}


@dataclass(frozen=True)
class Measured:
    """What one metric cost per sample on the example: forward and backward passes of its own, and explanations.

    Attributes:
        further: forward passes for a second explainer on the same samples, where some are shared.
    """

    task: str
    forward: float
    backward: float
    explanations: float
    further: float

    def __str__(self) -> str:
        text = f"{self.forward:g}"
        text += f" (each further explainer: {self.further:g})" if self.further != self.forward else ""
        text += f", {self.backward:g} backward" if self.backward else ""
        plural = "" if self.explanations == 1 else "s"
        return text + (f", and {self.explanations:g} explanation{plural}" if self.explanations else "")


@dataclass
class World:
    """The example's models and datasets, opened once."""

    folder: Path

    def __post_init__(self) -> None:
        self.opened: dict[str, tuple[FaceModel, Dataset]] = {}

    def open(self, task: str) -> tuple[FaceModel, Dataset]:
        if task not in self.opened:
            self.opened[task] = open_example(task, self.folder)
        return self.opened[task]


@dataclass(frozen=True, eq=False)
class _Counting(Explainer):
    """Another explainer, counting the samples that it was asked for."""

    inner: Explainer
    seen: list[int] = dataclasses.field(default_factory=list, metadata={"parameter": False})

    method = Method(
        name="counting",
    )

    def promised_sum(self, model: FaceModel, samples: Samples) -> Tensor | None:
        return self.inner.promised_sum(model, samples)

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        self.seen.append(len(samples))
        return self.inner.explain(model, samples)


def tasks_of(metric: Metric) -> list[str]:
    """Return the example's tasks that a metric can score."""
    return [task for task in ("pad", "verification") if task in metric.protocol.tasks]


def example_task(metric: Metric, world: World) -> str:
    """Return the task of the metric's figure: the first whose example it fits."""
    return next(task for task in tasks_of(metric) if fits(metric, *world.open(task)))


def players(metric: Metric) -> tuple[Explainer, Explainer]:
    """Return two explainers that cost no passes themselves and that the metric can judge."""
    return (Summing(), Summing(0.5)) if isinstance(metric, Completeness) else (Good(), Opposite())


def fits(metric: Metric, model: FaceModel, dataset: Dataset) -> bool:
    """Return whether a metric can score an example."""
    return metric_applies(model.card, dataset, players(metric)[0], on_example(metric), [model.card, model.card]) is None


def measure(metric: Metric, world: World) -> list[Measured]:
    """Return what a metric costs per sample, for each task, with explainers that cost no passes themselves."""
    found = []
    metric = on_example(metric)
    for task in tasks_of(metric):
        model, dataset = world.open(task)
        if not fits(metric, model, dataset):
            continue
        samples = load_example(model, dataset, metric.judged_on, limit=2)
        # What a metric keeps with the model for later batches is part of its price: start without it.
        kept, model.cache = model.cache, Cache()
        costs = []
        for inner in players(metric):
            explainer = _Counting(inner)
            maps = inner.explain(model, samples)
            before = model.passes.forward, model.passes.backward
            score(metric, model, samples, maps, explainer)
            spent = model.passes.forward - before[0], model.passes.backward - before[1], sum(explainer.seen)
            costs.append([count / len(samples) for count in spent])
        model.cache = kept
        (forward, backward, explanations), (further, _, _) = costs
        found.append(Measured(task, forward, backward, explanations, further))
    return found


def score(metric: Metric, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer) -> None:
    """Score a batch, or, for a family metric, the same maps as two runs."""
    if "family" in metric.protocol.needs:
        metric.score_family({"run-0": maps, "run-1": maps}, samples)
    else:
        metric.score(model, samples, maps, explainer)


# --- text


def page_name(metric: Metric) -> str:
    """Return the page's file name: the id with ``-`` for ``@``."""
    return f"{metric.id.replace('@', '-')}.md"


def to_markdown(metric: Metric) -> str:
    """Return the protocol's sections as Markdown: a heading each, every paragraph on one line, items as lists."""
    lines = []
    for section in sections(metric):
        lines += ["", f"## {section.heading}", ""]
        for i, paragraph in enumerate(section.paragraphs):
            # A paragraph after an item would be read as its continuation.
            if i and not (is_item(paragraph) and is_item(section.paragraphs[i - 1])):
                lines.append("")
            lines.append(f"* {paragraph}" if is_item(paragraph) else paragraph)
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).replace("``", "`").replace("<", "&lt;").strip()


def cell(text: str) -> str:
    """Return text that may stand in a Markdown table."""
    return text.replace("|", "\\|")


def render(metric: Metric, measured: Sequence[Measured]) -> str:
    """Return the text of a metric's page."""
    rows = [(name, text) for name, text in facts(metric) if name != "id"]
    spent = "; ".join(f"{m.task}: {m}" if len(measured) > 1 else str(m) for m in measured)
    at = next(k for k, (name, _) in enumerate(rows) if name.startswith("forward passes"))
    rows.insert(at + 1, ("measured on the example", spent))
    table = ["| | |", "| --- | --- |"] + [f"| {name} | {cell(text)} |" for name, text in rows]
    figure = f"![{metric.id} on the example](figures/{figure_name(metric)}.png)"
    parts = [
        NOTE,
        f"# `{metric.id}`",
        title(metric),
        "\n".join(table),
        figure,
        f"*{' '.join([CAPTION, REMARKS.get(metric.id, '')]).strip()}*",
        f"Seeds, ranking, fills, sizes of images and all else that protocols share: [common rules]({COMMON}).",
    ]
    parts.append(to_markdown(metric))
    own = parameter_rows(metric)
    if own:
        head = ["| parameter | default | may be |", "| --- | --- | --- |"]
        parts += ["## Defaults", "\n".join(head + [f"| `{n}` | `{d}` | {cell(a)} |" for n, d, a in own])]
        parts.append(f"To set another value, write `{metric.id}({own[0][0]}=…)`.")
    return "\n\n".join(parts) + "\n"


def render_index(metrics: Iterable[Metric]) -> str:
    """Return the text of the list of all protocols."""
    rows = [
        f"| [`{m.id}`]({page_name(m)}) | {m.protocol.family} | {ARROWS[m.protocol.better]} | {cell(title(m))} |"
        for m in metrics
    ]
    head = (
        "Every number carries the id of its protocol. A change that can move a number makes a new version. What all of "
        f"them share stands in the [common rules]({COMMON}). Boards rank what is *faithful*, *specific* or *truth*; "
        "gates are passed or failed; descriptions and costs are shown."
    )
    return (
        "\n\n".join(
            [
                NOTE,
                "# Protocols",
                head,
                "\n".join(["| id | family | better | what |", "| --- | --- | --- | --- |", *rows]),
            ]
        )
        + "\n"
    )


def write(folder: Path, figures: bool = True) -> None:
    """Write all pages, the index and the figures into ``folder``, and remove pages of metrics that are gone."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "figures").mkdir(exist_ok=True)
    kept = {"index.md", COMMON}
    drawn: set[str] = set()
    with tempfile.TemporaryDirectory() as temporary:
        world = World(Path(temporary))
        for metric in METRICS:
            (folder / page_name(metric)).write_text(render(metric, measure(metric, world)), encoding="utf-8")
            kept.add(page_name(metric))
            name = figure_name(metric)
            if figures and name not in drawn:
                draw(metric, world.open(example_task(metric, world)), folder / "figures" / f"{name}.png")
            drawn.add(name)
    (folder / "index.md").write_text(render_index(METRICS), encoding="utf-8")
    for path in [*folder.glob("*.md"), *(folder / "figures").glob("*.png")]:
        if path.name not in kept and path.stem not in drawn:
            path.unlink()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m docs.tools.protocol_pages", description="Write the protocol pages."
    )
    parser.add_argument("folder", type=Path, help="where the pages go, such as docs/protocols")
    parser.add_argument("--no-figures", action="store_true", help="write the text only")
    chosen = parser.parse_args(arguments)
    write(chosen.folder, figures=not chosen.no_figures)


if __name__ == "__main__":
    main()
