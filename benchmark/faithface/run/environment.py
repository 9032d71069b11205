"""Where a run happened: device, provider, versions, commit. Part of every record.

Place in the flow: called by ``driver`` once per run. Nothing that names a person or a host is collected. Model code is
imported only where it is asked, because the command line takes its version from here.
"""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path
from typing import Any

from faithface.model.target import execution_target

PACKAGES = ("faithface", "numpy", "scipy", "scikit-image", "torch", "onnx", "onnx2pytorch", "onnxscript", "captum")
RUNTIMES = ("onnxruntime-gpu", "onnxruntime", "openvino")


def version_of(distribution: str) -> str:
    """Return an installed distribution's version, or "" where it is not installed."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def describe_environment(device: str, batch_size: int | None) -> dict[str, Any]:
    """Return device, batch, versions and commit as plain JSON values; ``batch`` 0 = chosen by the model."""
    from faithface.threads import thread_count

    versions = {name: found for name in (*PACKAGES, *RUNTIMES) if (found := version_of(name))}
    versions["python"] = platform.python_version()
    return {
        "device": device,
        "device_name": _device_name(device),
        "threads": thread_count(),
        "batch": batch_size or 0,
        "system": f"{platform.system()} {platform.machine()}",
        "versions": dict(sorted(versions.items())),
        "commit": commit(),
    }


def _device_name(device: str) -> str:
    if execution_target(device).torch == "cuda":
        import torch

        return str(torch.cuda.get_device_name())
    return platform.machine()


def commit() -> str:
    """Return the git commit of a source checkout, with ``+changes`` where it was altered; "" for an installed wheel."""
    package = Path(__file__).resolve().parents[1]
    top = package.parents[1]
    # A virtual environment may lie inside somebody else's repository, whose commit says nothing of this code.
    if not (top / ".git").exists() or package.parent.name != "benchmark":
        return ""
    head = _git(top, "rev-parse", "HEAD")
    changed = _git(top, "status", "--porcelain", "--untracked-files=no")
    return f"{head}+changes" if head and changed else head


def _git(top: Path, *arguments: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(top), *arguments], capture_output=True, text=True, timeout=20, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()
