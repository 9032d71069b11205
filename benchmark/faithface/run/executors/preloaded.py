"""What the server imports, from which workers are forked: all that nearly every worker needs and that takes long.

Place in the flow: imported by the server of ``child``, by name. Imports only; it must run nothing, open nothing and
start no thread, because what it leaves is in every worker.
"""

from __future__ import annotations

import onnxruntime  # noqa: F401
import onnxscript.optimizer  # noqa: F401

import faithface.metrics
import faithface.run.executors.worker  # noqa: F401
from faithface.model._torchvision import import_onnx2pytorch

import_onnx2pytorch()
