"""Hold the cheaper forms of FGGB against the exact one: ``python -m training.measure_fggb``.

    python -m training.measure_fggb --pairs 2
    python -m training.measure_fggb --only resnet29 --dataset pairs:pairs.csv@faces --pairs 2

Place in the flow: sees models and explainers as any user would. Prints the figures that
``docs/explanation/fggb.md`` is about.

Networks: two of the zoo, a mechanism-exact one, resnet29 where its plugin is installed, and a residual network of
ResNet-18's shape at a quarter of its width with random weights and a 512-d embedding. Time is the processor time of
this process, taken once per form, so a busy machine moves the ratios. *Gap* is that of the judged map
(``gap-similarity-score@1`` of genuine, ``gap-dissimilarity-score@1`` of impostor pairs, ``grid=14,points=11``),
*correlation* that of ``contribution-correlation@1`` where the network gives exact contributions: means over genuine and
over impostor pairs. The threshold lies midway between the mean similarities of the measured genuine and impostor pairs.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from scipy.stats import spearmanr
from torch import Tensor

from faithface.bench.subjects import ResNet18, export, with_random_weights
from faithface.contract import Dataset, Maps, Pair, Samples
from faithface.loading import load_samples
from faithface.model import OnnxModel, open_model
from faithface.plugins import Registry, load_registry
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.fggb_norms import linear_maps
from faithface_plugins.explainers.pair_common import partners, scaled, smooth, unit

NAMES = ("planted-mobile-0", "planted-residual-0", "exact-verifier-28-0", "resnet29", "random-512")
GAPS = ("gap-similarity-score@1(grid=14,points=11)", "gap-dissimilarity-score@1(grid=14,points=11)")
TRUTH = "contribution-correlation@1"
EXACT = {"signed": Fggb(reading="signed"), "absolute": Fggb()}
FORMS = {
    "signed": {
        "norms=shared": Fggb(reading="signed", norms="shared"),
        "norms=sketch": Fggb(reading="signed", norms="sketch"),
    },
    "absolute": {"channels=adaptive": Fggb(channels="adaptive")},
}


@dataclass(frozen=True)
class Measured:
    """One form on one batch: its maps, processor seconds, and images passed forward and backward."""

    maps: Maps
    seconds: float
    forward: int
    backward: int


def measured(model: OnnxModel, samples: Samples, explainer: Fggb) -> Measured:
    """Explain a batch with nothing kept from before."""
    model.cache.clear()
    forward, backward, start = model.passes.forward, model.passes.backward, time.process_time()
    maps = explainer.explain(model, samples)
    taken = time.process_time() - start
    return Measured(maps, taken, model.passes.forward - forward, model.passes.backward - backward)


def judged_and_other(maps: Maps, samples: Samples) -> list[tuple[Tensor, Tensor]]:
    """Return, per face, the map its kind of pair is judged by (similarity of genuine pairs) and the other one."""
    assert maps.similarity is not None
    assert maps.dissimilarity is not None
    rows = []
    for i, genuine in enumerate(samples.genuine):
        for side in (0, 1):
            two = (maps.similarity[i, side], maps.dissimilarity[i, side])
            rows.append(two if genuine else two[::-1])
    return rows


def agreement(one: Maps, other: Maps, samples: Samples) -> str:
    """Return Spearman's correlation over faces, the mean and the lowest: of the judged maps, and of the other ones."""
    found: list[list[float]] = [[], []]
    for a, b in zip(judged_and_other(one, samples), judged_and_other(other, samples), strict=True):
        for k in (0, 1):
            if float(a[k].max()) > 0 and float(b[k].max()) > 0:
                found[k].append(float(spearmanr(a[k].ravel(), b[k].ravel())[0]))
    return " | ".join(f"{np.mean(v):.3f} ({min(v):.3f})" if v else "empty" for v in found)


def worth(registry: Registry, model: OnnxModel, samples: Samples, maps: Maps) -> str:
    """Return two cells: the gap of the judged maps, and their correlation with exact contributions."""
    genuine = np.array(samples.genuine)
    sides = [registry.metric(name).object.score(model, samples, maps).values[""] for name in GAPS]
    cells = [f"{_mean(sides[0][genuine])}, {_mean(sides[1][~genuine])}"]
    if model.card.contributions is None:
        return f"{cells[0]} | –"
    found = registry.metric(TRUTH).object.score(model, samples, maps).values[""]
    return f"{cells[0]} | {_mean(found[genuine])}, {_mean(found[~genuine])}"


def _mean(values: np.ndarray) -> str:
    return f"{np.nanmean(values):.3f}" if np.isfinite(values).any() else "–"


def gradient_of_the_margin(model: OnnxModel, samples: Samples, sigma: float) -> Maps:
    """Return the signed gradient of the cosine by the pixels, split and smoothed as FGGB's maps are."""
    embeddings = samples.clean.outputs.flatten(0, 1)
    weights = partners(unit(embeddings))
    signed = linear_maps(model, samples.images.flatten(0, 1), embeddings, weights, "normalised")
    two = (smooth(part.clamp(min=0), sigma).unflatten(0, (-1, 2)) for part in (signed, -signed))
    return Maps(similarity=next(two), dissimilarity=next(two))


def load(model: OnnxModel, dataset: Dataset, pairs: int) -> Samples:
    """Load as many genuine as impostor pairs, the first of each kind that show new faces."""
    chosen: dict[bool, list[Pair]] = {True: [], False: []}
    seen: set[str] = set()
    for item in dataset.items():
        assert isinstance(item, Pair)
        names = {face.id for face in item.faces}
        if len(chosen[item.same]) < pairs and not names & seen:
            chosen[item.same].append(item)
            seen |= names
    items = chosen[True] + chosen[False]
    scores = load_samples(model, items, threshold=0.0).clean.scores.cpu().numpy()
    # Midway between the kinds: the equal-error point of a few pairs lies on one of them, whose margin would be 0.
    threshold = float(scores[: len(chosen[True])].mean() + scores[len(chosen[True]) :].mean()) / 2
    return load_samples(model, items, threshold=threshold, dataset=dataset)


def random_network(folder: Path, dataset: Dataset) -> OnnxModel:
    """Return the 512-d network; its last bias is set so that the embeddings of eight faces have mean 0.

    Without that all cosines of a random network are near 1.
    """
    network = with_random_weights(ResNet18(512, (16, 32, 64, 128)))
    model = open_model(export(network, "uncentred", folder, embedding=True))
    images = load_samples(model, dataset.items()[:4], threshold=0.0).images.flatten(0, 1)  # type: ignore[arg-type]
    with torch.no_grad():
        network.head.bias -= model.outputs(images).mean(dim=0)
    return open_model(export(network, "random-512", folder, embedding=True))


def subjects(registry: Registry, names: list[str], dataset: Dataset, folder: Path) -> Iterator[OnnxModel]:
    for name in names:
        if name == "random-512":
            yield random_network(folder, dataset)
        elif name in registry.models:
            yield open_model(registry.model(name).object)


def report(registry: Registry, model: OnnxModel, samples: Samples) -> None:
    assert model.twin  # derived before anything is timed
    exact = {reading: measured(model, samples, explainer) for reading, explainer in EXACT.items()}
    channels = samples.clean.outputs.shape[-1]
    note = exact["signed"].maps.note
    print(
        f"\n{model.card.name}, {channels} channels, {len(samples)} pairs: norm variation {note['norm_variation']:.2f}, "
        f"channel correlation {note['channel_correlation']:.2f}\n"
    )
    head = (
        "form",
        "time, exact / form",
        "passes forward + backward",
        "Spearman (lowest face), judged map",
        "other map",
    )
    print(f"| {' | '.join((*head, 'gap', 'correlation'))} |\n| --- |{' ---: |' * 6}")
    for reading, of in exact.items():
        values = worth(registry, model, samples, of.maps)
        print(f"| {reading}, exact | 1 | {of.forward} + {of.backward} | 1 | 1 | {values} |", flush=True)
        for form, explainer in FORMS[reading].items():
            got = measured(model, samples, explainer)
            ratio = of.seconds / got.seconds
            both = agreement(got.maps, of.maps, samples)
            passes = f"{got.forward} + {got.backward}"
            values = worth(registry, model, samples, got.maps)
            print(f"| {reading}, {form} | {ratio:.1f} | {passes} | {both} | {values} |", flush=True)
    margin = gradient_of_the_margin(model, samples, scaled(5.0, model))
    values = worth(registry, model, samples, margin)
    for reading, of in exact.items():
        both = agreement(margin, of.maps, samples)
        print(f"| gradient of the margin, beside {reading}, exact | | | {both} | {values} |")


def main() -> None:
    parser = argparse.ArgumentParser(description="Hold the cheaper forms of FGGB against the exact one.")
    parser.add_argument("--only", action="append", choices=NAMES, help="a network; repeatable; default: all")
    parser.add_argument("--dataset", default="planted-verification", help="where the pairs come from")
    parser.add_argument("--pairs", type=int, default=2, help="genuine pairs, and as many impostor pairs")
    args = parser.parse_args()
    registry = load_registry()
    dataset = registry.dataset(args.dataset).object
    with TemporaryDirectory(prefix="faithface-fggb-") as folder:
        for model in subjects(registry, args.only or list(NAMES), dataset, Path(folder)):
            report(registry, model, load(model, dataset, args.pairs))


if __name__ == "__main__":
    main()
