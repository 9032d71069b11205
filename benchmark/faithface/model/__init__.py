"""Models: a card and an ``.onnx`` file in, a :class:`~faithface.contract.FaceModel` out.

Place in the flow: called by ``run`` (one model per cell), explainers and metrics see only the contract's FaceModel.
May call ``contract``, ``tasks``, ``card``, ``errors``; never perturbation, metrics or runs.

``card.py`` reads cards · ``device.py`` names device lines · ``session.py`` runs the file by ONNX Runtime · ``pace.py``
measures how it runs fastest (``threads.py``) · ``twin.py`` derives a differentiable torch twin · ``layers.py`` finds
its layers · ``products.py`` multiplies by its Jacobian · ``onnx_model.py`` joins them into a FaceModel ·
``inspect.py`` describes a file.
"""

from faithface.model.card import load_card
from faithface.model.onnx_model import OnnxModel, open_model

__all__ = ["OnnxModel", "load_card", "open_model"]
