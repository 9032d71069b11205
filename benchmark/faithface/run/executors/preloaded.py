"""What the server imports, from which workers are forked: all that nearly every worker needs and that takes long.

Place in the flow: imported by the server of ``child``, by name. It must open nothing and start no thread, because what
it leaves is in every worker. It makes the server the parent of what dead workers leave behind, so that this is found.
"""

from __future__ import annotations

import warnings

import onnxruntime  # noqa: F401
import onnxscript.optimizer  # noqa: F401

import faithface.metrics
import faithface.run.executors.worker  # noqa: F401
from faithface.model._torchvision import import_onnx2pytorch
from faithface.run.executors.descendants import adopt

adopt()
# The server says so of each process that it has adopted and that has ended.
warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
import_onnx2pytorch()
