"""How fast faithface is, against the network itself and against other libraries, from one process.

Place in the flow: behind ``faithface bench``; calls ``perturb``, ``model`` and ``plugins``. Nothing else imports it.

:func:`run_bench` measures and returns plain data, :func:`render` makes it text, :func:`draw` a picture.

``suite.py`` (what is measured) · ``subjects.py`` (the networks) · ``timing.py`` · ``work.py`` (what is timed) ·
``efficiency.py`` · ``rivals.py`` (Quantus, torch-cam) · ``explainers.py`` · ``gpu.py`` · ``memory.py`` · ``report.py``
"""

from faithface.bench.report import draw, render
from faithface.bench.suite import run_bench

__all__ = ["draw", "render", "run_bench"]
