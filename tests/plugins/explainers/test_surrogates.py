"""LIME and Kernel SHAP: right on models whose answer is known, equal to captum's, without a twin, deterministic."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from captum import attr
from sklearn.linear_model import Ridge

from faithface.errors import NotApplicable
from faithface.seeds import seed_for
from faithface_plugins.explainers.surrogates import KernelShap, Lime, segment
from tests.support.networks import build


def shares(samples: Any) -> torch.Tensor:
    """What each pixel adds to the logit of the linear model over black: N×H×W."""
    weights = build("linear", 2, 32).fc.weight.detach()[samples.clean.predicted].reshape(-1, 3, 32, 32) / 0.5
    return (weights * samples.images).sum(dim=1)


def test_kernel_shap_of_a_linear_model_is_each_segments_own_share(opened: Callable[..., Any]) -> None:
    """On an additive model the Shapley value of a segment is what it adds, whatever is sampled."""
    model, samples = opened("linear", n=2)
    found = KernelShap(samples=60, segments=16, segmentation="grid").explain(model, samples).relevance
    for i in range(2):
        labels = segment(samples.images[i], "grid", 16)
        for label in range(16):
            expected = shares(samples)[i][labels == label].sum()
            assert found[i][labels == label].unique().tolist() == [pytest.approx(float(expected), abs=2e-3)]


def test_kernel_shap_adds_up_to_the_whole_image(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", n=1)
    found = KernelShap(samples=80, segments=9).explain(model, samples).relevance[0]
    labels = segment(samples.images[0], "slic", 9)
    total = sum(float(found[labels == label].mean()) for label in labels.unique())
    net = build("cnn", 2, 32)
    with torch.no_grad():
        ends = net((torch.stack([samples.images[0], torch.zeros(3, 32, 32)]) - 0.5) / 0.5)
    assert total == pytest.approx(float((ends[0] - ends[1])[samples.clean.predicted[0]]), abs=1e-3)


@pytest.mark.parametrize("made", [Lime, KernelShap])
def test_it_is_captums_on_the_torch_network(opened: Callable[..., Any], made: Any) -> None:
    model, samples = opened("cnn", n=1)
    explainer = made(samples=40, segments=9, segmentation="grid", score="logit")
    found = explainer.explain(model, samples).relevance[0]
    net = build("cnn", 2, 32)
    forward = lambda images: net((images - 0.5) / 0.5)[:, int(samples.clean.predicted[0])]  # noqa: E731
    mask = segment(samples.images[0], "grid", 9).expand(1, 3, 32, 32)
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(seed_for(samples.seed, samples.ids[0], explainer.name))
        if made is KernelShap:
            expected = attr.KernelShap(forward).attribute(samples.images, n_samples=40, feature_mask=mask)[0, 0]
        else:
            seen = torch.stack([torch.bernoulli(torch.full((9,), 0.5)) for _ in range(40)])
            y = torch.cat([forward(samples.images * z[mask]) for z in seen])
            distance = 1 - seen.mean(dim=1).sqrt()
            ridge = Ridge(alpha=1.0).fit(seen, y, sample_weight=torch.exp(-(distance**2) / (2 * 0.25**2)))
            expected = torch.from_numpy(ridge.coef_)[mask[0, 0]]
    np.testing.assert_allclose(found, expected, atol=1e-4)


@pytest.mark.parametrize("made", [Lime, KernelShap])
def test_it_runs_where_there_is_no_twin(opened: Callable[..., Any], made: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    model, samples = opened("cnn", "verification", n=1)

    def refuse(_: Any) -> None:
        raise NotApplicable("no twin")

    monkeypatch.setattr(type(model), "twin", property(refuse))
    maps = made(samples=12, segments=4).explain(model, samples)
    assert maps.similarity.isfinite().all()
    assert (maps.similarity + maps.dissimilarity).max() > 0


@pytest.mark.parametrize("made", [Lime, KernelShap])
def test_the_global_generator_is_left_as_it_was_and_does_not_matter(opened: Callable[..., Any], made: Any) -> None:
    model, samples = opened("cnn", n=2)
    explainer = made(samples=12, segments=4)
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    first = explainer.explain(model, samples).relevance
    assert torch.equal(before, torch.random.get_rng_state())
    torch.manual_seed(2)
    alone = explainer.explain(model, samples.take([1])).relevance
    torch.testing.assert_close(first[1:], alone, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("how", ["slic", "grid"])
@pytest.mark.parametrize("size", [(32, 32), (20, 33)])
def test_segments_are_numbered_without_gaps_and_about_as_many_as_asked(how: Any, size: tuple[int, int]) -> None:
    labels = segment(torch.rand(3, *size, generator=torch.Generator().manual_seed(0)), how, 25)
    assert tuple(labels.shape) == size
    assert labels.unique().tolist() == list(range(int(labels.max()) + 1))
    assert 9 <= int(labels.max()) + 1 <= 40


@pytest.mark.parametrize("value", [0.0, 0.7])
def test_a_constant_image_still_has_at_least_two_segments(value: float) -> None:
    assert len(segment(torch.full((3, 32, 32), value), "slic", 50).unique()) >= 2


@pytest.mark.parametrize(
    ("made", "wrong"), [(Lime, {"samples": 1}), (KernelShap, {"segments": 1}), (Lime, {"ridge": 0.0})]
)
def test_parameters_out_of_range_are_refused(made: Any, wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="expected"):
        made(**wrong)
