"""A network that gives no number on an altered image: the metric fails and names the sample and the fill."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from faithface.contract import FaceModel, Maps, Samples
from faithface.errors import RunError
from faithface.metrics.average_drop import AverageDrop
from faithface.metrics.confidence_drop import ConfidenceDrop
from faithface.metrics.inpainting_game import InpaintingGame
from faithface.metrics.patch_replacement import PatchReplacement
from faithface.metrics.road import Road
from faithface.model import open_model
from faithface.perturb import curves
from faithface.perturb.finite import require_finite
from faithface.reasons import ReasonCode
from faithface.run.shard import CellWork, run_cell
from tests.metrics.toy_explainers import Gradient
from tests.metrics.toy_pairs import ToyPairs
from tests.support.graphs import Graph, card_for
from tests.support.networks import sample_batch, tiny


@pytest.fixture(scope="module")
def logarithm(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    """A classifier by the logarithm of the mean colours: not finite on a black image, and on no other."""
    g = Graph()
    light = g.op("Flatten", g.op("GlobalAveragePool", g.op("Add", g.x, g.const(1.0))))
    scores = g.op("Gemm", g.op("Log", light), g.const([[1.0, -1.0, 0.5], [-1.0, 1.0, 0.5]]), transB=1)
    return open_model(card_for(g.model(scores, units=2), tmp_path_factory.mktemp("m"), kind="logits"))


def ramp(samples: Samples) -> Maps:
    size = tuple(samples.images.shape[-2:])
    return Maps(relevance=torch.arange(np.prod(size), dtype=torch.float32).reshape(1, *size).repeat(len(samples), 1, 1))


def test_a_curve_without_a_number_names_sample_fill_and_place(logarithm: FaceModel) -> None:
    for direction, place in (("deletion", 100), ("insertion", 0)):
        samples = sample_batch(logarithm, 3)
        with pytest.raises(RunError, match=rf"on {direction} with fill black \({place}% along\); 3 of 3") as caught:
            curves(logarithm, samples, ramp(samples), fill="black", directions=[direction])
        assert f'gives nan for sample "{samples.ids[0]}"' in str(caught.value)
        assert caught.value.code is ReasonCode.NON_FINITE_SCORE
    assert np.isfinite(curves(logarithm, samples, ramp(samples), fill="mean").scores["deletion"]).all()


@pytest.mark.parametrize("metric", [AverageDrop(), ConfidenceDrop(), Road(points=3)])
def test_metrics_that_alter_images_themselves_fail_alike(
    metric, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    samples = sample_batch(model, 2)
    monkeypatch.setattr(model, "_forward_chunk", lambda images: torch.full((len(images), 2), torch.nan))
    with pytest.raises(RunError, match=rf'gives nan for sample "{samples.ids[0]}" on .*; 2 of 2 samples'):
        metric.score(model, samples, ramp(samples))


@pytest.mark.parametrize(
    ("metric", "where"), [(PatchReplacement(), "patches of another face"), (InpaintingGame(), "non-mate to mate")]
)
def test_metrics_that_paste_faces_fail_alike(
    metric, where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No number on any image that mixes two faces; the faces themselves, and their maps, are as they should be."""
    model = open_model(tiny("linear", "verification", tmp_path, size=16))
    dataset = ToyPairs(n=8)
    samples = load_samples_of(model, dataset)
    maps = Gradient().explain(model, samples)
    module = f"faithface.metrics.{metric.id.split('@')[0].replace('-', '_')}"
    real = __import__(module, fromlist=["run_masking_plan"]).run_masking_plan
    monkeypatch.setattr(f"{module}.run_masking_plan", lambda *given: real(*given) * torch.nan)
    with pytest.raises(RunError, match=f"gives nan for sample .* on .*{where}") as caught:
        metric.score(model, samples, maps, Gradient())
    assert caught.value.code is ReasonCode.NON_FINITE_SCORE


def load_samples_of(model: FaceModel, dataset: ToyPairs) -> Samples:
    from faithface.loading import load_samples

    samples = load_samples(model, dataset.items(), threshold=0.5, dataset=dataset)
    return samples.take(samples.where("genuine"))


def test_a_sample_without_a_clean_score_has_that_as_its_reason(logarithm: FaceModel) -> None:
    samples = sample_batch(logarithm, 2)
    scores = samples.clean.scores.clone()
    scores[1] = torch.nan
    samples = replace(samples, clean=replace(samples.clean, scores=scores))

    class Ramp(Gradient):
        def explain(self, model: FaceModel, samples: Samples) -> Maps:
            return ramp(samples)

    done = run_cell(logarithm, samples, CellWork(0, Ramp(), {"m": AverageDrop()}), number=0)
    reason = done.invalid[samples.ids[1]]
    assert (reason.code, reason.detail) == (ReasonCode.NON_FINITE_SCORE, "the model gives nan for the unaltered sample")
    by_sample = {value.sample: value for value in done.values if value.name == ""}
    assert by_sample[samples.ids[1]].reason == reason
    assert np.isfinite(by_sample[samples.ids[0]].value)


def test_finite_scores_pass() -> None:
    require_finite(None, ["a", "b"], np.zeros((2, 3)), "black")  # type: ignore[arg-type]
