"""How a network begins: whether it normalises its images itself, and which range of values it therefore takes.

Place in the flow: ``draft`` and ``onnx_model`` ask for it. May call ``graph`` and ``card``.

Many files scale their input in the graph (``x / 127.5 − 1``). A card that normalises once more gives wrong numbers, and
nothing fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from faithface.card import InputCard
from faithface.model.graph import attributes, constants, image_inputs

PASSED = ("Identity", "Cast", "Transpose")
MOST_SPAN = 20.0  # no usual normalisation spreads pixels of 0..1 further; 0..255 is far beyond
NO_CHANGE = 0.05  # of scale and shift: a graph that does less does not normalise
PLAUSIBLE = (0.5, 12.0)  # the span that normalised pixels have: 1 for 0..1, 2 for ±1, about 4.5 for ImageNet's


@dataclass(frozen=True)
class Scaling:
    """What a graph does to its input first: ``scale`` · x + ``shift``, for each channel or for all.

    ``turned``: it also turns the order of the channels round. Scale and shift are in the order of the input.
    """

    scale: tuple[float, ...]
    shift: tuple[float, ...]
    turned: bool = False

    @property
    def takes(self) -> float | None:
        """The largest value of a pixel that it is made for: 255, or 1; None: neither gives plausible numbers."""
        if np.allclose(self.scale, 1, atol=NO_CHANGE) and np.allclose(self.shift, 0, atol=NO_CHANGE):
            return None  # such as 127.5 / 128 after a shift that is made outside: it tells nothing
        span = float(np.mean(np.abs(self.scale)))
        for top in (255.0, 1.0):
            if PLAUSIBLE[0] <= top * span <= PLAUSIBLE[1]:
                return top
        return None

    def __str__(self) -> str:
        scale, shift = (", ".join(f"{v:.4g}" for v in values) for values in (self.scale, self.shift))
        one = len(self.scale) == 1 and len(self.shift) == 1
        turned = ", the channels turned round" if self.turned else ""
        return f"{scale} · x + {shift}{turned}" if one else f"[{scale}] · x + [{shift}]{turned}"


def leading_scaling(graph: onnx.GraphProto) -> Scaling | None:
    """Return the scaling that a graph begins with; None where the first operator is another one.

    Transposing the image and turning its channels round are looked through.
    """
    known = constants(graph)
    inputs = image_inputs(graph)
    if len(inputs) != 1:
        return None
    name, scale, shift, found, turned = inputs[0], np.ones(1), np.zeros(1), False, False
    while True:
        users = [node for node in graph.node if name in node.input]
        if len(users) != 1 or len(users[0].output) != 1:
            break
        node = users[0]
        if _turns(node, name, known):
            turned, found, name = not turned, True, node.output[0]
            continue
        step = (np.ones(1), np.zeros(1)) if node.op_type in PASSED else _step(node, name, known)
        if step is None:
            break
        found = found or node.op_type not in PASSED
        by, plus = (one[::-1] for one in step) if turned else step
        scale, shift = by * scale, by * shift + plus
        name = node.output[0]
    return Scaling(tuple(map(float, scale)), tuple(map(float, shift)), turned) if found else None


def problem_with_range(graph: onnx.GraphProto, card: InputCard) -> str:
    """Say how a card's normalisation contradicts the one that the graph begins with; "" where it does not."""
    inside = leading_scaling(graph)
    top = None if inside is None else inside.takes
    if top is None:
        return ""
    ends = [(end - m) / s for m, s in zip(card.mean, card.std, strict=False) for end in (0.0, 1.0)]
    wide = max(ends) - min(ends) > (1 + MOST_SPAN)
    if wide is (top == 255):
        return ""
    return (
        f"the graph begins with {inside}, so it takes 0..{top:g} and normalises itself, but the card's [input] gives "
        f"it values from {min(ends):.3g} to {max(ends):.3g}: check mean and std (0 and {1 / top:.6g} leave it alone)"
    )


def _turns(node: onnx.NodeProto, name: str, known: dict[str, onnx.TensorProto]) -> bool:
    """Say whether a node turns three channels round: RGB to BGR, or back (``x[:, [2, 1, 0]]``, ``x[:, ::-1]``)."""
    if not node.input or node.input[0] != name:
        return False
    values = [numpy_helper.to_array(known[one]).ravel().tolist() if one in known else None for one in node.input[1:]]
    if node.op_type == "Gather":
        return values == [[2, 1, 0]] and attributes(node).get("axis", 0) in (1, 3, -1)
    if node.op_type == "Slice" and len(values) == 4:
        _starts, _ends, axes, steps = values
        return steps == [-1] and axes in ([1], [3], [-1])
    return False


def _step(node: onnx.NodeProto, name: str, known: dict[str, onnx.TensorProto]) -> tuple[np.ndarray, np.ndarray] | None:
    """Return a node as scale and shift; None if it is no scaling by constants of one value, or one per channel."""
    others = [known.get(one) for one in node.input if one != name]
    if any(one is None for one in others):
        return None
    values = [numpy_helper.to_array(one).astype(np.float64).ravel() for one in others if one is not None]
    if any(len(one) not in (1, 3) for one in values):
        return None
    one, zero = np.ones(1), np.zeros(1)
    first = node.input[0] == name
    if node.op_type == "BatchNormalization" and first and len(values) == 4:
        gamma, beta, mean, variance = values
        scale = gamma / np.sqrt(variance + attributes(node).get("epsilon", 1e-5))
        return scale, beta - scale * mean
    if len(values) != 1:
        return None
    (value,) = values
    if node.op_type == "Add":
        return one, value
    if node.op_type == "Mul":
        return value, zero
    if node.op_type == "Sub":
        return (one, -value) if first else (-one, value)
    if node.op_type == "Div" and first and (value != 0).all():
        return 1 / value, zero
    return None
