"""How a network ends: the operators between the last scores and the output.

Place in the flow: used by ``twin`` (values before a final Softmax), ``onnx_model`` (does the card's kind of output fit)
and ``inspect`` (which kind to draft). Works on the ONNX graph; may call ``graph``.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx

from faithface.card import OutputKind
from faithface.model.graph import attributes, producers

# Operators that change neither the values of a row of scores nor their order.
_PASSES = frozenset({"Cast", "Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze"})
_SQUASHING = frozenset({"Softmax", "Sigmoid", "LogSoftmax"})


@dataclass(frozen=True)
class Ending:
    """What ends a graph.

    Attributes:
        operator: ``Softmax``, ``Sigmoid``, ``LogSoftmax``, or "" where the output is that of the last layer.
        before: the tensor that this operator reads; "" where there is none.
        normalised: the output is divided by its own norm (embeddings).
    """

    operator: str = ""
    before: str = ""
    normalised: bool = False


def ending(graph: onnx.GraphProto, output: str) -> Ending:
    """Read the last operators before ``output``, including a softmax that is written as Exp, ReduceSum and Div."""
    made_by = producers(graph)
    node = made_by.get(output)
    while node is not None and node.op_type in _PASSES:
        node = made_by.get(node.input[0])
    if node is None:
        return Ending()
    if node.op_type in _SQUASHING:
        return Ending(node.op_type, node.input[0])
    if node.op_type in ("LpNormalization",):
        return Ending(normalised=True)
    if node.op_type == "Div":
        top, bottom = (made_by.get(name) for name in node.input[:2])
        by_parts = top is not None and bottom is not None and (top.op_type, bottom.op_type) == ("Exp", "ReduceSum")
        if by_parts and top is not None and bottom is not None and bottom.input[0] == top.output[0]:
            return Ending("Softmax", top.input[0])
        below = node.input[1]
        while (maker := made_by.get(below)) is not None and maker.op_type in ("Clip", "Max", "Expand", "Add", "Sqrt"):
            below = maker.input[0]
        maker = made_by.get(below)
        if maker is not None and maker.op_type in ("ReduceL2", "ReduceSum", "ReduceSumSquare"):
            return Ending(normalised=True)
    return Ending()


def output_kind(end: Ending, units: int | None) -> OutputKind | None:
    """Return the card's kind of a classifier's output where the last operator shows it; None where it does not."""
    if end.operator == "Softmax":
        return "probabilities"
    if end.operator == "Sigmoid":
        return "probability" if units == 1 else "probabilities"
    return None


def looks_like_probabilities(outputs: np.ndarray) -> bool:
    """Whether rows of several outputs are in [0, 1] and sum to 1, which logits do by construction only.

    Args:
        outputs: N×K, finite, of images that differ.
    """
    if outputs.ndim != 2 or outputs.shape[1] < 2 or not np.isfinite(outputs).all():
        return False
    sums = outputs.sum(axis=1)
    return bool((outputs >= -1e-3).all() and (outputs <= 1 + 1e-3).all() and (np.abs(sums - 1) <= 2e-3).all())


def problem_with_kind(kind: OutputKind, end: Ending, outputs: np.ndarray) -> str:
    """Return why a card's kind of output cannot be right for a network; "" where it may be.

    Args:
        kind: what the card states.
        end: how the graph ends.
        outputs: N×K outputs of a few images.
    """
    inside = bool(np.isfinite(outputs).all() and (outputs >= -1e-3).all() and (outputs <= 1 + 1e-3).all())
    if kind == "logits" and (end.operator == "Softmax" or looks_like_probabilities(outputs)):
        why = "the graph ends in Softmax" if end.operator == "Softmax" else "rows are in [0, 1] and sum to 1"
        return f'{why}, so these are probabilities: write kind = "probabilities"'
    if kind in ("logits", "logit") and end.operator == "Sigmoid":
        right = "probability" if outputs.shape[1] == 1 else "probabilities"
        return f'the graph ends in Sigmoid, so its outputs are in [0, 1]: write kind = "{right}"'
    if kind in ("probabilities", "probability") and not inside and np.isfinite(outputs).all():
        low, high = float(outputs.min()), float(outputs.max())
        if end.operator == "LogSoftmax":
            return 'the graph ends in LogSoftmax: write kind = "logits", whose softmax gives the probabilities'
        right = "logit" if kind == "probability" else "logits"
        return f'they run from {low:.3g} to {high:.3g}, outside [0, 1]: write kind = "{right}"'
    return ""


def softmax_axis_is_last(graph: onnx.GraphProto, end: Ending, output: str) -> bool:
    """Whether a final Softmax runs over the classes of one image (its axis is 1 or -1), not over the batch."""
    made_by = producers(graph)
    node = made_by.get(output)
    while node is not None and node.op_type in _PASSES:
        node = made_by.get(node.input[0])
    if node is None or node.op_type != end.operator or end.operator == "Sigmoid":
        return end.operator != ""
    return int(attributes(node).get("axis", 1)) in (1, -1)
