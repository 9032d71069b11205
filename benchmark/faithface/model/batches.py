"""Which batches a file takes, and whether the rows of a batch are independent of each other.

Place in the flow: called by ``onnx_model.py`` on opening. May call ``graph``, ``parity``, ``contract`` and ``errors``.
Runs the network through a function that it is given.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor

from faithface.contract.running import is_out_of_memory
from faithface.errors import RunError, UsageError
from faithface.model.graph import attributes, constants, opset
from faithface.model.parity import relative_difference

REPEATS = 8  # passes on which a graph with random operators is compared with itself
_RANDOM = frozenset({"Bernoulli", "Multinomial"})
MOST_BAKED = 64  # the largest batch that is looked for behind a dynamic axis


@dataclass(frozen=True)
class Batches:
    """What was found about a file's batches.

    Attributes:
        fixed: the only batch size that works; None: any.
        width: values per image in the output.
        note: what the user should know; "" for nothing.
        outputs: the outputs of the probe images, one row each.
    """

    fixed: int | None
    width: int
    note: str
    outputs: Tensor


def find_batches(
    run: Callable[[Tensor], Tensor],
    images: Callable[[int], Tensor],
    proto: onnx.ModelProto,
    what: str,
    declared: int | None,
    tolerance: float,
) -> Batches:
    """Try a file: one image at a time, several together, the same ones twice.

    Args:
        run: the network's outputs N×K for images.
        images: makes that many different images.
        what: the file, as messages call it.
        declared: the batch size that the file declares; None: dynamic.
        tolerance: largest relative difference between equal results.

    Raises:
        UsageError: no batch size works, results are random, or rows influence each other in a batch that is fixed.
        RunError: memory ran out on so few images.
    """
    if declared:
        whole = images(declared)
        outputs = run(whole)
        _check_fixed(run, whole, proto, what, outputs, tolerance)
        return Batches(declared, outputs.shape[1], _fixed(what, declared), outputs)
    try:
        three = images(3)
        alone = torch.cat([run(three[i : i + 1]) for i in range(3)])
    except RunError as error:
        if is_out_of_memory(error):  # no batch is smaller than one image
            raise
        return _baked(run, images, proto, what, tolerance, error)
    _check_repeats(run, three[:1], alone[:1], proto, what, tolerance)
    removed = _removed_note(proto, what)
    try:
        together = run(three)
    except RunError as error:
        if is_out_of_memory(error):
            raise
        return Batches(1, alone.shape[1], _baked_note(proto, what, 1), alone)
    if together.shape != alone.shape:
        return Batches(1, alone.shape[1], _baked_note(proto, what, 1), alone)
    if relative_difference(together, alone) <= tolerance or not torch.isfinite(alone).all():
        return Batches(None, alone.shape[1], removed, alone)
    # Rare randomness can look as if rows mixed.
    _check_repeats(
        lambda images: torch.cat([run(images[i : i + 1]) for i in range(3)]), three, alone, proto, what, tolerance
    )
    note = f"{what}: rows of a batch influence each other: {_why_rows_mix(proto)}. It runs on one image at a time"
    return Batches(1, alone.shape[1], note, alone)


def _baked(
    run: Callable[[Tensor], Tensor],
    images: Callable[[int], Tensor],
    proto: onnx.ModelProto,
    what: str,
    tolerance: float,
    error: RunError,
) -> Batches:
    """Find the batch that is built into the graph behind a dynamic axis."""
    stored = constants(proto.graph)
    shapes = [n.input[1] for n in proto.graph.node if n.op_type in ("Reshape", "Expand") and len(n.input) > 1]
    first = [int(v.ravel()[0]) for s in shapes if s in stored and (v := numpy_helper.to_array(stored[s])).size]
    likely = sorted({b for b in first if 1 < b <= MOST_BAKED}, key=lambda b: (-first.count(b), b))
    for batch in dict.fromkeys([*likely, 2, 4, 8, 16, 32, 64]):
        whole = images(batch)
        try:
            outputs = run(whole)
        except RunError:
            continue
        if len(outputs) == batch:
            _check_fixed(run, whole, proto, what, outputs, tolerance)
            return Batches(batch, outputs.shape[1], _baked_note(proto, what, batch), outputs)
    raise UsageError(f"{what} runs neither with one image nor with several: {error}") from None


def _check_fixed(
    run: Callable[[Tensor], Tensor],
    several: Tensor,
    proto: onnx.ModelProto,
    what: str,
    outputs: Tensor,
    tolerance: float,
) -> None:
    batch = len(several)
    _check_repeats(run, several, outputs, proto, what, tolerance)
    if batch == 1:
        return
    same = run(several[:1].expand(batch, -1, -1, -1))
    if torch.isfinite(same).all() and relative_difference(same[:1], outputs[:1]) > tolerance:
        raise UsageError(
            f"{what}: rows of a batch influence each other: {_why_rows_mix(proto)}; and its batch is fixed at {batch}, "
            "so no image has outputs of its own"
        )


def _check_repeats(
    run: Callable[[Tensor], Tensor], images: Tensor, once: Tensor, proto: onnx.ModelProto, what: str, tolerance: float
) -> None:
    if not torch.isfinite(once).all():
        return
    random = sorted(random_operators(proto))
    # A few random numbers may change nothing in one pass.
    if any(relative_difference(run(images), once) > tolerance for _ in range(REPEATS if random else 1)):
        named = f" ({', '.join(random)})" if random else ""
        raise UsageError(
            f"{what} gives other outputs for the same image: it was exported in training mode{named}; "
            "export it again after model.eval()"
        )


def random_operators(proto: onnx.ModelProto) -> set[str]:
    """Return the kinds of operators of a graph that draw random numbers, Dropout in training mode among them."""
    kinds = {n.op_type for n in proto.graph.node if n.op_type in _RANDOM or n.op_type.startswith("Random")}
    return kinds | ({"Dropout"} if _training_dropouts(proto) else set())


def _training_dropouts(proto: onnx.ModelProto) -> bool:
    stored = constants(proto.graph)
    for node in proto.graph.node:
        name = node.input[2] if node.op_type == "Dropout" and len(node.input) > 2 else ""
        if name and (name not in stored or numpy_helper.to_array(stored[name]).any()):
            return True
    return False


def _removed_note(proto: onnx.ModelProto, what: str) -> str:
    """Return a note where a Dropout in training mode changes nothing, because ONNX Runtime has removed it."""
    if not _training_dropouts(proto):
        return ""
    return (
        f"{what} was exported in training mode (Dropout), which ONNX Runtime ignores here: outputs are repeatable, as "
        "after model.eval(); export it again after model.eval(), so that other programs agree"
    )


def _why_rows_mix(proto: onnx.ModelProto) -> str:
    if trains(proto):
        return (
            "exported in training mode (BatchNormalization takes its statistics from the batch); "
            "export it again after model.eval()"
        )
    if any(node.op_type.startswith("DynamicQuantize") for node in proto.graph.node):
        return "dynamic quantisation takes one scale for all rows"
    return "an operator works across the batch axis"


def trains(proto: onnx.ModelProto) -> bool:
    """Whether a graph has a BatchNormalization in training mode."""
    for node in proto.graph.node:
        if node.op_type == "BatchNormalization":
            by_outputs = opset(proto) < 14 and sum(bool(name) for name in node.output) > 1
            if attributes(node).get("training_mode", 0) or by_outputs:
                return True
    return False


def _baked_note(proto: onnx.ModelProto, what: str, batch: int) -> str:
    stored = constants(proto.graph)
    where = ""
    for node in proto.graph.node:
        if node.op_type in ("Reshape", "Expand") and len(node.input) > 1 and node.input[1] in stored:
            shape = numpy_helper.to_array(stored[node.input[1]])
            if shape.size and int(np.ravel(shape)[0]) == batch:
                where = f" ({node.op_type} to '{node.output[0]}')"
                break
    return (
        f"{what} declares a dynamic batch axis, but a batch of {batch} is built into its graph{where}: it runs in "
        f"batches of {batch} only, which is slow. Export it again with x.flatten(1) or x.view(x.size(0), -1) in "
        "place of fixed numbers, and with the batch axis in dynamic_axes (or dynamic_shapes)"
    )


def _fixed(what: str, batch: int) -> str:
    return f"{what} takes batches of {batch} only, which is slow; export it again with a dynamic batch axis"
