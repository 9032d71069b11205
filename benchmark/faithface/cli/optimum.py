"""``faithface optimum``: what is the best gap that any map could get on these images, and who comes how near?

Place in the flow: calls ``perturb.optimum`` and the registry; opens the model.
"""

from __future__ import annotations

import json
import math
from typing import Annotated, Any

import typer

ROUNDING = 1e-6


def optimum(
    model: Annotated[str, typer.Option("--model", metavar="NAME|CARD", help="A model's name or card (.toml).")],
    dataset: Annotated[str, typer.Option("--dataset", metavar="NAME", help="A dataset, with parameters.")],
    explainer: Annotated[
        list[str] | None, typer.Option("--explainer", metavar="NAME", help="State its gap as a share; repeatable.")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="Samples; each takes 2^(grid·grid) forward passes.")] = 2,
    grid: Annotated[int, typer.Option(min=1, help="Cells per side; above 4 a greedy bound.")] = 4,
    fill: Annotated[
        str | None, typer.Option(help="Default: blur; stranger for genuine, partner for impostor pairs.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda, cuda-fp16, tensorrt or tensorrt-fp16.")] = "cpu",
    seed: Annotated[int, typer.Option(help="All random numbers depend on it.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Compute the best gap that any order of cells has, exactly up to 4×4 cells, and explainers' shares of it."""
    from faithface.cli.listing import print_table
    from faithface.loading import clean_threshold, load_samples
    from faithface.metrics._maps import judged_kinds
    from faithface.model import open_model
    from faithface.plugins import load_registry
    from faithface.run.choice import choose

    registry = load_registry()
    explainers = {(one := registry.explainer(text)).spec: one.object for text in explainer or []}
    data = registry.dataset(dataset).object
    network = open_model(registry.model(model).object, device)
    items = data.items()
    chosen: Any = [items[i] for i in choose(items, limit, seed)]
    threshold = clean_threshold(network, data) if data.task == "verification" else None
    samples = load_samples(network, chosen, seed, threshold, data)
    maps = {name: one.explain(network, samples) for name, one in explainers.items()}
    rows = []
    for i, kind in enumerate(judged_kinds(samples)):
        one_fill = fill or {"similarity": "stranger", "dissimilarity": "partner"}.get(kind, "blur")
        row = _best(network, samples, i, kind, one_fill, grid)
        for name, found in maps.items():
            gap = _gap(network, samples.take([i]), found.take([i]), kind, one_fill, grid)
            row[name] = _share(gap, row["best_gap"])
        rows.append({**row, "best_gap": round(row["best_gap"], 6)})
    if as_json:
        typer.echo(json.dumps(rows, indent=1, ensure_ascii=False))
        return
    print_table(rows, "no samples")
    if explainers:
        typer.echo("explainers: their gap as a share of the best one")


def _best(network: Any, samples: Any, index: int, kind: str, fill: str, grid: int) -> dict[str, Any]:
    """Return the row of a sample. The gap of a dissimilarity map is turned round: its best is minus the worst."""
    from faithface.perturb.optimum import greedy, optimum, scorer

    sign = -1 if kind == "dissimilarity" else 1
    score = scorer(network, samples, index, fill, grid)
    bound = greedy(score, grid * grid, sign=sign)
    row: dict[str, Any] = {"sample": samples.ids[index], "fill": fill}
    if grid > 4:
        return {**row, "best_gap": sign * bound.gap, "greedy": "bound"}
    found = optimum(network, samples, index, fill, grid)
    best = found.best.gap if sign > 0 else -found.worst.gap
    return {
        **row,
        "best_gap": best,
        "greedy": _share(sign * bound.gap, best),
        "passes": found.passes,
    }


def _share(gap: float, best: float) -> float | None:
    """Return a gap as a share of the best one; None without either: an oracle has no map where there is no truth.

    Both are sums of float32 scores: what exceeds the best one by no more than their rounding is the best one.
    """
    if not (best > 0 and math.isfinite(gap)):
        return None
    return round(1.0 if best < gap <= best + ROUNDING else gap / best, 4)


def _gap(network: Any, samples: Any, maps: Any, kind: str, fill: str, grid: int) -> float:
    from faithface.perturb import area, curves

    found = curves(network, samples, maps, kind, fill, grid, grid * grid + 1).scores
    gap = float((area(found["insertion"]) - area(found["deletion"]))[0])
    return -gap if kind == "dissimilarity" else gap


def add_to(app: typer.Typer) -> None:
    app.command()(optimum)
