"""The same curve by Quantus and by torch-cam: same network, images, maps and number of points.

Place in the flow: called by ``efficiency``. Both libraries are development dependencies; where one is missing, the
row shows it. They run the network in torch, faithface runs it in ONNX Runtime: that is part of what is compared.
"""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, redirect_stderr
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from faithface.bench.subjects import Subject
from faithface.bench.timing import paired
from faithface.bench.work import metric_run
from faithface.contract import Samples
from faithface.model.twin import preprocess

STEPS = 50


def against_quantus(
    subject: Subject, samples: Samples, relevance: Tensor, repeats: int, by_pixels: bool = False
) -> dict[str, Any]:
    """Return time(PixelFlipping) / time(deletion@1), both with a black fill and the same number of steps.

    PixelFlipping removes single values of C·H·W and requires that its step divides H·W: the step nearest to 50 steps is
    taken (48 at 112×112), and our curve gets as many. Whoever reads the step as a number of pixels, as that check
    suggests, gets three times as many steps as intended; with ``by_pixels`` that is what is timed (our curve keeps
    about 50 steps). The curves then have the same ends, but not the same points.
    """
    if subject.network is None or samples.are_pairs:
        return {"skipped": "PixelFlipping is for classifiers"}
    try:
        quantus = _import_quantus()
    except Exception as error:  # an optional library may fail to import in any way
        return {"skipped": f"Quantus cannot be imported ({type(error).__name__})"}
    x = preprocess(samples.images, subject.model.card.input).cpu().numpy()
    y = samples.clean.predicted.cpu().numpy()
    a = relevance.cpu().numpy()[:, None]
    pixels = x.shape[-2] * x.shape[-1]
    whole = pixels if by_pixels else x[0].size
    steps = min((whole // d for d in range(1, pixels + 1) if pixels % d == 0), key=lambda n: abs(n - STEPS))
    metric = quantus.PixelFlipping(features_in_step=whole // steps, disable_warnings=True, display_progressbar=False)
    network = Logits(subject.network).to(subject.model.device)

    def theirs() -> object:
        with quiet():
            return metric(network, x, y, a, softmax=True, device=subject.model.device, batch_size=32)

    ours = metric_run(subject.model, samples, relevance, "black", ("deletion",), steps + 1)
    return {"steps": steps, "their_steps": x[0].size * steps // whole, **paired(theirs, ours, repeats).as_dict()}


def against_torchcam(subject: Subject, samples: Samples, relevance: Tensor, repeats: int) -> dict[str, Any]:
    """Return time(DeletionInsertionMetric) / time(deletion@1 + insertion@1), both with 50 steps and a black fill."""
    if subject.network is None or samples.are_pairs:
        return {"skipped": "DeletionInsertionMetric is for classifiers"}
    try:
        metric_class = _import_torchcam()
    except Exception as error:
        return {"skipped": f"torch-cam cannot be imported ({type(error).__name__})"}
    x = preprocess(samples.images, subject.model.card.input)
    given = GivenMaps(Logits(subject.network).to(x.device), relevance)

    def theirs() -> dict[str, float]:
        metric = metric_class(
            given, lambda logits: logits.softmax(-1), steps=STEPS, baseline=_black(subject), batch_size=32
        )
        metric.update(x)
        result: dict[str, float] = metric.summary()
        return result

    ours = metric_run(subject.model, samples, relevance, "black")
    return paired(theirs, ours, repeats).as_dict()


def _black(subject: Subject) -> Tensor:
    """Return black pixels in the network's normalised space, C×1×1."""
    size = (1, 3, 1, 1)
    return preprocess(torch.zeros(size, device=subject.model.device), subject.model.card.input)[0]


class Logits(nn.Module):
    """A network whose output is one tensor N×C, as other libraries expect it."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.eval()

    def forward(self, x: Tensor) -> Tensor:
        out = self.network(x)
        out = out[0] if isinstance(out, (list, tuple)) else out
        return out.reshape(len(x), -1)  # type: ignore[no-any-return]


class GivenMaps:
    """Takes the place of torch-cam's extractor, and returns given maps."""

    def __init__(self, model: nn.Module, maps: Tensor) -> None:
        self.model, self.maps = model, maps

    def __call__(self, class_idx: Any = None, scores: Any = None, **_: Any) -> list[Tensor]:
        return [self.maps]

    def fuse_cams(self, cams: list[Tensor]) -> Tensor:
        return cams[0]

    def _hooks_off(self) -> Any:
        return nullcontext()


@contextmanager
def quiet() -> Iterator[None]:
    """Silence another library's warnings and progress bars."""
    with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def _import_quantus() -> Any:
    from faithface.model._torchvision import import_onnx2pytorch

    import_onnx2pytorch()
    if not hasattr(np, "trapz"):
        setattr(np, "trapz", np.trapezoid)  # noqa: B010 - Quantus 0.6 still asks for numpy's old name
    import quantus

    return quantus


def _import_torchcam() -> Callable[..., Any]:
    from faithface.model._torchvision import import_onnx2pytorch

    import_onnx2pytorch()
    from torchcam.metrics import DeletionInsertionMetric

    return DeletionInsertionMetric  # type: ignore[no-any-return]
