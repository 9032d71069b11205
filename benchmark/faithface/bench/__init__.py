"""How fast faithface is, against the network itself and against other libraries, from one process.

Place in the flow: behind ``faithface bench``; calls ``perturb``, ``model`` and ``plugins``. Nothing else imports it.

:func:`run_bench` measures and returns plain data, :func:`render` makes it text, :func:`figure` a picture, :func:`main`
does all three. ``subjects.py`` (the networks) · ``timing.py`` · ``engine.py`` · ``rivals.py`` (Quantus, torch-cam) ·
``explainers.py`` · ``memory.py`` · ``report.py``
"""

from faithface.bench.report import figure, render
from faithface.bench.suite import main, run_bench

__all__ = ["figure", "main", "render", "run_bench"]
