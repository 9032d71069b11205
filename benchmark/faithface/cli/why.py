"""``faithface why``: one decision, answered on one page.

Place in the flow: calls ``answers``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from faithface.cli.explain import DEVICE_HELP
from faithface.errors import UsageError

PAGES = (".html", ".htm")
PICTURES = (".png", ".pdf", ".svg")


def why(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE [IMAGE_B]", help="One image; for verification two.")],
    model: Annotated[str, typer.Option("--model", metavar="NAME|CARD", help="A model's name or card (.toml).")],
    out: Annotated[Path, typer.Option("--out", "-o", help="The page: .html, or a picture of it: .png, .pdf, .svg.")],
    dataset: Annotated[
        str | None,
        typer.Option("--dataset", metavar="NAME", help="Aligned faces: strangers, threshold, distribution of scores."),
    ] = None,
    explainer: Annotated[
        list[str] | None,
        typer.Option("--explainer", metavar="NAME", help="Compare its map; a name, or all; repeatable."),
    ] = None,
    fill: Annotated[
        str | None, typer.Option(help="What replaces a region: stranger, partner or blur; default: by the decision.")
    ] = None,
    fills: Annotated[int, typer.Option(min=1, max=256, help="Strangers, or strengths of blur.")] = 8,
    regions: Annotated[str, typer.Option(help="paired (10 regions) or sided (12).")] = "paired",
    crop: Annotated[
        str | None, typer.Option(help="The template that the crops follow: arcface or dlib; default: by size.")
    ] = None,
    landmarks: Annotated[
        str | None,
        typer.Option(metavar="'X,Y X,Y X,Y X,Y X,Y'", help="Eyes, nose, mouth corners in pixels, viewer's left first."),
    ] = None,
    gallery: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Explain a search of a gallery: one folder of images per person."),
    ] = None,
    mate: Annotated[
        str | None, typer.Option(metavar="PERSON", help="Who the probe is; default: the most similar person.")
    ] = None,
    masks: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Regions of your own: one black and white image each.")
    ] = None,
    threshold: Annotated[
        float | None, typer.Option(help="Similarity at which a pair is accepted; default: the card's.")
    ] = None,
    device: Annotated[str, typer.Option(help=DEVICE_HELP)] = "cpu",
    seed: Annotated[int, typer.Option(help="All random numbers depend on it.")] = 0,
) -> int:
    """Say which regions of a face made a decision, exactly, and which explainers say the same."""
    if out.suffix.lower() not in (*PAGES, *PICTURES):
        raise UsageError(
            f"{out} is neither a page nor a picture; expected a name that ends in {', '.join((*PAGES, *PICTURES))}"
        )
    import numpy as np

    from faithface.answers import why as answer_why
    from faithface.answers import why_among
    from faithface.answers.page import write_page
    from faithface.answers.picture import write_picture
    from faithface.answers.wording import sentence
    from faithface.plugins import load_registry

    if mate is not None and gallery is None:
        raise UsageError("--mate names a person of a gallery; give the gallery too (--gallery FOLDER)")
    write = write_page if out.suffix.lower() in PAGES else write_picture
    points = None if landmarks is None else np.array(parse_points(landmarks))
    shared: dict[str, Any] = {
        "dataset": dataset,
        "fill": fill,
        "fills": fills,
        "partition": regions,
        "crop": crop,
        "landmarks": points,
        "masks": masks,
        "seed": seed,
        "device": device,
        "registry": load_registry(),
    }
    if gallery is not None:
        if len(images) != 1:
            raise UsageError(f"a gallery is searched with one image, the probe; got {len(images)}")
        if explainer or threshold is not None:
            raise UsageError("--explainer and --threshold are for one image or a pair; a gallery has neither")
        answer = why_among(images[0], gallery, model, mate=mate, **shared)
    else:
        answer = answer_why(images, model, explainers=explainer or (), threshold=threshold, **shared)
    write(answer, out)
    typer.echo(f"{out}: {sentence(answer)}")
    for line in answer.failures:
        print(f"faithface: {line}", file=sys.stderr)
    return 1 if answer.failures and "all" not in (explainer or ()) else 0


def parse_points(text: str) -> list[tuple[float, float]]:
    """Read five points: ``"38,52 74,52 56,72 42,92 71,92"``."""
    try:
        points = [tuple(float(number) for number in part.split(",")) for part in text.split()]
    except ValueError:
        points = []
    if len(points) != 5 or any(len(point) != 2 for point in points):
        raise UsageError(f'--landmarks is "{text}"; expected five points such as "38,52 74,52 56,72 42,92 71,92"')
    return points  # type: ignore[return-value]


def add_to(app: typer.Typer) -> None:
    app.command()(why)
