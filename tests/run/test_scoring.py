"""``faithface.score``: the numbers of a run, on a torch module and arrays."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from torch import nn

import faithface
from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.plugins import load_registry
from faithface.testing import tiny_double


def as_given(samples: Samples) -> Samples:
    """The same batch under the names that ``score`` gives its samples, on which ties and noise depend."""
    word = "pair" if samples.are_pairs else "image"
    items = tuple(dataclasses.replace(item, id=f"{word}-{i:05d}") for i, item in enumerate(samples.items))
    return Samples(items, samples.images, samples.clean, 0, None)


def test_a_classifier_s_maps_get_the_numbers_of_the_metric(tiny_model: FaceModel, tiny_samples: Samples) -> None:
    maps = torch.rand(8, 32, 32, generator=torch.Generator().manual_seed(0))
    for text in ("gap@1(grid=8,points=5)", "entropy@1", "road@1"):
        metric = load_registry(only=[]).metric(text).object
        want = metric.score(tiny_model, as_given(tiny_samples), Maps(relevance=maps)).values[""]
        got = faithface.score(tiny_double("pad").module, tiny_samples.images.numpy(), maps.numpy(), text)
        np.testing.assert_allclose(got, want, atol=1e-4)


def test_pairs_are_judged_on_their_kind(tiny_verifier: FaceModel, tiny_pairs: Samples) -> None:
    maps = torch.rand(8, 2, 32, 32, generator=torch.Generator().manual_seed(0))
    text = "gap-similarity-score@1(fill=black,grid=8,points=5)"
    module = tiny_double("verification").module
    got = faithface.score(module, tiny_pairs.images, maps, text, same=tiny_pairs.genuine.tolist(), threshold=0.5)
    assert np.isnan(got).tolist() == (~tiny_pairs.genuine).tolist()
    whole = as_given(tiny_pairs)
    genuine = whole.take(np.flatnonzero(whole.genuine))
    metric = load_registry(only=[]).metric(text).object
    want = metric.score(tiny_verifier, genuine, Maps(similarity=maps[::2], dissimilarity=torch.zeros(4, 2, 32, 32)))
    np.testing.assert_allclose(got[::2], want.values[""], atol=1e-4)


@pytest.mark.parametrize(
    ("images", "maps", "metric", "options", "error", "words"),
    [
        (torch.rand(2, 32, 32), torch.rand(2, 32, 32), "entropy@1", {}, UsageError, "N×3×H×W"),
        (torch.rand(2, 3, 32, 32) * 255, torch.rand(2, 32, 32), "entropy@1", {}, UsageError, r"\[0, 1\]"),
        (torch.rand(2, 3, 32, 32), torch.rand(2, 16, 32), "entropy@1", {}, UsageError, "expected .2, 32, 32"),
        (
            torch.rand(2, 3, 32, 32),
            {"similarity": torch.rand(2, 32, 32)},
            "entropy@1",
            {},
            UsageError,
            "expected relevance",
        ),
        (torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32) * torch.nan, "entropy@1", {}, UsageError, "not finite"),
        (torch.rand(2, 2, 3, 32, 32), torch.rand(2, 2, 32, 32), "entropy@1", {}, UsageError, "same="),
        (torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32), "relevance-mass@1", {}, NotApplicable, "ground truth"),
        (torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32), "noise-stability@1", {}, NotApplicable, "no explainer"),
        (torch.rand(2, 3, 32, 32), torch.rand(2, 32, 32), "entropi@1", {}, UsageError, 'did you mean "entropy@1"'),
    ],
)
def test_what_does_not_fit_is_refused(images, maps, metric: str, options, error: type, words: str) -> None:
    net = nn.Sequential(nn.Flatten(), nn.LazyLinear(2))
    with pytest.raises(error, match=words):
        faithface.score(net, images, maps, metric, **options)
