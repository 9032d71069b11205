"""Every method on gradients explains the same scalar: saturated classes, equal pairs, and a twin that faces disprove.

The reference for saturated classes is the same network without its final Softmax: the gradient of its log-odds.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from faithface.contract import Explainer, FaceModel, Pair, Samples
from faithface.errors import NotApplicable
from faithface.loading import load_samples
from faithface.model import open_model
from faithface_plugins.explainers import EXPLAINERS
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.gradients import InputXGradient, IntegratedGradients, Saliency, SmoothGrad
from tests.model.test_endings import ends_in
from tests.support.graphs import card_for
from tests.support.networks import faces, pair_batch, sample_batch, tiny

BY_TWIN: tuple[Explainer, ...] = (
    *(
        e
        for e in EXPLAINERS
        if e.method.needs & {"gradients", "activations"}
        and "verification" in e.method.tasks
        and not e.needs_argument  # a bridge is nothing without the name of a method
    ),
    Fggb(reading="signed", norms="sketch"),
    Fggb(channels="adaptive"),
)


@pytest.fixture(scope="module")
def sure(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, FaceModel, Samples]:
    """A network that ends in a saturated Softmax, the same without it, and a batch of the first."""
    folder = tmp_path_factory.mktemp("sure")
    model = open_model(card_for(ends_in("Softmax", scale=2e3), folder, "sure", "probabilities"))
    plain = open_model(card_for(ends_in(scale=2e3), folder, "plain", "logits"))
    samples = sample_batch(model, 2)
    assert (samples.clean.scores == 1).all()
    return model, plain, samples


def log_odds(plain: FaceModel, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    logits = plain.twin(images)
    return logits.gather(1, classes[:, None])[:, 0] - logits.gather(1, 1 - classes[:, None])[:, 0]


def slope(plain: FaceModel, images: torch.Tensor, classes: torch.Tensor) -> torch.Tensor:
    pixels = images.clone().requires_grad_(True)
    return torch.autograd.grad(log_odds(plain, pixels, classes).sum(), pixels)[0]


def near(got: torch.Tensor | None, expected: torch.Tensor) -> bool:
    assert got is not None
    return torch.allclose(got, expected, rtol=1e-3, atol=1e-3 * float(expected.abs().max()))


def test_saliency_of_a_saturated_class_is_that_of_its_log_odds(sure) -> None:
    model, plain, samples = sure
    gradient = slope(plain, samples.images, samples.clean.predicted)
    assert near(Saliency().explain(model, samples).relevance, gradient.abs().amax(dim=1))
    assert near(InputXGradient().explain(model, samples).relevance, (gradient * samples.images).sum(dim=1))


def test_smoothgrad_of_a_saturated_class_keeps_one_scalar_for_all_noisy_copies(sure) -> None:
    model, plain, samples = sure
    explainer = SmoothGrad(noisy=3)
    expected = []
    for image, seed_id, label in zip(samples.images, samples.views().seed_ids, samples.clean.predicted, strict=True):
        copies = image + explainer.noise(samples, seed_id, tuple(image.shape)) * (image.max() - image.min())
        expected.append(slope(plain, copies, label.repeat(3)).mean(dim=0).abs().sum(dim=0))
    assert near(explainer.explain(model, samples).relevance, torch.stack(expected))


def test_integrated_gradients_of_a_saturated_class_sum_to_the_rise_of_its_log_odds(sure) -> None:
    model, plain, samples = sure
    maps = IntegratedGradients(steps=64).explain(model, samples)
    with torch.no_grad():
        ends = [log_odds(plain, x, samples.clean.predicted) for x in (samples.images, torch.zeros_like(samples.images))]
    rise = ends[0] - ends[1]
    assert torch.allclose(maps.relevance.sum(dim=(1, 2)), rise, rtol=1e-2)
    assert maps.note["completeness_gap"] < 0.01  # measured against the same scalar


@pytest.mark.parametrize("explainer", [Saliency(), InputXGradient()], ids=lambda e: e.method.name)
def test_equal_faces_have_empty_maps(explainer: Explainer, tmp_path: Path) -> None:
    model = open_model(tiny("cnn", "verification", tmp_path))
    one, other, third = faces(3, 32)
    samples = load_samples(model, [Pair("same", one, one, same=True), Pair("other", other, third, same=False)])
    maps = explainer.explain(model, samples)
    assert maps.similarity is not None
    assert maps.dissimilarity is not None
    both = torch.maximum(maps.similarity, maps.dissimilarity).amax(dim=(1, 2, 3))
    assert both[0] == 0
    assert both[1] > 0


class Bent(torch.nn.Module):
    """ReLU with an error."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.relu() * 1.05


@pytest.mark.parametrize("explainer", BY_TWIN, ids=repr)
def test_a_twin_that_the_faces_of_a_run_disprove_is_used_by_no_method(explainer: Explainer, tmp_path: Path) -> None:
    """The twin passes on probe images; its error shows on the run's own."""
    model = open_model(tiny("cnn", "verification", tmp_path))
    samples = pair_batch(model, 1)
    for name, module in model.twin.network.named_children():  # noqa: B007 - used after the loop
        if isinstance(module, torch.nn.ReLU):
            break
    else:
        raise AssertionError("the twin has no ReLU")
    bent = Bent()
    model.twin.network._modules[name] = bent
    with pytest.raises(NotApplicable, match=r"differ.*, on images of this run"):
        explainer.explain(model, samples)


def test_a_twin_that_is_first_asked_for_without_gradients_is_the_same(tmp_path: Path) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path))
    with torch.no_grad():
        assert model.twin is not None
    samples = sample_batch(model, 2)
    (tmp_path / "other").mkdir()
    other = open_model(tiny("cnn", "pad", tmp_path / "other"))
    assert near(
        Saliency().explain(model, samples).relevance, Saliency().explain(other, sample_batch(other, 2)).relevance
    )
