"""The figure of docs/models/exact.md: two pairs, what each patch contributes, and what two explainers say.

Place in the flow: called by ``evaluate_exact.py``; calls explainers and fills as a run does, and matplotlib.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.stats import spearmanr

from faithface.contract import Maps
from faithface.loading import load_samples
from faithface.model import contributions as mechanism
from faithface.model import open_model
from faithface.perturb.fills import fill_images
from faithface.plugins import load_registry
from faithface_plugins.datasets.planted.datasets import PlantedVerification
from faithface_plugins.models import EXACT_CARDS

MODEL = "exact-verifier-28-0"
EXPLAINERS = ("xface", "xssab")
TILE = 1.75  # inches


def draw(path: Path, model_name: str = MODEL) -> None:
    """Draw one genuine and one impostor pair of ``planted-verification`` and write a PNG."""
    model = open_model(next(card for card in EXACT_CARDS if card.name == model_name))
    dataset = PlantedVerification()
    ordinary = [pair for pair in dataset.items() if pair.kind != "part-swap"]
    chosen = [next(pair for pair in ordinary if pair.same), next(pair for pair in ordinary if not pair.same)]
    samples = load_samples(model, chosen, threshold=0.5, dataset=dataset)
    values = mechanism.contributions(model, samples)
    beyond = mechanism.contributions_beyond_fill(model, samples, fill_images(model, samples, "stranger"))[:, 0]
    registry = load_registry()
    found = {name: registry.explainers[name].object.explain(model, samples) for name in EXPLAINERS}
    columns = ["probe", "reference", "contributions", "less the stranger's", *EXPLAINERS]
    figure = Figure(figsize=(TILE * len(columns), TILE * len(chosen) + 0.55), layout="constrained")
    axes = figure.subplots(len(chosen), len(columns))
    grid = mechanism.declared(model.card).grid
    for row, pair in enumerate(chosen):
        kind = "genuine" if pair.same else "impostor"
        for side in (0, 1):
            axes[row][side].imshow(samples.images[row, side].permute(1, 2, 0).numpy())
        axes[row][0].set_ylabel(f"{kind}, cosine {float(samples.clean.scores[row]):.2f}", fontsize=8)
        exact = values[row].numpy()
        _patches(axes[row][2], exact.reshape(grid), f"sum {exact.sum():.2f}")
        _patches(axes[row][3], beyond[row].numpy().reshape(grid), f"sum {float(beyond[row].sum()):.2f}")
        for at, name in enumerate(EXPLAINERS):
            signed = _signed(found[name], row)
            mass = signed.reshape(grid[0], 112 // grid[0], grid[1], 112 // grid[1]).mean(axis=(1, 3))
            rank = spearmanr(mass.ravel(), exact).statistic
            axes[row][4 + at].imshow(signed, cmap="RdBu_r", **_range(signed))
            axes[row][4 + at].set_xlabel(f"ρ with the contributions {rank:.2f}", fontsize=7)
    for at, name in enumerate(columns):
        axes[0][at].set_title(name, fontsize=9)
    for axis in np.ravel(axes):
        axis.set_xticks([])
        axis.set_yticks([])
    figure.savefig(path, dpi=140, metadata={"Software": None})


def _signed(maps: Maps, row: int) -> np.ndarray:
    """Return similarity less dissimilarity of the probe, H×W."""
    assert maps.similarity is not None
    assert maps.dissimilarity is not None
    return (maps.similarity[row, 0] - maps.dissimilarity[row, 0]).cpu().numpy()  # type: ignore[no-any-return]


def _range(values: np.ndarray) -> dict[str, float]:
    most = float(np.abs(values).max()) or 1.0
    return {"vmin": -most, "vmax": most}


def _patches(axis: Axes, values: np.ndarray, note: str) -> None:
    """Draw patch values as squares with their numbers in hundredths; red adds to the similarity, blue takes from it."""
    axis.imshow(values, cmap="RdBu_r", **_range(values))
    for (y, x), value in np.ndenumerate(values):
        strong = abs(value) > 0.6 * np.abs(values).max()
        axis.text(x, y, f"{100 * value:.0f}", ha="center", va="center", fontsize=6, color="w" if strong else "k")
    axis.set_xlabel(note, fontsize=7)
