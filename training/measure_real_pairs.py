"""Explainers on real pairs: ``python -m training.measure_real_pairs --dataset pairs:PAIRS.csv@FOLDER``.

    python -m training.measure_real_pairs --dataset pairs:pairs.csv@faces --model resnet29 --pairs 40
    python -m training.measure_real_pairs --dataset planted-verification --model planted-mobile-0 --explainer xface
    python -m training.measure_real_pairs              # only the tables again, from the record

Place in the flow: a study; sees models and explainers as any user would. Pictures of people are nobody's to ship, so
the dataset is named on the command line; the record holds figures only. Writes
``leaderboards/audit/real-pairs.json`` and prints tables. Each explainer is kept as soon as it is measured.

For each pair four maps are judged by the same network on the same image, by the ranked form of the gap (14×14 cells, 11
points; strangers on genuine, the partner on impostor pairs): the explainer's own map, its maps of the next two measured
pairs of the kind without a person of this one, and the mean of its maps of all such pairs, each divided by its sum.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Dataset, Explainer, FaceModel, Pair, Samples
from faithface.loading import clean_threshold, load_samples
from faithface.metrics import _maps
from faithface.metrics._others import circles
from faithface.model import open_model
from faithface.perturb.several import gaps_of_several
from faithface.plugins import load_registry
from faithface.run.choice import choose

ROOT = Path(__file__).resolve().parent.parent
RECORD = ROOT / "leaderboards" / "audit" / "real-pairs.json"
BATCH = 10
FILLS = {"similarity": "stranger", "dissimilarity": "partner"}
EXPLAINERS = (
    "xssab", "saliency", "grad-cam", "hirescam", "fggb(reading=signed,norms=shared)", "occlusion", "xface",
    "corrrise(masks=200)", "fggb(channels=adaptive)", "fggb", "centre-prior", "random",
)  # fmt: skip

Figures = dict[str, Any]


def chosen_pairs(dataset: Dataset, count: int) -> list[Pair]:
    """Return pairs of two pictures as they are: exchanged parts are another question."""
    items = [item for item in dataset.items() if isinstance(item, Pair) and item.kind != "part-swap"]
    return [items[i] for i in choose(items, count, 0)]


def probe_maps(
    model: FaceModel, dataset: Dataset, items: Sequence[Pair], explainer: Explainer, threshold: float | None
) -> tuple[Tensor, Figures]:
    """Return the judged maps of all pairs, N×H×W, and the mean of what the explainer noted."""
    parts, notes = [], []
    for start in range(0, len(items), BATCH):
        samples = load_samples(model, items[start : start + BATCH], 0, threshold, dataset)
        maps = explainer.explain(model, samples)
        parts.append(_maps.judged(samples, maps).to("cpu", torch.float32))
        notes.append({k: v for k, v in maps.note.items() if isinstance(v, (int, float))})
    return torch.cat(parts), {k: float(np.mean([n[k] for n in notes])) for k in notes[0]}


def mean_of_others(items: Sequence[Pair], people: Sequence[frozenset[int]], maps: Tensor) -> Tensor:
    """Return, for each pair, the mean of the scaled maps of all pairs of its kind without a person of it."""
    scaled = maps.clamp(min=0).double()
    scaled = scaled / scaled.sum(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    found = []
    for i, item in enumerate(items):
        rows = [j for j, other in enumerate(items) if other.same == item.same and not people[i] & people[j]]
        found.append(scaled[rows].mean(dim=0))
    return torch.stack(found).float()


def measure(model: FaceModel, dataset: Dataset, items: Sequence[Pair], explainer: Explainer) -> Figures:
    """Return own gap, own minus others' and own minus the mean map's, by kind of pair: mean, standard error, n."""
    threshold = clean_threshold(model, dataset)
    maps, note = probe_maps(model, dataset, items, explainer, threshold)
    ring = circles(model, dataset, 0)
    people = [ring.persons[ring.circle[kind][place]] for kind, place in (ring.place[item.id] for item in items)]
    crowd = mean_of_others(items, people, maps)
    others = []
    for i, item in enumerate(items):
        # The next two on the circle of those that are measured, so that nothing is explained twice.
        alike = [j for j, other in enumerate(items) if other.same == item.same]
        after = alike[alike.index(i) + 1 :] + alike[: alike.index(i)]
        others.append([j for j in after if not people[i] & people[j]][:2])
    stacked = torch.stack([maps, crowd, *(maps[[row[k] for row in others]] for k in (0, 1))])
    gaps = np.full((len(stacked), len(items)), np.nan)
    for start in range(0, len(items), BATCH):
        part = list(range(start, min(start + BATCH, len(items))))
        samples: Samples = load_samples(model, [items[i] for i in part], 0, threshold, dataset)
        for kind, fill in FILLS.items():
            at = [k for k, one in enumerate(_maps.judged_kinds(samples)) if one == kind]
            if at:
                here = [part[k] for k in at]
                sign = -1 if kind == "dissimilarity" else 1
                gaps[:, here] = sign * gaps_of_several(model, samples.take(at), stacked[:, here], fill, 14, 11)
    genuine = np.array([item.same for item in items])
    sides = {"genuine": genuine, "impostor": ~genuine}
    found: Figures = {"note": note}
    for side, rows in sides.items():
        own, mean, first, second = gaps[:, rows]
        found[side] = {
            "own": _mean(own), "specific": _mean(own - (first + second) / 2), "beyond mean": _mean(own - mean),
        }  # fmt: skip
    return found


def _mean(values: np.ndarray) -> Figures:
    return {
        "mean": round(float(values.mean()), 5),
        "se": round(float(values.std(ddof=1) / np.sqrt(len(values))), 5),
        "n": len(values),
    }


def _text(one: Figures) -> str:
    mark = "**" if abs(one["mean"]) >= 2 * one["se"] > 0 else ""
    return f"{mark}{one['mean']:+.4f} ± {one['se']:.4f}{mark}".replace("-", "−")


def tables(record: Figures) -> str:
    """Return a table per model, explainers in the order of own minus others' on impostor pairs."""
    lines = []
    for model in dict.fromkeys(key.split("|")[0] for key in record):
        rows = {key.split("|")[1]: row for key, row in record.items() if key.split("|")[0] == model}
        head = [
            "explainer",
            *(
                f"{side}: {what}"
                for side in ("genuine", "impostor")
                for what in ("own gap", "own − others", "own − mean map")
            ),
        ]
        lines += [f"`{model}`:", "", f"| {' | '.join([*head, 'n', 'channel correlation'])} |", "| --- |" + " --- |" * 8]
        for name, row in sorted(rows.items(), key=lambda item: -item[1]["impostor"]["specific"]["mean"]):
            cells = [
                _text(row[side][what])
                for side in ("genuine", "impostor")
                for what in ("own", "specific", "beyond mean")
            ]
            alike = row["note"].get("channel_correlation")
            n = "/".join(str(row[side]["own"]["n"]) for side in ("genuine", "impostor"))
            lines.append(f"| `{name}` | {' | '.join(cells)} | {n} | {'' if alike is None else f'{alike:.2f}'} |")
        lines.append("")
    return "\n".join(lines).rstrip()


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description="Measure explainers on real pairs.")
    parser.add_argument("--dataset", help="such as pairs:pairs.csv@faces; default: none, only the tables")
    parser.add_argument("--model", default="resnet29")
    parser.add_argument("--explainer", action="append", help="repeatable; default: a list")
    parser.add_argument("--pairs", type=int, default=40)
    options = parser.parse_args(arguments)
    record: Figures = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    if options.dataset:
        registry = load_registry()
        model, dataset = open_model(registry.model(options.model).object), registry.dataset(options.dataset).object
        items = chosen_pairs(dataset, options.pairs)
        for name in options.explainer or EXPLAINERS:
            key = f"{options.model}|{name}"
            if key in record and record[key]["pairs"] >= len(items):
                continue
            record[key] = {"pairs": len(items), **measure(model, dataset, items, registry.explainer(name).object)}
            print(key, json.dumps(record[key]), flush=True)
            RECORD.write_text(json.dumps(record, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(tables(record))


if __name__ == "__main__":
    main()
