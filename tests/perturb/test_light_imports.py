"""Masking plans, fills and cards are imported without the network's libraries, which only a run needs."""

import json
import subprocess
import sys

import pytest

HEAVY = ("torch", "onnx", "onnxruntime", "matplotlib", "ray")


@pytest.mark.parametrize(
    "module",
    [
        "faithface.card",
        "faithface.contract",
        "faithface.images",
        "faithface.loading",
        "faithface.perturb",
        "faithface.model.target",
        "faithface.model.presets",
    ],
)
def test_importing_a_light_room_leaves_heavy_libraries_out(module):
    code = f"import json, sys, {module}; print(json.dumps([name for name in {HEAVY!r} if name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stdout) == []
