"""Maps per second of each explainer, beside pytorch-grad-cam and captum on the same network in the same process.

``pytest tests/speed/test_explainers_speed.py --benchmark-only --benchmark-columns=median,rounds``: one group per
method; ``maps_per_second`` is in the extra information (``--benchmark-json``). No test here asserts a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import redirect_stderr
from dataclasses import fields, replace
from io import StringIO
from typing import Any

import captum.attr
import pytest

from faithface.bench.explainers import GRADIENT_CAMS
from faithface.bench.subjects import Subject, fresh, random_samples, subjects
from faithface.model._torchvision import import_onnx2pytorch
from faithface.model.twin import preprocess
from faithface_plugins.explainers import (
    ablation_cam,
    black_box,
    cam_head,
    cams,
    ensemble,
    gradients,
    score_cam,
    surrogates,
)

pytest.importorskip("pytest_benchmark")

IMAGES = 4
MODULES = (cams, score_cam, ablation_cam, cam_head, ensemble, gradients, black_box, surrogates)
# Counts at which a method takes seconds, not minutes; both sides of a comparison get the same.
AFFORDABLE = {"masks": 100, "samples": 100, "noisy": 5, "steps": 10}
CAMS = {**GRADIENT_CAMS, "score-cam": "ScoreCAM", "ablation-cam": "AblationCAM"}
SIX = list(GRADIENT_CAMS)


def affordable(explainer: Any) -> Any:
    names = {f.name for f in fields(explainer)}
    return replace(explainer, **{k: v for k, v in AFFORDABLE.items() if k in names})


EXPLAINERS = {e.name: affordable(e) for module in MODULES for e in module.EXPLAINERS}


@pytest.fixture(scope="module")
def subject() -> Iterator[Subject]:
    with subjects() as (opened, _notes):
        yield next(s for s in opened if s.role == "ResNet-18 size")


def timed(benchmark: Any, group: str, run: Callable[[], Any], maps: int = IMAGES) -> None:
    benchmark.group = group
    with redirect_stderr(StringIO()):  # other libraries' progress bars
        benchmark.pedantic(run, rounds=3, iterations=1, warmup_rounds=1)
    benchmark.extra_info["maps_per_second"] = maps / benchmark.stats.stats.median


def ours(subject: Subject, names: list[str]) -> Callable[[], None]:
    samples = random_samples(subject.model, IMAGES)

    def run() -> None:
        subject.model.forget()  # what the model remembers of the last round must not answer for this one
        batch = fresh(samples)
        for name in names:
            EXPLAINERS[name].explain(subject.model, batch)

    return run


def gradcam(subject: Subject, names: list[str]) -> Callable[[], None]:
    import_onnx2pytorch()  # makes torchvision importable, which pytorch_grad_cam imports
    import pytorch_grad_cam
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    samples = random_samples(subject.model, IMAGES)
    x = preprocess(samples.images, subject.model.card.input)
    targets = [ClassifierOutputTarget(int(c)) for c in samples.clean.predicted]

    def run() -> None:
        for name in names:
            with getattr(pytorch_grad_cam, CAMS[name])(model=subject.network, target_layers=[subject.layer]) as cam:
                cam(input_tensor=x, targets=targets)

    return run


@pytest.mark.parametrize("name", EXPLAINERS)
def test_faithface(benchmark: Any, subject: Subject, name: str) -> None:
    timed(benchmark, name, ours(subject, [name]))


@pytest.mark.parametrize("name", CAMS)
def test_pytorch_grad_cam(benchmark: Any, subject: Subject, name: str) -> None:
    timed(benchmark, name, gradcam(subject, [name]))


def test_faithface_six_cams_of_one_batch(benchmark: Any, subject: Subject) -> None:
    timed(benchmark, "six gradient CAMs", ours(subject, SIX), 6 * IMAGES)


def test_pytorch_grad_cam_six_runs(benchmark: Any, subject: Subject) -> None:
    timed(benchmark, "six gradient CAMs", gradcam(subject, SIX), 6 * IMAGES)


@pytest.mark.parametrize(
    ("name", "theirs", "how"),
    [
        ("saliency", captum.attr.Saliency, {}),
        ("input-x-gradient", captum.attr.InputXGradient, {}),
        ("guided-backprop", captum.attr.GuidedBackprop, {}),
        ("integrated-gradients", captum.attr.IntegratedGradients, {"n_steps": AFFORDABLE["steps"]}),
        ("occlusion", captum.attr.Occlusion, {"sliding_window_shapes": (3, 22, 22), "strides": (3, 11, 11)}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.filterwarnings("ignore")
def test_captum(benchmark: Any, subject: Subject, name: str, theirs: Any, how: dict[str, Any]) -> None:
    samples = random_samples(subject.model, IMAGES)
    x = preprocess(samples.images, subject.model.card.input)
    method = theirs(subject.network)
    timed(benchmark, name, lambda: method.attribute(x, target=samples.clean.predicted, **how))


@pytest.mark.filterwarnings("ignore")
def test_captum_smoothgrad(benchmark: Any, subject: Subject) -> None:
    samples = random_samples(subject.model, IMAGES)
    x = preprocess(samples.images, subject.model.card.input)
    tunnel = captum.attr.NoiseTunnel(captum.attr.Saliency(subject.network))
    count = AFFORDABLE["noisy"]
    timed(benchmark, "smoothgrad", lambda: tunnel.attribute(x, nt_samples=count, target=samples.clean.predicted))
