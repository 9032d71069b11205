"""The gates: against networks that are cut or randomised by hand in torch, and known answers for toy explainers."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from faithface.applicability import metric_applies
from faithface.contract import Explainer, FaceModel, Maps, Method, Samples
from faithface.errors import NotApplicable
from faithface.metrics.gates import METRICS, Completeness, Disconnected, OwnClass, RandomisedNetwork
from faithface.metrics.gates.windows import dilated, quarters, windowed
from faithface.model import open_model
from faithface.reasons import ReasonCode
from faithface_plugins.explainers.gradients import IntegratedGradients, Saliency
from tests.metrics.made import codes
from tests.metrics.toy_explainers import Brightness, Constant, Gradient, Noise, Precomputed
from tests.reference.map_similarity import slow_spearman
from tests.reference.randomisation import class_gradient, cosine_gradient, randomise_top
from tests.support.networks import build, pair_batch, sample_batch, tiny

SIZE = 16


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=SIZE))
    return model, sample_batch(model, 2)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "verification", tmp_path_factory.mktemp("m"), size=SIZE))
    return model, pair_batch(model, 2)


def opening(box: tuple[int, int, int, int]) -> np.ndarray:
    """1 in the window, 0 outside."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[box[0] : box[1], box[2] : box[3]] = 1
    return mask


class Cut(nn.Module):
    """A torch network behind a window: outside it sees mid-grey, which is 0 after (pixel − 0.5) / 0.5."""

    def __init__(self, net: nn.Module, mask: np.ndarray) -> None:
        super().__init__()
        self.net, self.mask = net, torch.from_numpy(mask)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.net(x * self.mask)  # type: ignore[no-any-return]


def slow_share(relevance: np.ndarray, box: tuple[int, int, int, int]) -> float:
    """(m − A) / (1 − A), pixel by pixel."""
    inside = area = total = 0.0
    for y in range(SIZE):
        for x in range(SIZE):
            dy = max(box[0] - y, 0, y - (box[1] - 1))
            dx = max(box[2] - x, 0, x - (box[3] - 1))
            close = max(dy, dx) <= 0.08 * SIZE
            total += abs(float(relevance[y, x]))
            inside += abs(float(relevance[y, x])) * close
            area += close / SIZE**2
    return (inside / total - area) / (1 - area)


# --- disconnected


def test_the_window_is_in_the_graph_and_what_lies_outside_cannot_matter(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    for box in quarters((SIZE, SIZE)):
        net, mask = windowed(model, box), torch.from_numpy(opening(box))
        expected = Cut(build("cnn", 2, SIZE), mask.numpy())((samples.images - 0.5) / 0.5)
        torch.testing.assert_close(net.outputs(samples.images), expected.detach(), atol=1e-5, rtol=1e-5)
        other = torch.where(mask > 0, samples.images, 1 - samples.images)
        assert torch.equal(net.outputs(other), net.outputs(samples.images))
        assert not torch.equal(net.outputs(1 - samples.images), net.outputs(samples.images))
    assert windowed(model, quarters((SIZE, SIZE))[0]) is windowed(model, quarters((SIZE, SIZE))[0])


@pytest.mark.parametrize("kind", ["grey", "fixed-batch", "vit", "arcface"])
def test_every_kind_of_network_can_be_cut(kind: str, tmp_path: Path) -> None:
    model = open_model(tiny(kind, "pad", tmp_path, size=SIZE))
    samples = sample_batch(model, 2)
    net, mask = windowed(model, (0, 8, 8, 16)), torch.from_numpy(opening((0, 8, 8, 16)))
    grey = torch.where(mask > 0, samples.images, torch.full_like(samples.images, 0.5))
    torch.testing.assert_close(net.outputs(samples.images), model.outputs(grey), atol=1e-5, rtol=1e-5)
    twin = net.twin
    with torch.no_grad():
        torch.testing.assert_close(twin(samples.images), net.outputs(samples.images), atol=1e-4, rtol=1e-4)


def test_disconnected_equals_gradients_of_networks_cut_by_hand(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    wide = Smeared()
    got = Disconnected().score(model, samples, wide.explain(model, samples), wide)
    for i in range(2):
        image, chosen = samples.images[i].numpy(), int(samples.clean.predicted[i])
        each = []
        for box in quarters((SIZE, SIZE)):
            gradient = class_gradient(Cut(build("cnn", 2, SIZE), opening(box)), image, chosen)
            each.append(slow_share(np.abs(gradient) + np.abs(gradient).mean(), box))
        assert got.values[""][i] == pytest.approx(np.mean(each), abs=1e-5)
        assert got.values["worst"][i] == pytest.approx(min(each), abs=1e-5)


def test_disconnected_on_pairs_cuts_both_faces(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    wide = Smeared()
    got = Disconnected().score(model, samples, wide.explain(model, samples), wide)
    a, b = samples.images[0].numpy()
    each = []
    for box in quarters((SIZE, SIZE)):
        gradient = cosine_gradient(Cut(build("cnn", 16, SIZE), opening(box)), a, b)
        each.append(slow_share(np.abs(gradient) + np.abs(gradient).mean(), box))
    assert got.values[""][0] == pytest.approx(np.mean(each), abs=1e-5)


def test_a_gradient_stays_inside_and_maps_that_never_ask_do_not(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    metric, bar = Disconnected(), Disconnected.protocol.bar
    assert bar is not None
    for explainer, inside in ((Gradient(), True), (Saliency(), True), (Brightness(), False), (Noise(), False)):
        value = metric.score(model, samples, explainer.explain(model, samples), explainer).values[""]
        assert np.allclose(value, 1.0) if inside else (value < bar).all()
    even = metric.score(model, samples, Constant().explain(model, samples), Constant()).values[""]
    np.testing.assert_allclose(even, 0.0, atol=1e-12)


def test_a_map_without_mass_is_flagged_and_one_that_is_not_finite_has_no_value(
    pad: tuple[FaceModel, Samples],
) -> None:
    model, samples = pad
    got = Disconnected().score(model, samples, Filled(0.0).explain(model, samples), Filled(0.0))
    assert got.values[""].tolist() == [0.0, 0.0]
    assert codes(got.flags) == dict.fromkeys((0, 1), ReasonCode.CONSTANT_MAP)
    bad = Disconnected().score(model, samples, Filled(np.nan).explain(model, samples), Filled(np.nan))
    assert np.isnan(bad.values[""]).all()
    assert codes(bad.reasons) == dict.fromkeys((0, 1), ReasonCode.NON_FINITE_MAP)


def test_quarters_of_odd_sides_cover_the_image_once() -> None:
    covered = np.zeros((7, 5), int)
    for top, bottom, left, right in quarters((7, 5)):
        covered[top:bottom, left:right] += 1
    assert (covered == 1).all()
    assert dilated((0, 3, 0, 2), (7, 5), 1).sum() == 4 * 3


# --- randomised network


def test_randomised_network_equals_torchs_network_randomised_by_hand(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = RandomisedNetwork().score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(2):
        image, chosen = samples.images[i].numpy(), int(samples.clean.predicted[i])
        clean = class_gradient(build("cnn", 2, SIZE), image, chosen)
        again = class_gradient(randomise_top(build("cnn", 2, SIZE), 4, 0), image, chosen)
        # Float gradients of two frameworks rank nearly equal pixels differently.
        assert got.values["signed"][i] == pytest.approx(slow_spearman(clean, again), abs=1e-4)
        assert got.values[""][i] == abs(got.values["signed"][i])


def test_maps_that_never_ask_the_network_fail(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    bar = RandomisedNetwork.protocol.bar
    for explainer, value in ((Brightness(), 1.0), (Constant(), 1.0), (Noise(), 1.0)):
        got = RandomisedNetwork().score(model, samples, explainer.explain(model, samples), explainer)
        np.testing.assert_allclose(got.values[""], value, atol=1e-9)
    own = RandomisedNetwork().score(model, samples, Gradient().explain(model, samples), Gradient()).values[""]
    assert bar is not None
    assert (own < bar).all()


# --- own class


def test_own_class_is_the_rank_correlation_with_the_other_class_s_map(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = OwnClass().score(model, samples, Gradient().explain(model, samples), Gradient())
    for i in range(2):
        image, chosen = samples.images[i].numpy(), int(samples.clean.predicted[i])
        one, other = (class_gradient(build("cnn", 2, SIZE), image, c) for c in (chosen, 1 - chosen))
        assert got.values[""][i] == pytest.approx(slow_spearman(one, other), abs=1e-4)
    blind = OwnClass().score(model, samples, Brightness().explain(model, samples), Brightness()).values[""]
    np.testing.assert_allclose(blind, 1.0)


def test_own_class_on_pairs_compares_the_two_maps_and_explains_nothing(faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    maps = Gradient().explain(model, samples)
    got = OwnClass().score(model, samples, maps, Precomputed())
    for i in range(len(samples)):
        named = {kind: values[i, 0].numpy() for kind, values in maps.named().items()}
        expected = slow_spearman(named["similarity"], named["dissimilarity"])
        assert got.values[""][i] == pytest.approx(expected, abs=1e-6)


def test_own_class_is_not_for_many_classes(pad: tuple[FaceModel, Samples]) -> None:
    card = pad[0].card
    many = card.model_copy(update={"output": card.output.model_copy(update={"classes": ("a", "b", "c")})})
    with pytest.raises(NotApplicable, match="3 classes"):
        OwnClass().check(many, pad[1].dataset)  # type: ignore[arg-type]


# --- completeness


@dataclass(frozen=True)
class Promising(Explainer):
    """Promises a sum of ``promised``; its map of a classifier sums to 2."""

    promised: float = 2.0

    method = Method(name="toy-promising", promises=frozenset({"completeness"}))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        shape = samples.images.shape[-2:]
        return Maps(relevance=torch.full((len(samples), *shape), 2 / (shape[0] * shape[1])))

    def promised_sum(self, model: FaceModel, samples: Samples) -> torch.Tensor:
        return torch.full((len(samples),), self.promised)


@pytest.mark.parametrize(("promised", "value"), [(2.0, 0.0), (4.0, 0.5), (-2.0, 2.0), (1.0, 1.0)])
def test_completeness_of_a_known_sum(pad: tuple[FaceModel, Samples], promised: float, value: float) -> None:
    model, samples = pad
    explainer = Promising(promised)
    got = Completeness().score(model, samples, explainer.explain(model, samples), explainer)
    np.testing.assert_allclose(got.values[""], value, atol=1e-6)


def slow_rise(net: nn.Module, samples: Samples, i: int) -> float:
    """What integrated gradients from black promise: the explained scalar of the image minus that of black.

    It is the logit of the predicted class, or the cosine to the reference's embedding.
    """

    def scalar(image: np.ndarray) -> float:
        def outputs(one: np.ndarray) -> list[float]:
            prepared = (torch.from_numpy(one)[None] - 0.5) / 0.5  # as the card of the tiny networks says
            return [float(v) for v in net(prepared)[0].detach().double()]

        if not samples.are_pairs:
            return outputs(image)[int(samples.clean.predicted[i])]
        a, b = outputs(image), outputs(samples.images[i, 1].numpy())
        dot, aa, bb = (math.fsum(p * q for p, q in zip(u, v, strict=True)) for u, v in ((a, b), (a, a), (b, b)))
        return dot / math.sqrt(aa * bb)

    image = (samples.images[i, 0] if samples.are_pairs else samples.images[i]).numpy()
    return scalar(image) - scalar(np.zeros_like(image))


@pytest.mark.parametrize("which", ["pad", "faces"])
def test_completeness_is_the_error_of_the_sum_over_the_rise(which: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(which)
    net = build("cnn", 2 if which == "pad" else 16, SIZE)
    explainer = IntegratedGradients(steps=2)
    maps = explainer.explain(model, samples)
    got = Completeness().score(model, samples, maps, explainer).values[""]
    named = {kind: values.double().numpy() for kind, values in maps.named().items()}
    for i in range(len(samples)):
        if which == "pad":
            total = math.fsum(named["relevance"][i].ravel())
        else:
            total = math.fsum(named["similarity"][i, 0].ravel()) - math.fsum(named["dissimilarity"][i, 0].ravel())
        rise = slow_rise(net, samples, i)
        assert got[i] == pytest.approx(abs(total - rise) / abs(rise), rel=1e-3, abs=1e-4)
    assert (got > 1e-3).all()  # two points leave an error, so that the comparison says something


def test_completeness_of_a_rise_of_0_is_undefined(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    got = Completeness().score(model, samples, Promising(0.0).explain(model, samples), Promising(0.0))
    assert np.isnan(got.values[""]).all()
    assert codes(got.reasons) == dict.fromkeys((0, 1), ReasonCode.UNDEFINED)


@pytest.mark.parametrize("which", ["pad", "faces"])
def test_integrated_gradients_keep_their_promise_with_more_steps(which: str, request: pytest.FixtureRequest) -> None:
    model, samples = request.getfixturevalue(which)
    found = []
    for steps in (2, 200):
        explainer = IntegratedGradients(steps=steps)
        maps = explainer.explain(model, samples)
        got = Completeness().score(model, samples, maps, explainer).values[""]
        if which == "pad":
            # The note's gap is of the same sum: its mean over the batch.
            assert got.mean() == pytest.approx(maps.note["completeness_gap"], rel=1e-3)
        found.append(got.mean())
    assert found[1] < 0.02
    assert found[1] < found[0]


def test_completeness_is_for_methods_that_promise_it(pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    with pytest.raises(NotApplicable, match="promise"):
        Completeness().check(model.card, samples.dataset, Saliency())  # type: ignore[arg-type]
    absolute = IntegratedGradients(steps=2, channels="sum-of-abs")
    with pytest.raises(NotApplicable, match="promises"):
        Completeness().score(model, samples, absolute.explain(model, samples), absolute)


# --- all


def test_gates_are_gates_with_a_bar_inside_their_range(pad: tuple[FaceModel, Samples]) -> None:
    for metric in METRICS:
        low, high = metric.range_on()
        assert metric.protocol.family == "gate"
        assert metric.protocol.bar is not None
        assert low < metric.protocol.bar < high
    with pytest.raises(TypeError, match="a gate has a bar"):
        dataclasses.replace(Disconnected.protocol, bar=None)
    assert metric_applies(pad[0].card, Nothing, Precomputed(), Disconnected()) is not None  # type: ignore[arg-type]


@pytest.mark.parametrize("metric", [Disconnected(), RandomisedNetwork(), OwnClass()], ids=lambda m: m.id)
def test_batches_make_no_difference(metric: object, pad: tuple[FaceModel, Samples]) -> None:
    model, samples = pad
    whole = metric.score(model, samples, Gradient().explain(model, samples), Gradient()).values[""]  # type: ignore[attr-defined]
    for i in range(2):
        one = samples.take([i])
        alone = metric.score(model, one, Gradient().explain(model, one), Gradient()).values[""]  # type: ignore[attr-defined]
        assert alone[0] == pytest.approx(whole[i], abs=1e-5)


class Nothing:
    """A dataset without anything."""

    @staticmethod
    def truths() -> frozenset[str]:
        return frozenset()


@dataclass(frozen=True)
class Smeared(Explainer):
    """The size of the gradient plus its mean over the image: a part of it lies everywhere."""

    method = Method(name="toy-smeared", needs=frozenset({"gradients"}))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        size = model.gradient(views.images, views.target).sum(dim=1).abs()
        maps = size + size.mean(dim=(1, 2), keepdim=True)
        if not samples.are_pairs:
            return Maps(relevance=maps)
        both = maps.unflatten(0, (len(samples), 2))
        return Maps(similarity=both, dissimilarity=both.clone())


@dataclass(frozen=True)
class Filled(Explainer):
    """One number at every pixel."""

    value: float = 0.0

    method = Method(name="toy-filled")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return Maps(relevance=torch.full((len(samples), *samples.images.shape[-2:]), self.value))
