"""optimum-share@1: against all orders by brute force, the curves that boards report, and known answers."""

from __future__ import annotations

from itertools import permutations
from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.contract import Explainer, FaceModel, Maps, Samples
from faithface.loading import load_samples
from faithface.metrics.optimum_share import OptimumShare, cell_order
from faithface.model import open_model
from faithface.perturb import area, curves, fill_images
from faithface.plugins import load_registry
from faithface.reasons import ReasonCode
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Constant, Gradient, Noise
from tests.metrics.toy_pairs import ToyPairs
from tests.support.networks import sample_batch, tiny

SIZE, GRID = 12, 2
METRIC = OptimumShare(grid=GRID)


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=SIZE))
    return model, sample_batch(model, 3)


def slow_gap(model: FaceModel, samples: Samples, i: int, order: tuple[int, ...]) -> float:
    """Insertion minus deletion of an order of the four quarters, image by image."""
    image, other = samples.images[i], fill_images(model, samples, "blur")[i, 0]
    chosen, half = int(samples.clean.predicted[i]), SIZE // 2
    scores = []
    for count in range(5):
        shown = {"deletion": image.clone(), "insertion": other.clone()}
        for cell in order[:count]:
            rows, columns = (slice(k * half, (k + 1) * half) for k in divmod(cell, 2))
            shown["deletion"][:, rows, columns] = other[:, rows, columns]
            shown["insertion"][:, rows, columns] = image[:, rows, columns]
        both = model.scores(torch.stack([shown["insertion"], shown["deletion"]]))[:, chosen].double()
        scores.append(float(both[0] - both[1]))
    return float(np.trapezoid(scores, dx=0.25))


def slow_greedy(model: FaceModel, samples: Samples, i: int) -> float:
    """Take at each step the cell with the best next term: the one after which insertion exceeds deletion the most."""
    image, other = samples.images[i], fill_images(model, samples, "blur")[i, 0]
    chosen, half = int(samples.clean.predicted[i]), SIZE // 2

    def term(cells: tuple[int, ...]) -> float:
        deleted, inserted = image.clone(), other.clone()
        for cell in cells:
            rows, columns = (slice(k * half, (k + 1) * half) for k in divmod(cell, 2))
            deleted[:, rows, columns] = other[:, rows, columns]
            inserted[:, rows, columns] = image[:, rows, columns]
        both = model.scores(torch.stack([inserted, deleted]))[:, chosen].double()
        return float(both[0] - both[1])

    order: tuple[int, ...] = ()
    while len(order) < 4:
        free = [cell for cell in range(4) if cell not in order]
        order = (*order, max(free, key=lambda cell: term((*order, cell))))
    return slow_gap(model, samples, i, order)


def test_it_is_the_gap_over_the_best_of_all_24_orders(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    maps = Gradient().explain(model, samples)
    got = METRIC.score(model, samples, maps)
    assert maps.relevance is not None
    for i in range(len(samples)):
        means = maps.relevance[i].double().reshape(2, SIZE // 2, 2, SIZE // 2).mean(dim=(1, 3)).flatten()
        own = slow_gap(model, samples, i, tuple(int(c) for c in means.argsort(descending=True)))
        best = max(slow_gap(model, samples, i, order) for order in permutations(range(4)))
        assert got.values["gap"][i] == pytest.approx(own, abs=1e-6)
        assert got.values["best"][i] == pytest.approx(best, abs=1e-6)
        assert got.values[""][i] == pytest.approx(own / best, abs=1e-5)
        assert got.values["greedy"][i] == pytest.approx(slow_greedy(model, samples, i) / best, abs=1e-5)


def test_shapley_is_the_correlation_with_the_mean_marginal_over_all_orders(pad: tuple[FaceModel, Samples]) -> None:
    from scipy.stats import spearmanr

    model, samples = pad
    maps = Gradient().explain(model, samples)
    assert maps.relevance is not None
    image, other = samples.images[0], fill_images(model, samples, "blur")[0, 0]
    half, chosen = SIZE // 2, int(samples.clean.predicted[0])
    values = np.zeros(4)
    for order in permutations(range(4)):
        shown, before = other.clone(), float(model.scores(other[None])[0, chosen])
        for cell in order:
            rows, columns = (slice(k * half, (k + 1) * half) for k in divmod(cell, 2))
            shown[:, rows, columns] = image[:, rows, columns]
            after = float(model.scores(shown[None])[0, chosen])
            values[cell] += (after - before) / 24
            before = after
    means = maps.relevance[0].reshape(2, half, 2, half).mean(dim=(1, 3)).flatten().numpy()
    got = METRIC.score(model, samples, maps).values["shapley"][0]
    assert got == pytest.approx(spearmanr(means, values).statistic, abs=1e-6)


@pytest.mark.parametrize("which", ["genuine", "impostor"])
def test_on_pairs_the_gap_is_that_of_the_curves_with_their_sign(which: str, tmp_path: Path) -> None:
    model, dataset = open_model(tiny("arcface", "verification", tmp_path, size=SIZE)), ToyPairs(n=6, size=SIZE)
    samples = load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)
    samples = samples.take(samples.where(which))  # type: ignore[arg-type]
    metric, explainer = OptimumShare(grid=3), Noise()
    maps = explainer.explain(model, samples)
    got = metric.score(model, samples, maps)
    kind, fill = ("similarity", "stranger") if which == "genuine" else ("dissimilarity", "partner")
    found = curves(model, samples, maps, kind, fill, 3, 10).scores
    gap = (area(found["insertion"]) - area(found["deletion"])) * (1 if which == "genuine" else -1)
    able = np.isfinite(got.values[""])
    assert able.any()
    np.testing.assert_allclose(got.values["gap"][able], gap[able], atol=1e-5)


def test_no_explainer_gets_more_than_all_and_upside_down_turns_the_sign(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    explainers: tuple[Explainer, ...] = (Gradient(), Brightness(), Noise(), Constant())
    for explainer in explainers:
        maps = explainer.explain(model, samples)
        got = METRIC.score(model, samples, maps)
        assert (got.values[""] <= 1).all()
        assert (got.values["greedy"] <= 1).all()
        if not isinstance(explainer, Constant):
            assert maps.relevance is not None
            turned = METRIC.score(model, samples, Maps(relevance=-maps.relevance))
            np.testing.assert_allclose(turned.values["gap"], -got.values["gap"], atol=1e-6)
    assert codes(got.flags) == dict.fromkeys(range(3), ReasonCode.CONSTANT_MAP)


def test_scores_are_made_once_for_all_explainers(pad: tuple[FaceModel, Samples]) -> None:
    model, _ = pad
    samples = sample_batch(model, 1)
    maps = Gradient().explain(model, samples)
    before = model.passes.forward
    METRIC.score(model, samples, maps)
    first = model.passes.forward - before
    maps = Noise().explain(model, samples)
    before = model.passes.forward
    METRIC.score(model, samples, maps)
    assert (first, model.passes.forward - before) == (2**4, 0)


def test_what_has_no_value_says_why_and_what_is_wrong_is_refused(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    bad = Maps(relevance=torch.full((3, SIZE, SIZE), torch.nan))
    assert codes(METRIC.score(model, samples, bad).reasons) == dict.fromkeys(range(3), ReasonCode.NON_FINITE_MAP)
    with pytest.raises(ValueError, match="grid is 5"):
        OptimumShare(grid=5)
    assert cell_order(np.array([15, 0, 1, 2, 3, 12, *range(4, 12), 13, 14]), (4, 4), 2).tolist() == [3, 0, 1, 2]
    assert load_registry().metric("optimum-share@1").object.protocol.family == "faithful"
