"""Compare a twin with ONNX Runtime before it is used: outputs, inner values, gradients.

Place in the flow: called by ``derive.py`` when the twin is built, and again on the first real images. May call
``session``, ``twin``, ``prepare``, ``errors``.

Equal outputs on one batch of noise prove little. A softmax that is saturated hides any difference before it; and a
twin may give the right values with wrong gradients (a rounding has gradient 0, a custom function may have any). So
four things are compared, on pixel noise and on smooth images that resemble faces:

1. the outputs, with those of the file itself;
2. the values before a final Softmax or Sigmoid, and
3. the map that CAMs use, with those of the prepared network (``prepare.py``) in ONNX Runtime;
4. the gradients, with central differences of the prepared network's outputs in ONNX Runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx
import torch
from onnx import helper
from torch import Tensor

from faithface.errors import FaithfaceError
from faithface.model.prepare import Arithmetic
from faithface.model.session import open_session, ports
from faithface.model.twin import Twin, preprocess

GRADIENT_TOLERANCE = 0.05
"""Largest relative error of a directional derivative, as the median over directions, before a twin is refused."""
ENOUGH = 0.02  # agreement at which no further step is tried
CHANGE_TOLERANCE = 1e-2  # of how outputs change between images, where gradients cannot be compared
DIRECTIONS = 6
IMAGES = (3, 4, 5)
"""Seeds of the images on which derivatives are compared; the later ones are used where the first does not agree."""
STEPS = (8e-6, 2e-5, 6e-5, 2.5e-4, 1e-3, 4e-3, 1.6e-2, 6.4e-2)
"""Change of each pixel. The error grows with the step, since a larger one crosses more kinks of ReLU; a step that
changes the outputs by less than float32's rounding shows nothing. So steps are tried from the smallest that shows
something."""
FLAT = 1e-3
"""A network whose outputs change less than rounding over this step (one at its initialisation) cannot be measured."""


@dataclass(frozen=True)
class Parity:
    """How far a twin is from its file; all differences are relative to the largest value.

    Attributes:
        outputs: to the file's own outputs.
        before: before the final Softmax or Sigmoid; None where there is none.
        layer: at the layer that CAMs use; None where there is none.
        gradient: of directional derivatives; None where they were not compared.
        unmeasured: why gradients could not be compared; "" where they were, or need not be.
        reason: why the twin is refused; "" if it is not.
    """

    outputs: float = float("inf")
    before: float | None = None
    layer: float | None = None
    gradient: float | None = None
    unmeasured: str = ""
    reason: str = ""

    @property
    def accepted(self) -> bool:
        return not self.reason


def relative_difference(a: Tensor, b: Tensor) -> float:
    """Return max |a − b| / max |b| (NaN counts as infinite)."""
    if a.shape != b.shape:
        return float("inf")
    difference = float((a - b).abs().max() / b.abs().max().clamp(min=1e-12))
    return difference if difference == difference else float("inf")


def face_like(count: int, size: tuple[int, int], seed: int = 1) -> Tensor:
    """Return smooth images that resemble faces: float32 count×3×H×W in [0.05, 0.95].

    A blurred ellipse with two dark eyes and a mouth on a shaded background, at contrasts from faint to strong, with a
    little noise (so that no region is flat, where a maximum has no gradient).
    """
    height, width = size
    y, x = np.mgrid[0:height, 0:width]
    y, x = (y + 0.5) / height, (x + 0.5) / width
    images = []
    for index in range(count):
        rng = np.random.default_rng((seed, index))
        contrast = (0.15, 0.5, 0.9)[index % 3]

        def blob(cy: float, cx: float, ry: float, rx: float, soft: float) -> np.ndarray:
            distance = np.sqrt(((y - cy) / ry) ** 2 + ((x - cx) / rx) ** 2)
            return 1 / (1 + np.exp((distance - 1) / soft))

        cy, cx = 0.5 + 0.04 * rng.standard_normal(2)
        layers = [(blob(cy, cx, 0.38, 0.29, 0.08), np.array([0.8, 0.6, 0.5]) + 0.1 * rng.standard_normal(3))]
        for side in (-1, 1):
            layers.append((blob(cy - 0.08, cx + side * 0.12, 0.03, 0.055, 0.3), 0.25 * rng.random(3)))
        layers.append((blob(cy + 0.18, cx, 0.03, 0.1, 0.3), np.array([0.6, 0.25, 0.25]) + 0.1 * rng.random(3)))
        image = rng.random(3) * (0.6 + 0.4 * (y * rng.random() + x * rng.random()))[..., None]
        for mask, colour in layers:
            image = image * (1 - mask[..., None]) + mask[..., None] * colour
        image = 0.5 + contrast * (image - image.mean()) + 0.01 * rng.standard_normal(image.shape)
        images.append(np.clip(image, 0.05, 0.95).transpose(2, 0, 1))
    return torch.from_numpy(np.stack(images).astype(np.float32))


class Reference:
    """The prepared network in ONNX Runtime, with some inner tensors as further outputs.

    Args:
        twin: the twin whose prepared network and card are meant.
        names: the inner tensors.
        device: a float32 execution target of the twin's torch device.
        rows: images per pass; None: any number.
    """

    def __init__(self, twin: Twin, names: Sequence[str], device: str, rows: int | None) -> None:
        proto = onnx.ModelProto()
        proto.CopyFrom(twin.prepared.proto)
        there = {entry.name for entry in proto.graph.output}
        added = [name for name in names if name and name not in there]
        proto.graph.output.extend(helper.make_tensor_value_info(n, onnx.TensorProto.FLOAT, None) for n in added)
        self.ort = open_session(proto.SerializeToString(), device, what="the prepared network")
        self.input = ports(self.ort.get_inputs())[0].name
        self.card, self.rows, self.output = twin.card, rows, twin.output
        self.names = [name for name in names if name]

    def values(self, images: Tensor) -> dict[str, Tensor]:
        """Return the inner tensors by name and the output under "", as :meth:`Twin.values`, on the host."""
        ready = preprocess(images.detach().cpu().float(), self.card.input).contiguous().numpy()
        rows = self.rows or len(ready)
        wanted = [self.output, *self.names]
        parts: list[list[np.ndarray]] = []
        for start in range(0, len(ready), rows):
            part = ready[start : start + rows]
            short = rows - len(part)
            part = np.concatenate([part, np.repeat(part[-1:], short, axis=0)]) if short else part
            got = self.ort.run(wanted, {self.input: np.ascontiguousarray(part, dtype=np.float32)})
            got[0] = got[0].reshape(len(part), -1)[: len(part) - short]
            parts.append(got)
        joined = [torch.from_numpy(np.concatenate(column).astype(np.float32)) for column in zip(*parts, strict=True)]
        return dict(zip(["", *self.names], joined, strict=True))


def probe_images(size: tuple[int, int]) -> Tensor:
    """Return the images of the first comparison: two of pixel noise, three that resemble faces."""
    noise = torch.as_tensor(np.random.default_rng(1).random((2, 3, *size)), dtype=torch.float32)
    return torch.cat([noise, face_like(3, size)])


def compare_values(
    twin: Twin,
    reference: Reference,
    outputs: Callable[[Tensor], Tensor],
    images: Tensor,
    layer: str,
    tolerance: float,
) -> Parity:
    """Compare values on images: outputs with the file's own, inner values with the reference's.

    Args:
        outputs: the file's outputs N×K for images.
        layer: the CAM layer's tensor, or "".
        tolerance: of the execution target, relative.
    """
    names = [name for name in (twin.before, layer) if name]
    with torch.no_grad():
        own = {name: value.cpu() for name, value in twin.values(images, names).items()}
    expected = outputs(images).cpu()
    prepared = reference.values(images)
    loose = max(tolerance, twin.prepared.arithmetic.tolerance)
    strict = Arithmetic.FLOAT32.tolerance
    found = Parity(
        outputs=relative_difference(own[""], expected),
        before=relative_difference(own[twin.before], prepared[twin.before]) if twin.before else None,
        layer=relative_difference(own[layer], prepared[layer]) if layer and layer in own else None,
    )
    same = relative_difference(own[""], prepared[""])
    checks = [
        (same, strict, "its outputs differ from ONNX Runtime's"),
        (found.before, strict, f"its values before the final {twin.squashing} differ from ONNX Runtime's"),
        (found.layer, strict, f"its values at layer '{layer}' differ from ONNX Runtime's"),
        (found.outputs, loose, _about_outputs(twin)),
    ]
    for difference, allowed, what in checks:
        if difference is not None and not difference <= allowed:
            return replace(found, reason=_too_far(what, difference, allowed))
    return found


def _about_outputs(twin: Twin) -> str:
    if twin.prepared.arithmetic is Arithmetic.QUANTISED:
        return "quantised: the outputs of the dequantised network differ from the file's"
    return "its outputs differ from ONNX Runtime's"


@dataclass(frozen=True)
class Slopes:
    """What the comparison of directional derivatives gave: an error, or why there is none."""

    error: float | None
    unmeasured: str = ""


_FLAT = Slopes(None, "its outputs change by no more than float32's rounding when pixels change a little")
_UNSTEADY = Slopes(None, "differences over two steps disagree with each other by as much")


def compare_slopes(twin: Twin, reference: Reference, images: Tensor) -> Slopes:
    """Compare the twin's directional derivatives with central differences of ONNX Runtime's outputs.

    The scalar is a random combination of the outputs (of the values before a final Softmax or Sigmoid, which may be
    saturated); directions are random signs per pixel.

    Returns:
        The median over images and directions of |derivative − difference| relative to their root mean square, for the
        step where it is smallest. No error where the network does not change by more than float32's rounding, or where
        no two steps agree on the differences.
    """
    name = twin.before
    device = twin.device
    pixels = images.to(device).requires_grad_(True)
    with torch.enable_grad():
        inner = twin.values(pixels, [name])[name].reshape(-1) if name else twin(pixels).reshape(-1)
    per_image = inner.numel() // len(images)
    if inner.numel() % len(images) or ((twin.fixed_batch or 1) > 1 and name):
        name = ""  # padded batches: rows of inner tensors are not the images'
        inner = twin(pixels).reshape(-1)
        per_image = inner.numel() // len(images)
    rng = np.random.default_rng(2)
    mix = torch.as_tensor(rng.standard_normal(per_image) / per_image**0.5, dtype=torch.float32)
    if not inner.requires_grad:
        gradient = torch.zeros_like(pixels)
    else:
        scalar = (inner.reshape(len(images), -1) * mix.to(device)).sum()
        gradient = torch.autograd.grad(scalar, pixels, allow_unused=True)[0]
        gradient = torch.zeros_like(pixels) if gradient is None else gradient
    gradient = gradient.detach().cpu().double()

    count = len(images)
    signs = rng.integers(0, 2, (count, DIRECTIONS, *images.shape[1:])) * 2.0 - 1
    directions = torch.from_numpy(signs.astype(np.float32))
    typical = float((gradient[:, None] * directions).flatten(2).sum(dim=2).square().mean().sqrt())
    size = float(inner.detach().abs().max())
    audible = [step for step in STEPS if typical > 4 * _rounding(size, step)]
    if audible and audible[0] > FLAT:
        return _FLAT
    tried: list[tuple[float, Tensor]] = []  # error and differences, per unit of step
    host = images.detach().cpu()
    for step in audible or STEPS[-2:]:  # where the twin is flat, the network must be so too
        both = torch.stack([host[:, None] + step * directions, host[:, None] - step * directions], dim=1)
        values = reference.values(both.flatten(0, 2))[name].reshape(count * 2 * DIRECTIONS, -1)
        scores = (values.double() * mix.double()).sum(dim=1).unflatten(0, (count, 2, DIRECTIONS))
        differences = scores[:, 0] - scores[:, 1]
        # The actual step, including float32 rounding of the pixels.
        slopes = (gradient[:, None] * (both[:, 0] - both[:, 1])).flatten(2).sum(dim=2)
        scale = torch.maximum(slopes.abs(), differences.abs()).square().mean().sqrt()
        if not torch.isfinite(scale):
            return Slopes(float("inf"))
        moves = scale if audible else differences.square().mean().sqrt()
        if float(moves) <= 4 * 2 * step * _rounding(float(values.abs().max()), step):
            continue
        error = float(((slopes - differences).abs() / scale).median())
        tried.append((error, differences / (2 * step)))
        if error <= ENOUGH:
            return Slopes(error)
        if error > 3 * min(tried, key=lambda entry: entry[0])[0]:
            break
    if not tried:
        return _FLAT
    best = min(range(len(tried)), key=lambda i: tried[i][0])
    error, slope = tried[best]
    # Differences that depend on the step are not yet derivatives, and resolve nothing finer than their own variation.
    beside = [tried[i][1] for i in (best - 1, best + 1) if 0 <= i < len(tried)]
    typical = float(slope.square().mean().sqrt())
    varies = min((float((slope - other).abs().median()) / typical for other in beside), default=0.0)
    return _UNSTEADY if audible and GRADIENT_TOLERANCE < error <= 2 * varies else Slopes(error)


def best_slopes(twin: Twin, reference: Reference) -> Slopes:
    """Compare directional derivatives on one image, and on others where they do not agree there.

    Close to an image a ReLU network may have so many kinks that no step is small enough; near another one it has fewer.
    Gradients that are wrong are wrong on all of them.
    """
    best: Slopes | None = None
    for seed in IMAGES:
        found = compare_slopes(twin, reference, face_like(2, twin.card.input.size, seed)[1:])
        if best is None or (found.error is not None and (best.error is None or found.error < best.error)):
            best = found
        if found is _FLAT or (found.error is not None and not GRADIENT_TOLERANCE < found.error < np.inf):
            break
    assert best is not None
    return best


def _rounding(size: float, step: float) -> float:
    """Return the slope that float32's rounding of values of this size seems to have over a step."""
    return 16 * float(np.finfo(np.float32).eps) * size / (2 * step)


def check_twin(
    twin: Twin,
    outputs: Callable[[Tensor], Tensor],
    device: str,
    tolerance: float,
    images: Tensor | None = None,
    reference: Reference | None = None,
) -> tuple[Parity, Reference]:
    """Compare a twin with its file.

    Args:
        outputs: the file's outputs N×K for images.
        device: a float32 execution target of the twin's torch device.
        tolerance: of the file's execution target, relative.
        images: real images N×3×H×W, of which only values are compared; None: probe images, and gradients too.
        reference: of an earlier call.
    """
    layer = _layer(twin)
    if reference is None:
        reference = Reference(twin, [twin.before, layer], device, twin.fixed_batch)
    probe = probe_images(twin.card.input.size) if images is None else images
    probe = probe.to(twin.device)
    found = compare_values(twin, reference, outputs, probe, layer, tolerance)
    if images is not None or not found.accepted:
        return found, reference
    slopes = best_slopes(twin, reference)
    found = replace(found, gradient=slopes.error, unmeasured=slopes.unmeasured)
    if slopes.unmeasured:
        return replace(found, reason=_compare_changes(twin, reference)), reference
    error = slopes.error
    if error is not None and not error <= GRADIENT_TOLERANCE:
        what = "its gradients differ from differences of the network's own outputs"
        return replace(found, reason=f"{what} by {error:.0%} (allowed: {GRADIENT_TOLERANCE:.0%})"), reference
    return found, reference


def check_outputs(twin: Twin, outputs: Callable[[Tensor], Tensor], tolerance: float) -> Parity:
    """Compare the outputs on probe images only: enough where another twin of the same operators was checked in full.

    Args:
        outputs, tolerance: as for :func:`check_twin`.
    """
    images = probe_images(twin.card.input.size).to(twin.device)
    with torch.no_grad():
        difference = relative_difference(twin(images).cpu(), outputs(images).cpu())
    allowed = max(tolerance, twin.prepared.arithmetic.tolerance)
    return Parity(
        difference, reason="" if difference <= allowed else _too_far(_about_outputs(twin), difference, allowed)
    )


def _compare_changes(twin: Twin, reference: Reference) -> str:
    """Compare how outputs change from image to image, over images far apart; return why the twin is refused, or "".

    Where the outputs hardly depend on the image, what an error changes in them is small beside their size. So it is
    the deviations from their mean that are compared, relative to the largest, down to what float32 leaves of them.
    """
    images = contrasting_images(twin.card.input.size)
    with torch.no_grad():
        own = twin(images.to(twin.device)).cpu().double()
    expected = reference.values(images)[""].double()
    if own.shape != expected.shape or not torch.isfinite(expected).all():
        return ""
    own, changes = own - own.mean(dim=0), expected - expected.mean(dim=0)
    spread = float(changes.square().mean().sqrt())
    rounding = 8 * float(np.finfo(np.float32).eps) * float(expected.abs().max())
    if spread <= rounding:
        return ""  # constant, on all that was tried
    difference = float((own - changes).square().mean().sqrt()) / spread
    allowed = max(CHANGE_TOLERANCE, rounding / spread)
    what = "its outputs change from image to image differently from ONNX Runtime's"
    return "" if difference <= allowed else _too_far(what, difference, allowed)


def contrasting_images(size: tuple[int, int]) -> Tensor:
    """Return images far apart: black, grey, white, red, green, blue, black-and-white noise, stripes, and faces."""
    height, width = size
    rng = np.random.default_rng(4)
    colours = np.concatenate([np.repeat([[0.0], [0.5], [1.0]], 3, axis=1), np.eye(3)])
    plain = np.broadcast_to(colours[:, :, None, None], (6, 3, height, width))
    noise = rng.integers(0, 2, (3, 3, height, width))
    down, across = (np.arange(n) // max(1, n // 8) % 2 for n in size)
    stripes = np.stack([np.broadcast_to(s, (3, height, width)) for s in (down[:, None], across[None, :])])
    made = torch.from_numpy(np.concatenate([plain, noise, stripes]).astype(np.float32))
    return torch.cat([made, face_like(5, size, seed=5)])


def _too_far(what: str, difference: float, allowed: float) -> str:
    return f"{what} by {difference:.2e} relative (allowed: {allowed:.0e})"


def _layer(twin: Twin) -> str:
    try:
        return twin.find_layer(twin.card.explain.layer or None).name
    except FaithfaceError:
        return ""  # no CAMs on this network; an explainer that needs one gets the reason
