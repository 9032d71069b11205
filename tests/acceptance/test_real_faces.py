"""The main job on real faces, as the first user does it. The faces are not in the repository: the tests skip without
them.

What must come out was measured in a pilot with other code: a random map has no gap, FGGB has a clear one on genuine
and on impostor pairs, and the network makes no mistake on the unaltered pairs.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import faithface
from faithface.loading import dataset_scores
from tests.reference.curves import curve, trapezoid


@pytest.fixture(scope="module")
def registry():
    return faithface.load_registry()


@pytest.fixture(scope="module")
def faces(registry, real_data: Path):
    return registry.dataset(f"pairs:{real_data}/faces/pairs.csv@{real_data}/faces/150").object


@pytest.fixture(scope="module")
def resnet29(registry):
    if "resnet29" not in registry.models:
        pytest.skip("the distribution faithface-resnet29 is not installed")
    return faithface.open_model(registry.models["resnet29"].object)


def standard_error(values: np.ndarray) -> float:
    return float(values.std(ddof=1) / len(values) ** 0.5)


def test_the_network_makes_no_mistake_on_the_clean_pairs(faces, resnet29) -> None:
    scores, same = dataset_scores(resnet29, faces)
    threshold = faithface.clean_threshold(resnet29, faces)
    assert threshold == pytest.approx(0.932, abs=0.001)
    assert ((scores >= threshold) == same).all()


@pytest.mark.slow
def test_fggb_has_a_clear_gap_and_random_has_none(faces, registry) -> None:
    result = faithface.evaluate(
        model="resnet29",
        dataset=faces,
        explainers=["fggb", "random"],
        metrics=["gap-similarity-score@1", "gap-dissimilarity-score@1"],
        limit=12,
        registry=registry,
    )
    assert not result.failures
    for metric in ("gap-similarity-score@1", "gap-dissimilarity-score@1"):
        by_name = {
            name: result.values.filter((result.values["explainer"] == name) & (result.values["metric"] == metric))[
                "value"
            ].to_numpy()
            for name in ("fggb", "random")
        }
        assert len(by_name["fggb"]) == len(by_name["random"]) == 6
        assert by_name["fggb"].mean() > 0.03
        assert by_name["fggb"].mean() > 3 * standard_error(by_name["fggb"])
        # Six samples: the interval of two standard errors is Student's, and random's own spread is tiny.
        assert abs(by_name["random"].mean()) < max(2 * standard_error(by_name["random"]), 0.01)


@pytest.mark.slow
def test_a_curve_of_a_real_pair_equals_the_slow_rules(faces, registry, resnet29) -> None:
    import torch

    threshold = faithface.clean_threshold(resnet29, faces)
    pair = next(pair for pair in faces.items() if not pair.same)
    samples = faithface.load_samples(resnet29, [pair], threshold=threshold, dataset=faces)
    maps = registry.explainer("hirescam").object.explain(resnet29, samples)
    metric = registry.metric("deletion-dissimilarity-score@1(grid=10)").object
    got = metric.score(resnet29, samples, maps).values[""][0]
    a, b = samples.images[0].numpy()
    reference = samples.clean.outputs[0, 1]

    def score(image: np.ndarray) -> float:
        embedding = resnet29.embeddings(torch.from_numpy(image[None]))[0]
        return float(torch.nn.functional.cosine_similarity(embedding, reference, dim=0))

    relevance = maps.dissimilarity[0, 0].numpy()
    slow = curve("deletion", relevance, a, b, score, np.arange(100), grid=10)
    assert got == pytest.approx(trapezoid(slow), abs=1e-4)
