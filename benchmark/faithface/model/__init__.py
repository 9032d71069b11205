"""Models: a card and an ``.onnx`` file in, a :class:`~faithface.contract.FaceModel` out.

Place in the flow: called by ``run`` (one model per cell), explainers and metrics see only the contract's FaceModel.
May call ``contract``, ``tasks``, ``card``, ``threads``, ``errors``; never perturbation, metrics or runs.

``target.py`` names execution targets · ``session.py`` runs the file by ONNX Runtime · ``autotune.py`` measures the
fastest batching policy · ``feeding.py`` runs prepared rows in place · ``twin.py`` derives a differentiable torch twin ·
``layers.py`` finds its layers · ``products.py`` multiplies by its Jacobian · ``onnx_model.py`` joins them into a
FaceModel · ``inspect.py`` describes a file · ``presets.py`` holds cards of public networks.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from faithface.model.onnx_model import OnnxModel, open_model

__all__ = ["OnnxModel", "open_model"]


def __getattr__(name: str) -> Any:
    # Presets and the names of execution targets are read without torch, ONNX and ONNX Runtime.
    if name in __all__:
        from faithface.model import onnx_model

        return getattr(onnx_model, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
