"""Would a network that knows masked images rank explainers alike? ``python -m training.masked_twins``.

    python -m training.masked_twins --only planted-pad-traditional-0 --samples 60
    python -m training.masked_twins --table       # the table again, from the record

Place in the flow: a study over the zoo; calls ``loops``, ``export`` and faithface as a user would. Writes
``leaderboards/audit/masked-twins.json`` and prints a table.

Curves show a network images that it was never trained on. After F-Fidelity (arXiv:2410.02970) the network is
fine-tuned on images that are masked in the same way, with the same fill, and both networks judge the same maps: those
of the network as it ships. If both order the explainers alike, the order does not come from unfamiliar images.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from scipy.stats import kendalltau
from torch import Tensor, nn

from faithface.audit.evidence import paired_z
from faithface.contract import Explainer, FaceModel, Maps, Pair, Sample, Samples
from faithface.loading import clean_threshold, load_samples
from faithface.metrics._reexplain import rescored
from faithface.model import open_model
from faithface.perturb import area, curves
from faithface.perturb.fills import BLUR, gaussian_blur
from faithface.plugins import Registry, load_registry
from faithface.run.choice import choose
from training import data, export
from training.loops import MARGIN, _batches, normalised, one_cycle
from training.losses import ArcFaceHead
from training.networks import NETWORKS, fold_norms
from training.recipes import RECIPES, Recipe

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "leaderboards" / "audit" / "masked-twins.json"
GRID, POINTS = 14, 11
ENOUGH = 0.9
FILLS = {"verification": ("stranger", "black"), "pad": ("blur", "black", "mean"), "synthetic-detection": ("blur",)}
EXPLAINERS = {
    "verification": (
        "fggb", "fggb(reading=signed,norms=shared)", "xssab", "hirescam", "grad-cam", "saliency", "occlusion",
        "corrrise(masks=300)", "xface", "centre-prior", "edges", "random",
    ),
    "pad": (
        "grad-cam", "hirescam", "layer-cam", "saliency", "integrated-gradients", "smoothgrad", "occlusion",
        "rise(masks=300)", "oracle", "centre-prior", "edges", "random",
    ),
}  # fmt: skip
EPOCHS = {"verification": 2, "pad": 2, "synthetic-detection": 2}
RATE = 5e-4
MOST = {"verification": 0.5, "pad": 1.0, "synthetic-detection": 1.0}  # largest share of cells that are masked


def load_weights(recipe: Recipe, path: Path) -> nn.Module:
    """Return the network of a recipe with the weights of its committed file, norms folded."""
    network = fold_norms(NETWORKS[recipe.network]())
    stored = {t.name: numpy_helper.to_array(t) for t in onnx.load(path).graph.initializer}
    state = {name: torch.from_numpy(stored[name].copy()) for name in network.state_dict()}
    network.load_state_dict(state)
    return network


def random_masks(count: int, most: float, rng: np.random.Generator) -> Tensor:
    """Return masks N×1×112×112 (1: the fill shows) over 14×14 cells.

    The share of masked cells is uniform in [0, ``most``]. Half of the masks take cells at random; the others take the
    largest cells of a random field that was smoothed with σ = 2 cells, as maps rank neighbours alike.
    """
    from scipy.ndimage import gaussian_filter

    field = rng.random((count, GRID, GRID))
    smooth = rng.random(count) < 0.5
    field[smooth] = [gaussian_filter(one, 2.0) for one in field[smooth]]
    order = field.reshape(count, -1).argsort(axis=1).argsort(axis=1)
    number = np.rint(rng.uniform(0, most, count) * GRID * GRID).astype(int)
    cells = (order < number[:, None]).reshape(count, 1, GRID, GRID).astype(np.float32)
    side = 112 // GRID
    return torch.from_numpy(cells).repeat_interleave(side, 2).repeat_interleave(side, 3)


def filled(images: Tensor, fill: str, rng: np.random.Generator) -> Tensor:
    """Return the fill of each image of a normalised batch; strangers are other images of the batch."""
    if fill == "blur":
        return gaussian_blur(images, BLUR * images.shape[-1])
    if fill == "mean":
        return images.mean(dim=(2, 3), keepdim=True).expand_as(images)
    if fill == "black":
        return torch.full_like(images, -1.0)
    return images[torch.from_numpy((np.arange(len(images)) + rng.integers(1, len(images))) % len(images))]


def fine_tune(recipe: Recipe, path: Path, fill: str, cache: Path) -> nn.Module:
    """Return the network after two epochs on masked training images, with their own labels."""
    torch.manual_seed(4000 + recipe.run)
    network = load_weights(recipe, path)
    if recipe.task == "verification":
        arrays = data.verification_set(cache)
    else:
        arrays = data.classifier_set(recipe.task, recipe.tagged, cache)
    images, labels = arrays["images"], torch.from_numpy(np.array(arrays["labels"]))
    head = _head(network, images, labels) if recipe.task == "verification" else None
    parameters = [*network.parameters(), *(head.parameters() if head is not None else [])]
    optimiser = torch.optim.AdamW(parameters, lr=RATE, weight_decay=0.0)
    rng = np.random.default_rng([recipe.run, 77])
    epochs = EPOCHS[recipe.task]
    steps = epochs * (len(images) // recipe.batch)
    for step, rows in _batches(len(images), recipe.batch, epochs, rng):
        for group in optimiser.param_groups:
            group["lr"] = one_cycle(step, steps, RATE)
        batch = normalised(images[rows])
        masks = random_masks(len(rows), MOST[recipe.task], rng)
        batch = torch.where(masks > 0, filled(batch, fill, rng), batch)
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.half):
            outputs = network(batch)
        target = labels[torch.from_numpy(rows)]
        loss = (
            nn.functional.cross_entropy(outputs.float(), target)
            if head is None
            else head(outputs.float(), target, MARGIN)
        )
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
    return network.eval()


def _head(network: nn.Module, images: np.ndarray, labels: Tensor) -> ArcFaceHead:
    """Return a head whose class centres are the mean embeddings of the classes."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = torch.cat([network(normalised(images[i : i + 256])).float() for i in range(0, len(images), 256)])
    head = ArcFaceHead(found.shape[1], int(labels.max()) + 1)
    centres = torch.zeros(int(labels.max()) + 1, found.shape[1])
    with torch.no_grad():
        head.weight.copy_(centres.index_add_(0, labels, nn.functional.normalize(found)))
    return head


def opened(network: nn.Module, recipe: Recipe, folder: Path) -> FaceModel:
    """Export a fine-tuned network and open it as any model."""
    from faithface.card import load_card

    tuned = replace(recipe, name=f"{recipe.name}-masked")
    # Norms are folded already; export folds units again, which must not happen twice.
    for module in network.modules():
        if hasattr(module, "fold"):
            module.fold = lambda: None  # type: ignore[assignment]
    return open_model(load_card(export.export(network, tuned, folder)))


def gaps(model: FaceModel, samples: Samples, maps: Maps, kind: str, fill: str) -> np.ndarray:
    """Return the gaps of a batch by the ranked form of its protocol, oriented so that higher is better."""
    found = curves(model, samples, maps, kind, fill, GRID, POINTS).scores
    gap = area(found["insertion"]) - area(found["deletion"])
    return np.asarray(-gap if kind == "dissimilarity" else gap)


def boards(recipe: Recipe, registry: Registry, count: int, cache: Path) -> list[dict[str, object]]:
    """Return, per fill and kind of map, the gaps of all explainers by the shipped and by the fine-tuned network."""
    card = registry.model(recipe.name).object
    model = open_model(card)
    short = {"verification": "verification", "pad": "pad", "synthetic-detection": "synthetic"}[recipe.task]
    dataset = registry.dataset(f"planted-{short}").object
    items: Any = list(dataset.items())
    threshold = clean_threshold(model, dataset) if recipe.task == "verification" else None
    names = EXPLAINERS["verification" if recipe.task == "verification" else "pad"]
    explainers: dict[str, Explainer] = {name: registry.explainer(name).object for name in names}
    kinds = [("relevance", "positive")]
    if recipe.task == "verification":
        kinds = [("similarity", "genuine"), ("dissimilarity", "impostor")]
    rows: list[dict[str, object]] = []
    for fill in FILLS[recipe.task]:
        start = time.process_time()
        with tempfile.TemporaryDirectory() as folder:
            twin = opened(fine_tune(recipe, card.root / card.file, fill, cache), recipe, Path(folder))
            print(f"{recipe.name}, {fill}: fine-tuned in {time.process_time() - start:.0f} s", flush=True)
            for kind, side in kinds:
                chosen: Any = _of(items, dataset.positive, side)
                chosen = [chosen[i] for i in choose(chosen, count, 0)]
                one_fill = "partner" if (fill, kind) == ("stranger", "dissimilarity") else fill
                found: dict[str, list[np.ndarray]] = {f"{who}/{name}": [] for name in names for who in ("own", "twin")}
                agree = []
                for at in range(0, len(chosen), 12):
                    samples = load_samples(model, chosen[at : at + 12], 0, threshold, dataset)
                    again = rescored(twin, samples)
                    agree.append(again.clean.scores.numpy())
                    for name, explainer in explainers.items():
                        maps = model.cached(_maps, name, explainer, samples, recipe.name)
                        found[f"own/{name}"].append(gaps(model, samples, maps, kind, one_fill))
                        found[f"twin/{name}"].append(gaps(twin, again, maps, kind, one_fill))
                values = {key: np.concatenate(parts) for key, parts in found.items()}
                rows.append(_compared(recipe.name, one_fill, kind, names, values, float(np.concatenate(agree).mean())))
                print(json.dumps({k: v for k, v in rows[-1].items() if k != "means"}), flush=True)
    return rows


def _maps(_model: FaceModel, name: str, explainer: Explainer, samples: Samples, model: str) -> Maps:
    return explainer.explain(_model, samples)


def _of(items: Sequence[Sample | Pair], positive: str, side: str) -> list[Sample | Pair]:
    if side == "positive":
        return [one for one in items if isinstance(one, Sample) and one.label == positive]
    return [
        one for one in items if isinstance(one, Pair) and one.same == (side == "genuine") and one.kind != "part-swap"
    ]


def _compared(
    model: str, fill: str, kind: str, names: Sequence[str], values: dict[str, np.ndarray], score: float
) -> dict[str, object]:
    """Return Kendall's τ of both orders; over all explainers, and over the pairs that one network tells apart."""
    own = {name: values[f"own/{name}"] for name in names}
    twin = {name: values[f"twin/{name}"] for name in names}
    told = right = 0
    for i, a in enumerate(names):
        for b in names[:i]:
            z, other = paired_z(own[a], own[b]), paired_z(twin[a], twin[b])
            if max(abs(z), abs(other)) >= 2:
                told += 1
                right += int(z * other > 0)
    means = {name: [round(float(own[name].mean()), 4), round(float(twin[name].mean()), 4)] for name in names}
    tau = kendalltau([m[0] for m in means.values()], [m[1] for m in means.values()]).statistic
    halves = []
    for part in (own, twin):
        first, second = ([float(part[n][k::2].mean()) for n in names] for k in (0, 1))
        halves.append(float(kendalltau(first, second).statistic))
    return {
        "model": model, "fill": fill, "kind": kind, "n": len(own[names[0]]), "tau": round(float(tau), 3),
        "tau_told": round((2 * right - told) / told, 3) if told else None, "told": told,
        "tau_halves": round(min(halves), 3), "twin_score": round(score, 3), "means": means,
    }  # fmt: skip


def table(rows: Sequence[dict[str, object]]) -> str:
    """Return the rows as Markdown."""
    head = [
        "network", "fill", "map", "n", "τ", "τ, pairs told apart", "such pairs", "τ of two halves", "the fill",
    ]  # fmt: skip
    lines = [head, ["---"] * len(head)]
    for row in rows:
        told = row["tau_told"]
        fine = isinstance(told, float) and told >= ENOUGH
        lines.append([f"`{row['model']}`", str(row["fill"]), str(row["kind"]), str(row["n"]), f"{row['tau']:.2f}",
                      f"{told:.2f}" if isinstance(told, float) else "–", str(row["told"]), f"{row['tau_halves']:.2f}",
                      "" if fine else "*with care*"])  # fmt: skip
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Hold boards against those of networks that know masked images.")
    parser.add_argument("--only", nargs="*", default=["planted-pad-traditional-0", "planted-residual-0"])
    parser.add_argument("--samples", type=int, default=60, help="per kind of map")
    parser.add_argument("--cache", type=Path, default=data.default_cache(), help="folder for rendered pictures")
    parser.add_argument("--table", action="store_true", help="print the table again, from the record")
    options = parser.parse_args(arguments)
    rows = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else []
    if not options.table:
        registry = load_registry()
        for recipe in (r for r in RECIPES if r.name in options.only):
            rows = [row for row in rows if row["model"] != recipe.name]
            rows += boards(recipe, registry, options.samples, options.cache)
            RECORD.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    print(table(rows))


if __name__ == "__main__":
    main()
