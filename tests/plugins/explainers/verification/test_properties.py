"""What holds for all verification explainers: roles, batches, seeds, degenerate input, clear errors, known answers."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import Activations, Cache, Clean, Explainer, Face, FaceModel, Pair, Samples
from faithface.errors import NotApplicable, UsageError
from faithface.specs import configure, parse_spec
from faithface.tasks import Target, pair_similarity
from faithface_plugins.explainers.corrrise import CorrRise, pixel_correlation, square_masks
from faithface_plugins.explainers.fame import Fame
from faithface_plugins.explainers.fggb import Fggb
from faithface_plugins.explainers.minplus import MinPlus
from faithface_plugins.explainers.verification import EXPLAINERS
from faithface_plugins.explainers.xface import XFace
from faithface_plugins.explainers.xssab import Xssab

SMALL: dict[str, Explainer] = {
    "fggb": Fggb(),
    "fggb-signed": Fggb(reading="signed", embedding="raw"),
    "fggb-shared": Fggb(reading="signed", norms="shared"),
    "fggb-adaptive": Fggb(channels="adaptive"),
    "corrrise": CorrRise(masks=20),
    "xssab": Xssab(),
    "xface": XFace(sizes=("28",), stride=28),
    "minplus": MinPlus(step=56, steps=2),
    "fame": Fame(steps=3),
}
every = pytest.mark.parametrize("name", SMALL)


class Formula(FaceModel):
    """A verification model that is a differentiable function of pixels, for answers that are known in closed form."""

    def __init__(self, network: Callable[[Tensor], Tensor], size: int = 28, similarity: Any = "cosine") -> None:
        self.network, self.device = network, "cpu"
        output = OutputCard(kind="embedding", similarity=similarity)
        self.card = ModelCard(
            name="formula", task="verification", file="none", input=InputCard(size=(size, size)), output=output
        )

    def outputs(self, images: Tensor) -> Tensor:
        return self.network(images).detach()

    embeddings = outputs

    def scores(self, images: Tensor) -> Tensor:
        raise NotApplicable("embeddings only")

    def gradient(self, images: Tensor, target: Target) -> Tensor:
        pixels = images.clone().requires_grad_(True)
        return torch.autograd.grad(target.score(self.card, self.network(pixels)).sum(), pixels)[0]

    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        pixels = images.clone().requires_grad_(True)
        outputs = self.network(pixels)
        each = [torch.autograd.grad(outputs, pixels, c, retain_graph=True)[0] for c in cotangents.unbind(1)]
        return torch.stack(each, dim=1)

    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        raise NotApplicable("no layers")

    @property
    def twin(self) -> torch.nn.Module:
        module = torch.nn.Module()
        module.forward = self.network
        return module


def pairs_of(model: FaceModel, a: Tensor, b: Tensor, threshold: float | None = 0.5) -> Samples:
    """Return one pair of given images, 3×H×W each."""
    images = torch.stack([a, b])[None]
    outputs = model.embeddings(images[0])[None]
    scores = pair_similarity(model.card, outputs[:, 0], outputs[:, 1])
    faces = [Face(name, lambda: np.zeros((1, 1, 3), np.float32)) for name in "ab"]
    pair = Pair("a--b", faces[0], faces[1], same=True)
    return Samples((pair,), images, Clean(outputs, scores, (scores >= 0.5).long(), threshold))


def test_all_six_are_registered_for_pairs_only() -> None:
    assert [e.name for e in EXPLAINERS] == ["fggb", "corrrise", "xssab", "xface", "minplus", "fame"]
    assert all(e.info.tasks == {"verification"} for e in EXPLAINERS)


@pytest.mark.parametrize(
    "spec",
    [
        "fggb(reading=signed,embedding=raw,smoothing=0,threshold=0.3)",
        "fggb(norms=shared,reading=signed)",
        "fggb(norms=sketch,probes=16,reading=signed)",
        "fggb(channels=adaptive,tolerance=0.02)",
        "corrrise(masks=10,squares=2,side=12,correlation=pearson,fill=mean)",
        "xssab(maps=difference)",
        "xface(variant=3,sizes=7+14)",
        "minplus(form=s-)",
        "minplus(form=s+)",
        "fame(steps=9)",
    ],
)
def test_parameters_can_be_typed(spec: str) -> None:
    parsed = parse_spec(spec)
    default = next(e for e in EXPLAINERS if e.name == parsed.name)
    assert configure(default, parsed.params, parsed.name) != default


@pytest.mark.parametrize(
    "spec",
    [
        "fggb(smoothing=-1)",
        "fggb(reading=median)",
        "fggb(norms=shared)",
        "fggb(norms=sketch)",
        "fggb(norms=sketch,reading=signed,probes=0)",
        "fggb(channels=adaptive,reading=signed)",
        "fggb(channels=adaptive,tolerance=-0.1)",
        "fggb(channels=adaptive,tolerance=1)",
        "corrrise(masks=1)",
        "corrrise(squares=0)",
        "corrrise(side=113)",
        "xface(variant=4)",
        "xface(sizes=0)",
        "xface(stride=0)",
        "minplus(form=s2)",
        "minplus(width=0)",
        "minplus(steps=0)",
        "fame(steps=0)",
    ],
)
def test_a_parameter_out_of_range_is_a_usage_error(spec: str) -> None:
    parsed = parse_spec(spec)
    default = next(e for e in EXPLAINERS if e.name == parsed.name)
    with pytest.raises(UsageError, match="expected"):
        configure(default, parsed.params, parsed.name)


@every
def test_maps_have_the_contracts_form_and_repeat_exactly(opened: Callable[..., Any], name: str) -> None:
    model, samples = opened("cnn", "verification")
    before = samples.images.clone()
    first, second = SMALL[name].explain(model, samples), SMALL[name].explain(model, samples)
    assert torch.equal(samples.images, before)
    for key in ("similarity", "dissimilarity"):
        values = getattr(first, key)
        assert values.shape == (3, 2, 32, 32)
        assert values.dtype == torch.float32
        assert bool(torch.isfinite(values).all())
        assert float(values.min()) >= 0
        assert torch.equal(values, getattr(second, key))


@pytest.mark.parametrize("kind", ["cnn", "arcface", "depthwise", "vit", "fixed-batch", "grey"])
@every
def test_the_batch_changes_nothing(opened: Callable[..., Any], name: str, kind: str) -> None:
    model, samples = opened(kind, "verification")
    together = SMALL[name].explain(model, samples)
    for i in range(len(samples)):
        alone = SMALL[name].explain(model, samples.take([i]))
        for key in ("similarity", "dissimilarity"):
            expected = getattr(together, key)[i]
            assert torch.allclose(getattr(alone, key)[0], expected, rtol=0, atol=1e-4 * float(expected.max()) + 1e-9)


@every
def test_swapping_the_roles_swaps_the_maps(opened: Callable[..., Any], name: str) -> None:
    model, samples = opened("cnn", "verification")
    swapped = replace(samples, images=samples.images.flip(1), cache=Cache())
    swapped = replace(swapped, clean=replace(samples.clean, outputs=samples.clean.outputs.flip(1)))
    maps, back = SMALL[name].explain(model, samples), SMALL[name].explain(model, swapped)
    for key in ("similarity", "dissimilarity"):
        expected = getattr(maps, key)
        assert torch.allclose(getattr(back, key).flip(1), expected, rtol=0, atol=1e-5 * float(expected.max()))


@every
def test_a_face_in_two_pairs_costs_and_looks_the_same_as_alone(opened: Callable[..., Any], name: str) -> None:
    model, samples = opened("cnn", "verification")
    twice = replace(samples.take([0, 1, 1]), cache=Cache())

    def cost(batch: Samples) -> tuple[int, int]:
        before = model.passes.forward, model.passes.backward
        SMALL[name].explain(model, batch)
        return model.passes.forward - before[0], model.passes.backward - before[1]

    once, first = cost(samples.take([1])), cost(samples.take([0]))
    assert cost(twice) == tuple(a + 2 * b for a, b in zip(first, once, strict=True))
    maps = SMALL[name].explain(model, twice)
    assert torch.allclose(maps.similarity[1], maps.similarity[2], rtol=0, atol=1e-6 * float(maps.similarity.max()))


@every
@pytest.mark.parametrize("case", ["black", "white", "identical", "norm 0"])
def test_degenerate_pairs_give_finite_maps(opened: Callable[..., Any], name: str, case: str) -> None:
    model, samples = opened("cnn", "verification")
    a, b = samples.images[0]
    if case == "norm 0":
        model = Formula(lambda x: 0 * x.flatten(1)[:, :8], size=32)
    plain = {"black": torch.zeros_like(a), "white": torch.ones_like(a)}
    batch = pairs_of(model, plain.get(case, a), a if case == "identical" else b)
    maps = SMALL[name].explain(model, batch)
    assert all(bool(torch.isfinite(values).all()) for values in maps.named().values())


def test_fame_does_not_turn_the_rounding_noise_of_identical_images_into_a_map(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn", "verification")
    a = samples.images[0, 0]
    maps = Fame(steps=3).explain(model, pairs_of(model, a, a))
    assert float(maps.similarity.max()) == float(maps.dissimilarity.max()) == 0


@pytest.mark.parametrize("name", ["fggb", "xssab"])
def test_no_threshold_is_one_clear_error_and_the_parameter_mends_it(opened: Callable[..., Any], name: str) -> None:
    model, samples = opened("cnn", "verification")
    samples = replace(samples, clean=replace(samples.clean, threshold=None))
    with pytest.raises(NotApplicable, match=r"threshold=0\.3"):
        SMALL[name].explain(model, samples)
    assert replace(SMALL[name], threshold=0.3).explain(model, samples).note["threshold"] == 0.3  # type: ignore[type-var]


@every
def test_a_distance_model_is_explained_or_refused_in_one_line(name: str) -> None:
    model = Formula(lambda x: x.mean(dim=(2, 3)) ** 2 + 0.1, similarity="euclidean")
    generator = torch.Generator().manual_seed(0)
    samples = pairs_of(model, *torch.rand(2, 3, 28, 28, generator=generator), threshold=-0.6)
    if name in ("corrrise", "minplus"):
        assert float(SMALL[name].explain(model, samples).similarity.max()) > 0
    else:
        with pytest.raises(NotApplicable, match="cosine"):
            SMALL[name].explain(model, samples)


@every
def test_single_images_are_refused(opened: Callable[..., Any], name: str) -> None:
    model, samples = opened("cnn", "pad")
    with pytest.raises(NotApplicable, match="pairs"):
        SMALL[name].explain(model, samples)


@pytest.mark.parametrize(
    "explainer",
    [
        Fggb(smoothing=0, embedding="raw"),
        CorrRise(masks=200),
        XFace(variant=2, sizes=("14", "28")),
        MinPlus(form="s0"),
        MinPlus(form="s-"),
    ],
    ids=lambda e: f"{e.name}-{getattr(e, 'form', '')}{getattr(e, 'embedding', '')}",
)
def test_where_the_faces_agree_is_similar_and_where_they_differ_is_dissimilar(explainer: Explainer) -> None:
    # The embedding is the brightness of the sixteen cells of a 4×4 grid. Both faces are bright in one cell of the
    # second row; the probe alone is bright in one of the third. (Not for gradients of the normalised embedding, which
    # have no sign in fggb and xssab, nor for fame: turning the embedding takes both cells alike.)
    model = Formula(lambda x: torch.nn.functional.avg_pool2d(x.mean(1, keepdim=True), 7).flatten(1))
    shared, differing = (slice(7, 14), slice(7, 14)), (slice(14, 21), slice(14, 21))
    a, b = torch.full((2, 3, 28, 28), 0.05)
    for image, (rows, columns) in ((a, shared), (b, shared), (a, differing)):
        image[:, rows, columns] = 0.9
    maps = explainer.explain(model, pairs_of(model, a, b, threshold=0.9))
    similar, different = maps.similarity[0, 0], maps.dissimilarity[0, 0]
    assert float(similar[shared].mean()) > 2 * float(similar[differing].mean())
    assert float(different[differing].mean()) > 2 * float(different[shared].mean())


def test_corrrise_has_one_mask_set_for_all_pairs_and_another_for_another_seed(
    opened: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from faithface_plugins.explainers import corrrise

    drawn = []
    draw = corrrise.square_masks
    monkeypatch.setattr(corrrise, "square_masks", lambda *a: drawn.append(draw(*a)) or drawn[-1])
    model, samples = opened("cnn", "verification")
    for batch in (samples.take([0]), samples.take([1]), replace(samples, seed=1)):
        CorrRise(masks=5).explain(model, batch)
    assert np.array_equal(drawn[0], drawn[1])
    assert not np.array_equal(drawn[0], drawn[2])


def test_corrrise_masks_cover_whole_squares_and_reach_every_corner() -> None:
    masks = square_masks(np.random.default_rng(0), 20_000, 1, 3, (6, 8))
    assert set(np.unique(masks)) == {0.0, 1.0}
    assert np.array_equal((1 - masks).sum(axis=(1, 2)), np.full(20_000, 9))
    covered = (1 - masks).mean(axis=0)
    assert covered.min() > 0
    # 4×6 places, each as likely; 5×7 would give 31 % less, and the standard error is 3.4 %.
    corners = covered[[0, 0, -1, -1], [0, -1, 0, -1]]
    np.testing.assert_allclose(corners, 1 / (4 * 6), rtol=0.12)


def test_corrrise_undefined_correlations_are_zero() -> None:
    masks = torch.tensor([[[1.0, 1.0]], [[1.0, 0.0]], [[1.0, 1.0]]])
    scores = torch.tensor([[0.1, 0.9, 0.2], [0.5, 0.5, 0.5]])
    for ranks in (True, False):
        correlation = pixel_correlation(masks, scores, ranks)
        assert float(correlation[0, 0, 0]) == 0
        assert float(correlation[0, 0, 1]) < -0.8
        assert torch.equal(correlation[1], torch.zeros(1, 2))
