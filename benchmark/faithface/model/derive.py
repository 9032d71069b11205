"""Derive a model's twin and compare it with its file: the twin, or why there is none.

Place in the flow: called by ``onnx_model.py`` when a gradient or an activation is first needed, and once more with
the first real images. May call ``twin``, ``parity``, ``graph``, ``target``, ``card``, ``errors``, ``reasons``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import onnx
import torch
from torch import Tensor

from faithface.card import ModelCard
from faithface.errors import NotApplicable
from faithface.model.graph import without_values
from faithface.model.parity import Parity, Reference, check_outputs, check_twin
from faithface.model.prepare import Arithmetic
from faithface.model.target import ExecutionTarget
from faithface.model.twin import Twin
from faithface.reasons import Reason, ReasonCode

BLACK_BOX = "only black-box explainers run on it"
CONFIRMED_ON = 8  # real images on which a twin is compared once more


@dataclass(frozen=True)
class Source:
    """What a twin is derived from and compared with.

    Attributes:
        proto, card, output, fixed_batch: the file, its card, the output that is meant, the only batch it accepts.
        target: where the file runs.
        outputs: the file's own outputs N×K for images, padded to a fixed batch where there is one.
        proven: the twin of a network with the same operators was compared in full, so that only the weights are new.
    """

    proto: onnx.ModelProto
    card: ModelCard
    output: str
    fixed_batch: int | None
    target: ExecutionTarget
    outputs: Callable[[Tensor], Tensor]
    proven: bool = False


@dataclass(frozen=True)
class Derived:
    """A twin and how it compares.

    Attributes:
        twin: None where there is none.
        parity: the comparison.
        refusal: why there is no twin, or why it must not be used; None where it may be.
        reference: for a comparison on further images; None where it is not needed.
        notes: what the user should know about it, one line each.
    """

    twin: Twin | None
    parity: Parity
    refusal: Reason | None = None
    reference: Reference | None = None
    notes: tuple[str, ...] = ()


def derive_twin(source: Source) -> Derived:
    """Derive the twin and compare it with its file on probe images (``parity.py``)."""
    name = source.card.name
    try:
        twin = Twin(source.proto, source.card, source.output, source.fixed_batch)
        twin.lay_out_for(source.target.torch)
        with torch.no_grad():
            twin(torch.full((1, 3, *source.card.input.size), 0.5, device=source.target.torch))
    except NotApplicable as error:
        return _none(f'model "{name}" has no differentiable twin: {error}', error.code)
    except Exception as error:  # an operator that the converter does not support can fail in any way
        return _none(f'model "{name}" has no differentiable twin ({_first_line(error)}); {BLACK_BOX}')
    try:
        parity, reference = _compare(source, twin)
    except Exception as error:  # likewise: the first backward pass is here, and so is the prepared network's session
        return _none(_refusal(name, f"it cannot be compared with the network ({_first_line(error)})"))
    if not parity.accepted:
        quantised = twin.prepared.arithmetic is Arithmetic.QUANTISED
        code = ReasonCode.QUANTISED if quantised else ReasonCode.NO_TWIN
        return _none(_refusal(name, parity.reason), code, parity)
    return Derived(twin, parity, None, reference, tuple(_notes(source, twin, parity)))


def confirm(source: Source, derived: Derived, images: Tensor) -> Reason | None:
    """Compare a twin with its file once more, on real images; return a refusal, or None where they agree."""
    if derived.twin is None or derived.reference is None:
        return derived.refusal
    few = images[:CONFIRMED_ON]
    few = few[torch.isfinite(source.outputs(few)).flatten(1).all(dim=1).to(few.device)]
    if not len(few):
        return derived.refusal  # nothing can be compared where the network gives no number
    parity, _ = check_twin(
        derived.twin,
        source.outputs,
        source.target.torch,
        source.target.tolerance,
        few,
        derived.reference,
    )
    if parity.accepted:
        return None
    return Reason(ReasonCode.NO_TWIN, _refusal(source.card.name, f"{parity.reason}, on images of this run"))


def not_applicable(refusal: Reason | None) -> NotApplicable:
    """Return a refusal as the exception that explainers see."""
    return NotApplicable(str(refusal), refusal.code if refusal else ReasonCode.NO_TWIN)


def same_operators(a: onnx.ModelProto, b: onnx.ModelProto) -> bool:
    """Whether two networks differ in the values of their weights only."""
    return without_values(a) == without_values(b)


def _compare(source: Source, twin: Twin) -> tuple[Parity, Reference | None]:
    if source.proven:
        return check_outputs(twin, source.outputs, source.target.tolerance), None
    return check_twin(twin, source.outputs, source.target.torch, source.target.tolerance)


def _notes(source: Source, twin: Twin, parity: Parity) -> list[str]:
    name, notes = source.card.name, []
    if twin.prepared.origin:
        notes.append(f'model "{name}" {twin.prepared.origin}, whose outputs differ by {parity.outputs:.1e} relative')
    if parity.unmeasured:
        notes.append(
            f'gradients of model "{name}" could not be compared with differences of its outputs: {parity.unmeasured}; '
            "outputs were compared on more images instead"
        )
    return notes


def _none(text: str, code: ReasonCode = ReasonCode.NO_TWIN, parity: Parity | None = None) -> Derived:
    parity = dataclasses.replace(parity or Parity(), reason=text)
    code = ReasonCode.NO_TWIN if code is ReasonCode.NOT_APPLICABLE else code
    return Derived(None, parity, Reason(code, text))


def _refusal(name: str, reason: str) -> str:
    return f'the torch twin of model "{name}" is refused: {reason}; {BLACK_BOX}'


def _first_line(error: Exception) -> str:
    first = (str(error).strip().splitlines() or [""])[0][:200]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
