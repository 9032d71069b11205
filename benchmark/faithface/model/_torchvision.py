"""Make ``onnx2pytorch`` importable where torchvision's compiled part cannot load.

Place in the flow: imported by ``twin.py`` only. onnx2pytorch imports torchvision for one operator (deformable
convolution). A CPU-only torch beside a CUDA torchvision leaves torchvision's compiled operators undeclared, and
torchvision registers shape functions for two of them at import, which then fails. Declaring the two schemas, and only
when that import has failed for this reason, lets the import finish; calling them still fails, as it should.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

import torch

_SCHEMAS = (
    "nms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
)


def import_onnx2pytorch() -> ModuleType:
    """Return the module ``onnx2pytorch``, declaring torchvision's missing schemas if the import needs them."""
    try:
        return importlib.import_module("onnx2pytorch")
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    for name in [n for n in sys.modules if n.split(".")[0] in ("torchvision", "onnx2pytorch")]:
        del sys.modules[name]
    for schema in _SCHEMAS:
        try:
            # The library object must outlive the import; "FRAGMENT" because torchvision may have made its own.
            _KEEP.append(torch.library.Library("torchvision", "FRAGMENT"))
            _KEEP[-1].define(schema)
        except RuntimeError:
            continue
    return importlib.import_module("onnx2pytorch")


# Not state that anything reads: torch drops a library's operators when the object is collected.
_KEEP: list[torch.library.Library] = []
