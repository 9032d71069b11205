"""Networks that see a window of the image only: a multiplication and an addition in front of the ONNX graph.

Place in the flow: called by ``disconnected``. May call ``model.graph`` and the contract; imports onnx where it is used.

The input x, as the card prepares it, becomes x · M + C before anything else: M is 1 in the window and 0 outside, C is 0
in the window and the prepared mid-grey outside. What lies outside the window cannot change any value of the network,
whatever its weights are: it is multiplied by 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from faithface.contract import FaceModel

if TYPE_CHECKING:
    import onnx

GREY = 0.5  # what the network sees outside, in [0, 1]
PREFIX = "faithface-window"

Box = tuple[int, int, int, int]


def quarters(size: tuple[int, int]) -> tuple[Box, ...]:
    """Return the four quarters of an image as (top, bottom, left, right), ends excluded.

    Examples:
        >>> quarters((4, 6))
        ((0, 2, 0, 3), (0, 2, 3, 6), (2, 4, 0, 3), (2, 4, 3, 6))
    """
    height, width = size
    rows, columns = ((0, height // 2), (height // 2, height)), ((0, width // 2), (width // 2, width))
    return tuple((*row, *column) for row in rows for column in columns)


def dilated(box: Box, size: tuple[int, int], by: float) -> np.ndarray:
    """Return bool H×W: the box and all pixels that are at most ``by`` pixels from it along both axes."""
    top, bottom, left, right = box
    rows, columns = np.arange(size[0]), np.arange(size[1])
    inside_rows = (rows >= top - by) & (rows <= bottom - 1 + by)
    inside_columns = (columns >= left - by) & (columns <= right - 1 + by)
    return inside_rows[:, None] & inside_columns[None, :]


def windowed(model: FaceModel, box: Box) -> FaceModel:
    """Return the model with the window folded into its graph; opened once and kept with the model."""
    return model.cached(_windowed, box)


def _windowed(model: FaceModel, box: Box) -> FaceModel:
    assert model.proto is not None  # disconnected has made sure of it
    return model.with_weights(windowed_proto(model.proto, prepared_grey(model), box, model.card.input.layout == "NHWC"))


def prepared_grey(model: FaceModel) -> np.ndarray:
    """Return mid-grey as the network's input has it, float32 C×H×W (channels last where the card says so)."""
    from faithface.lazy import torch
    from faithface.model.twin import preprocess

    image = torch.full((1, 3, *model.size), GREY)
    return np.asarray(preprocess(image, model.card.input)[0].numpy())


def windowed_proto(proto: onnx.ModelProto, grey: np.ndarray, box: Box, channels_last: bool = False) -> onnx.ModelProto:
    """Return a copy of the network in whose graph the image is multiplied by the window before anything reads it."""
    import onnx
    from onnx import helper, numpy_helper

    from faithface.model.graph import image_inputs

    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    graph = copy.graph
    (name,) = image_inputs(graph)
    entry = next(one for one in graph.input if one.name == name)
    kind = helper.tensor_dtype_to_np_dtype(entry.type.tensor_type.elem_type)
    top, bottom, left, right = box
    mask = np.zeros(grey.shape, dtype=kind)
    where = (slice(top, bottom), slice(left, right))
    mask[(*where, slice(None)) if channels_last else (slice(None), *where)] = 1
    outside = ((1 - mask) * grey).astype(kind)
    for node in graph.node:
        node.input[:] = [f"{PREFIX}/seen" if one == name else one for one in node.input]
    graph.initializer.append(numpy_helper.from_array(mask[None], f"{PREFIX}/mask"))
    graph.initializer.append(numpy_helper.from_array(outside[None], f"{PREFIX}/outside"))
    first = helper.make_node("Mul", [name, f"{PREFIX}/mask"], [f"{PREFIX}/inside"], name=f"{PREFIX}/mul")
    second = helper.make_node(
        "Add", [f"{PREFIX}/inside", f"{PREFIX}/outside"], [f"{PREFIX}/seen"], name=f"{PREFIX}/add"
    )
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([first, second, *nodes])
    return copy
