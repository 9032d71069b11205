"""Curve metrics where the answer is known: a linear model, RISE's own rule, and what Quantus makes of the same map."""

import itertools

import numpy as np
import pytest
import torch

from faithface import perturb
from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Clean, FaceModel, Maps, Samples
from faithface.metrics.curves import Deletion
from faithface.model import open_model
from tests.perturb.sets import class_set, load
from tests.reference import curves as reference
from tests.support.networks import build, tiny


class Sum(FaceModel):
    """The probability of class 1 is 0.5 + Σ weights · pixels: deletion by black has a closed form."""

    def __init__(self, weights):
        size = weights.shape
        self.weights, self.device = weights, "cpu"
        self.card = ModelCard(
            name="sum",
            task="pad",
            file="none.onnx",
            input=InputCard(size=size),
            output=OutputCard(kind="probabilities", classes=("a", "b")),
        )

    def outputs(self, images):
        p = 0.5 + (images.mean(dim=1) * self.weights).sum(dim=(1, 2))
        return torch.stack([1 - p, p], dim=1)

    scores = embeddings = gradient = vjp = activations = twin = None


Sum.__abstractmethods__ = frozenset()


def white(model):
    size = model.size
    images = torch.ones(1, 3, *size)
    out = model.outputs(images)
    return Samples(class_set(1).samples[:1], images, Clean(out, out[:, 1], torch.tensor([1])))


def deletion(model, relevance, points):
    samples = white(model)
    maps = Maps(relevance=relevance[None].float())
    return float(Deletion(fill="black", points=points).score(model, samples, maps).values[""][0])


def test_on_a_linear_model_the_weights_are_the_best_map_of_all_orders_and_their_inverse_the_worst():
    weights = torch.tensor([[0.05, 0.02, -0.01], [0.04, 0.0, 0.03], [-0.03, 0.01, 0.06]])
    model = Sum(weights)
    best, worst = deletion(model, weights, 10), deletion(model, -weights, 10)
    # The area needs only the sums of prefixes: 9! orders by brute force without the network.
    values = weights.ravel().tolist()
    areas = set()
    full = 0.5 + sum(values)
    low, high = np.inf, -np.inf
    for order in itertools.permutations(values):
        left, total = full, full / 2
        for v in order:
            left -= v
            total += left
        total = (total - left / 2) / 9
        low, high = min(low, total), max(high, total)
        areas.add(round(total, 9))
    assert len(areas) > 100
    assert best == pytest.approx(low, abs=1e-6)
    assert worst == pytest.approx(high, abs=1e-6)


def test_a_one_pixel_image_has_a_curve_of_two_values():
    model = Sum(torch.tensor([[0.4]]))
    samples, maps = white(model), Maps(relevance=torch.tensor([[[3.0]]]))
    got = perturb.curves(model, samples, maps, fill="black", points=5).scores
    # round(0.5 · 1) is 0 (halves to even), so the pixel goes after the middle; insertion complements it.
    np.testing.assert_allclose(got["deletion"][0], [0.9, 0.9, 0.9, 0.5, 0.5], atol=1e-6)
    np.testing.assert_allclose(got["insertion"][0], [0.5, 0.5, 0.9, 0.9, 0.9], atol=1e-6)


def rise_deletion(net, card, image, relevance, step, target):
    """RISE's evaluation as its repository runs it: normalised tensor, zeros, argsort reversed, both ends kept."""
    normalised = (image - card.mean[0]) / card.std[0]
    order = np.flip(np.argsort(relevance.ravel(), kind="stable"))
    scores = []
    current = normalised.clone().reshape(1, 3, -1)
    for i in range((order.size + step - 1) // step + 1):
        with torch.no_grad():
            scores.append(float(net(current.reshape(1, *image.shape)).softmax(1)[0, target]))
        current[0, :, order[step * i : step * (i + 1)].copy()] = 0
    return np.array(scores)


def test_deletion_with_rises_settings_equals_rises_rule(tmp_path):
    card = tiny("cnn", "pad", tmp_path, size=20)
    card = card.model_copy(update={"input": InputCard(size=(20, 20), mean=(0.0,), std=(0.5,))})
    model = open_model(card)
    samples = load(model, class_set(2, 20))
    relevance = torch.from_numpy(np.random.default_rng(0).random((2, 20, 20), dtype=np.float32))
    # With mean 0, RISE's zeros in normalised space are black pixels; 20 pixels a step on 400 are 21 points.
    got = Deletion(fill="black", points=21).score(model, samples, Maps(relevance=relevance))
    net = build("cnn", 2, 20)
    for i in range(2):
        target = int(samples.clean.predicted[i])
        scores = rise_deletion(net, card.input, samples.images[i], relevance[i].numpy(), 20, target)
        np.testing.assert_allclose(got.curves["deletion"][i], scores, atol=1e-5)
        assert got.values[""][i] == pytest.approx(reference.rise_auc(scores), abs=1e-5)
        assert reference.rise_auc(scores) == pytest.approx(reference.trapezoid(scores), abs=1e-12)


def test_quantus_pixel_flipping_reads_another_number_from_the_same_map_for_four_known_reasons(tmp_path):
    from faithface.model._torchvision import import_onnx2pytorch

    import_onnx2pytorch()
    if not hasattr(np, "trapz"):
        setattr(np, "trapz", np.trapezoid)  # noqa: B010 - Quantus 0.6 still asks for the old name
    quantus = pytest.importorskip("quantus")
    size, target = 12, 1
    card = tiny("cnn", "pad", tmp_path, size=size)
    net = build("cnn", 2, size)
    image = class_set(1, size).samples[0].face.read().transpose(2, 0, 1)
    normalised = ((image - 0.5) / 0.5).astype(np.float32)
    relevance = np.random.default_rng(1).random((size, size)).astype(np.float32)
    step = 3 * size * size // 9

    def flip(**more):
        metric = quantus.PixelFlipping(features_in_step=step, disable_warnings=True, **more)
        return metric(net, normalised[None], np.array([target]), relevance[None, None], softmax=True, device="cpu")[0]

    # 1. features are the C·H·W values, the map broadcast over channels; 2. "black" is the image's own minimum;
    # 3. the clean image is not a point of the curve.
    order = np.argsort(
        -np.broadcast_to(relevance / np.abs(relevance).max(), (1, 3, size, size)).reshape(1, -1), axis=1
    )[0]
    values, scores = normalised.reshape(-1).copy(), []
    for i in range(9):
        values[order[i * step : (i + 1) * step]] = normalised.min()
        with torch.no_grad():
            scores.append(float(net(torch.from_numpy(values.reshape(1, 3, size, size))).softmax(1)[0, target]))
    np.testing.assert_allclose(flip(), scores, atol=1e-5)
    # 4. its area is a sum of trapezoids of width 1: (n − 1) times the mean height, not the mean height.
    its_area = flip(return_auc_per_sample=True)
    assert its_area == pytest.approx(reference.trapezoid(np.array(scores)) * (len(scores) - 1), abs=1e-5)
    samples = load(open_model(card), class_set(1, size))
    ours = Deletion(fill="black", points=10).score(
        open_model(card), samples, Maps(relevance=torch.from_numpy(relevance)[None])
    )
    assert abs(its_area - float(ours.values[""][0])) > 1
