"""Ensemble-CAM equals the paper's steps done one after another, and combines any members."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from faithface.contract import Explainer
from faithface.errors import UsageError
from faithface.model._torchvision import import_onnx2pytorch
from faithface_plugins.explainers.cams import GradCam, GradCamPlusPlus, HiResCam
from faithface_plugins.explainers.controls import CentrePrior, RandomMap
from faithface_plugins.explainers.ensemble import EnsembleCam, keep_top
from tests.support.networks import build

import_onnx2pytorch()  # makes torchvision importable, which pytorch_grad_cam imports
import pytorch_grad_cam as pgc  # noqa: E402
from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget  # noqa: E402


def top_tenth_by_sorting(a: np.ndarray) -> np.ndarray:
    """The 90th percentile by its definition: linear between the two neighbours of position 0.9·(n − 1)."""
    ordered = sorted(a.ravel().tolist())
    position = 0.9 * (len(ordered) - 1)
    low = int(position)
    t = ordered[low] + (position - low) * (ordered[low + 1] - ordered[low])
    return np.where(a >= np.float32(t), a, 0)


def test_it_equals_the_papers_steps_on_pytorch_grad_cams_maps(opened: Callable[..., Any]) -> None:
    model, samples = opened("arcface")
    net = build("arcface", 2, 32)
    targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]
    members = []
    for cam in (pgc.GradCAM, pgc.HiResCAM, pgc.GradCAMPlusPlus):
        # The export folds this normalisation into the convolution before it.
        with cam(model=net, target_layers=[net.norm]) as run:
            members.append(run(input_tensor=(samples.images - 0.5) / 0.5, targets=targets))
    found = EnsembleCam(layer="/down/Conv_output_0").explain(model, samples).relevance.numpy()
    for i in range(len(samples)):
        total = np.zeros((32, 32), dtype=np.float32)
        for member in members:
            m = member[i]
            total = total + (m / m.max() if m.max() > 0 else m)
        expected = top_tenth_by_sorting(total / 3)
        # A pixel within rounding of the threshold may fall on either side of it.
        near = np.abs(total / 3 - expected[expected > 0].min()) < 1e-4
        assert near.sum() <= 3
        np.testing.assert_allclose(found[i][~near], expected[~near], atol=1e-4)
        assert abs(int((found[i] > 0).sum()) - int((expected > 0).sum())) <= near.sum()


def test_pair_maps_keep_the_top_tenth_of_the_mean_of_jointly_scaled_members(opened: Callable[..., Any]) -> None:
    model, samples = opened("arcface", "verification")
    found = EnsembleCam().explain(model, samples)
    parts = [e.explain(model, samples) for e in (GradCam(), HiResCam(), GradCamPlusPlus())]
    for n in range(len(samples)):
        for side in (0, 1):
            total: dict[str, Any] = {"similarity": 0, "dissimilarity": 0}
            for part in parts:
                top = max(float(part.named()[kind][n, side].max()) for kind in total)
                for kind in total:
                    total[kind] = total[kind] + part.named()[kind][n, side].numpy() / (top if top > 0 else 1)
            for kind, summed in total.items():
                expected = top_tenth_by_sorting((summed / 3).astype(np.float32))
                got = found.named()[kind][n, side].numpy()
                same = np.isclose(got, expected, atol=1e-5)
                assert same.mean() > 0.997


def test_any_members_are_resolved_by_name_and_averaged(opened: Callable[..., Any]) -> None:
    model, samples = opened("cnn")
    known: dict[str, Explainer] = {"random": RandomMap(), "centre-prior": CentrePrior()}
    ensemble = EnsembleCam(members=("random", "centre-prior"), quantile=0.0).bind(known.__getitem__)
    noise, hill = (e.explain(model, samples).relevance for e in known.values())
    expected = (noise / noise.amax((1, 2), keepdim=True) + hill / hill.amax((1, 2), keepdim=True)) / 2
    torch.testing.assert_close(ensemble.explain(model, samples).relevance, expected)
    assert ensemble.info.seeded
    assert ensemble.info.needs == frozenset()


def test_a_member_that_is_not_resolved_is_named() -> None:
    with pytest.raises(UsageError, match=r'member "rise" yet'):
        EnsembleCam(members=("grad-cam", "rise"))._members()


@pytest.mark.parametrize("wrong", [{"quantile": 1.0}, {"quantile": -0.1}, {"members": ()}])
def test_parameters_out_of_range_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"expected|at least one"):
        EnsembleCam(**wrong)


def test_a_map_of_zeros_stays_zeros_and_ties_are_all_kept() -> None:
    assert keep_top(torch.zeros(1, 5, 5), 0.9).abs().sum() == 0
    tied = torch.zeros(1, 10, 10)
    tied[0, :2] = 1.0
    assert torch.equal(keep_top(tied, 0.9), tied)  # 20 pixels tie at the 90th percentile
