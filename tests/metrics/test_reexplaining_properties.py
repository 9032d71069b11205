"""What all metrics that explain again promise, whatever an explainer does: range, flags, refusal, one batch or many."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.contract import Explainer, FaceModel, Maps, Method, Metric, Samples
from faithface.loading import load_samples
from faithface.metrics.degradation import Degradation
from faithface.metrics.geometry import Geometry
from faithface.metrics.inpainting_game import InpaintingGame
from faithface.metrics.max_sensitivity import MaxSensitivity
from faithface.metrics.noise_stability import NoiseStability
from faithface.metrics.patch_replacement import PatchReplacement
from faithface.metrics.randomisation import Randomisation
from faithface.model import open_model
from tests.metrics.toy_pairs import ToyPairs
from tests.support.networks import sample_batch, tiny

CLASSIFIERS: tuple[Metric, ...] = (NoiseStability(), Geometry(), MaxSensitivity(draws=2), Degradation())
PAIRS: tuple[Metric, ...] = (*CLASSIFIERS, Randomisation(steps=2), PatchReplacement(), InpaintingGame(points=9))
KINDS = ("uniform", "signed", "ties", "one-hot", "constant", "minute", "huge")


@dataclass(frozen=True)
class Arbitrary(Explainer):
    """A map of some kind, drawn from the pixels and a seed: another image, another map."""

    kind: str
    seed: int
    method = Method(
        name="toy-arbitrary",
    )

    def one(self, face: torch.Tensor) -> torch.Tensor:
        digest = hashlib.blake2b(face.numpy().tobytes() + bytes([self.seed]), digest_size=8).digest()
        rng = np.random.default_rng(int.from_bytes(digest, "little"))
        values = rng.random(face.shape[1:])
        made = {
            "uniform": values,
            "signed": values - 0.5,
            "ties": np.floor(values * 3),
            "one-hot": (values == values.max()).astype(float),
            "constant": np.full_like(values, np.floor(values[0, 0] * 2)),
            "minute": values * 1e-30,
            "huge": values * 1e30,
        }[self.kind]
        return torch.from_numpy(made.astype(np.float32))

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        faces = samples.images.flatten(0, 1) if samples.are_pairs else samples.images
        signed = torch.stack([self.one(face) for face in faces])
        return Maps.from_views(signed, samples)


@pytest.fixture(scope="module")
def pad(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("m"), size=8))
    return model, sample_batch(model, 2)


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> tuple[FaceModel, Samples]:
    model = open_model(tiny("linear", "verification", tmp_path_factory.mktemp("m"), size=8))
    dataset = ToyPairs(n=4, size=8)
    return model, load_samples(model, dataset.items(), threshold=0.85, dataset=dataset)


def check_range(metric: Metric, model: FaceModel, samples: Samples, explainer: Explainer) -> None:
    samples = samples.take(samples.where(metric.judged_on))
    got = metric.score(model, samples, explainer.explain(model, samples), explainer)
    assert set(got.values) == set(metric.protocol.value_names)
    headline = got.values[""]
    assert headline.shape == (len(samples),)
    assert headline.dtype == np.float64
    low, high = metric.range_on()
    known = headline[np.isfinite(headline)]
    assert ((known >= low - 1e-9) & (known <= high + 1e-9)).all()
    missing = {i for values in got.values.values() for i in np.flatnonzero(np.isnan(values))}
    assert missing <= set(got.reasons)


@settings(max_examples=12, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 255))
def test_on_classifiers_every_value_is_in_range_or_missing_with_a_reason(
    kind: str, seed: int, pad: tuple[FaceModel, Samples]
) -> None:
    for metric in CLASSIFIERS:
        check_range(metric, *pad, Arbitrary(kind, seed))


@settings(max_examples=8, deadline=None)
@given(kind=st.sampled_from(KINDS), seed=st.integers(0, 255))
def test_on_pairs_every_value_is_in_range_or_missing_with_a_reason(
    kind: str, seed: int, faces: tuple[FaceModel, Samples]
) -> None:
    for metric in PAIRS:
        check_range(metric, *faces, Arbitrary(kind, seed))


@pytest.mark.parametrize("metric", PAIRS, ids=lambda m: m.id)
def test_samples_one_by_one_score_as_in_a_batch(metric: Metric, faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    samples = samples.take(samples.where(metric.judged_on))
    explainer = Arbitrary("uniform", 1)
    maps = explainer.explain(model, samples)
    whole = metric.score(model, samples, maps, explainer)
    for i in range(len(samples)):
        alone = metric.score(model, samples.take([i]), maps.take([i]), explainer)
        for name in metric.protocol.value_names:
            np.testing.assert_allclose(alone.values[name][0], whole.values[name][i], atol=1e-5)


@pytest.mark.parametrize("metric", PAIRS, ids=lambda m: m.id)
def test_scoring_changes_neither_the_images_nor_the_maps(metric: Metric, faces: tuple[FaceModel, Samples]) -> None:
    model, samples = faces
    samples = samples.take(samples.where(metric.judged_on))
    explainer = Arbitrary("signed", 2)
    maps = explainer.explain(model, samples)
    before = [t.clone() for t in (samples.images, samples.clean.outputs, maps.similarity, maps.dissimilarity)]
    metric.score(model, samples, maps, explainer)
    after = (samples.images, samples.clean.outputs, maps.similarity, maps.dissimilarity)
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))
