"""``faithface explain`` (a picture of an explanation), ``faithface inspect`` (a model file) and ``faithface bench``.

Place in the flow: calls ``figures``, ``guarded`` and ``bench``.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from faithface.cli.completion import names
from faithface.errors import UsageError

OUTSIDE_HELP = "Open a network that a card names outside its own folder."
DEVICE_HELP = "cpu, cuda, cuda-fp16, tensorrt or tensorrt-fp16; one that is not there is an error."


def explain(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE [IMAGE_B]", help="One image; for verification two.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME|CARD", help="A model's name or card (.toml).")],
    explainer: Annotated[
        list[str],
        typer.Option(
            "--explainer",
            metavar="NAME",
            autocompletion=names("explainers"),
            help="A name with parameters, or all; repeatable.",
        ),
    ],
    out: Annotated[Path, typer.Option("--out", "-o", help="The figure: .png, .pdf or .svg.")],
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    seed: Annotated[int, typer.Option(help="All random numbers depend on it.")] = 0,
    threshold: Annotated[
        float | None, typer.Option(help="Similarity at which a pair is accepted; default: the card's.")
    ] = None,
    allow_outside: Annotated[bool, typer.Option("--allow-outside", help=OUTSIDE_HELP)] = False,
) -> int:
    """Draw what an explainer says of one image, or of a pair; several explainers make a contact sheet."""
    from faithface.figures import FORMATS, explain_images
    from faithface.plugins import load_registry

    if out.suffix.lower() not in FORMATS:
        raise UsageError(f"{out} has no known picture format; expected one of: {', '.join(FORMATS)}")
    registry = load_registry()
    done = explain_images(registry, model, explainer, images, out, device, seed, threshold, allow_outside)
    typer.echo(f"{out}: {done.summary}")
    for line in done.failures:
        print(f"faithface: {line}", file=sys.stderr)
    return 1 if done.failed else 0


def inspect(
    path: Annotated[Path, typer.Argument(metavar="MODEL.toml|MODEL.onnx", help="A card, or a bare network.")],
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    allow_outside: Annotated[bool, typer.Option("--allow-outside", help=OUTSIDE_HELP)] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    dataset: Annotated[
        str,
        typer.Option("--dataset", metavar="NAME", help="Labelled images: which usual preprocessing fits a card best."),
    ] = "",
) -> None:
    """Say what a model file is: inputs, outputs, batch axis, twin parity, CAM layer; draft a card for a bare .onnx."""
    from faithface.guarded import inspect_guarded

    if dataset:
        typer.echo(_preprocessings(path, dataset, device, as_json))
        return
    if not path.suffix and not path.exists():
        raise UsageError(f"{path}: no such file; `faithface models {path}` describes a registered model of this name")
    said = inspect_guarded(path, device, allow_outside)
    typer.echo(json.dumps(said["report"], indent=1, ensure_ascii=False) if as_json else said["text"])


def _preprocessings(path: Path, dataset: str, device: str, as_json: bool) -> str:
    from faithface.plugins import load_registry
    from faithface.preprocessing import fits_text, try_preprocessings

    if path.suffix.lower() == ".onnx":
        raise UsageError(f"--dataset needs a card, got {path}: save the draft that `faithface inspect {path}` prints")
    registry = load_registry()
    fits = try_preprocessings(registry.model(str(path)).object, registry.dataset(dataset).object, device)
    if as_json:
        rows = [{"name": f.name, "auc": f.auc, "error": f.error, "input": f.input.model_dump()} for f in fits]
        return json.dumps(rows, indent=1, ensure_ascii=False)
    return fits_text(fits, dataset)


def bench(
    quick: Annotated[
        bool, typer.Option("--quick", help="Fewer images and repeats: under 3 minutes on 2 processors.")
    ] = False,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    batch_size: Annotated[int | None, typer.Option(min=1, help="Batch of the engine; default: measured.")] = None,
    figure: Annotated[Path, typer.Option(help="Where the figure is written.")] = Path("faithface-bench.png"),
    as_json: Annotated[bool, typer.Option("--json", help="Print the measurements as JSON instead of tables.")] = False,
) -> None:
    """Measure the speed of metrics and explainers against bare forward passes and against other libraries."""
    from faithface.bench import draw, render, run_bench

    result = run_bench(quick, device, batch_size, lambda text: print(text, file=sys.stderr, flush=True))
    typer.echo(json.dumps(result, indent=1, ensure_ascii=False) if as_json else render(result))
    draw(result, figure)
    print(f"figure: {figure}", file=sys.stderr)


def add_to(app: typer.Typer) -> None:
    app.command()(explain)
    app.command()(inspect)
    app.command()(bench)
