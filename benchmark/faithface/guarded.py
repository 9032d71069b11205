"""``faithface inspect`` in a process of its own, with limits on its time and memory.

Place in the flow: the command line calls :func:`inspect_guarded`, which starts this module as a program; that calls
``model.inspect``. Imports the standard library, ``files``, ``limits`` and ``errors``; the child all that inspecting
needs.

The file is screened before it is opened (``model/screen.py``), but what a graph computes cannot be
known from the file. A network that hangs, crashes or takes all memory ends the child, and the user gets one line.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.limits import INSPECT_BYTES, INSPECT_SECONDS, INSPECT_SECONDS_PER_MIB, MIB, readable_size

_WAIT = 3  # the wall clock may run this many times the processor time, on a busy machine
_START = 60.0  # seconds of wall clock in which the libraries load


def inspect_guarded(path: Path, device: str = "cpu", allow_outside: bool = False) -> dict[str, Any]:
    """Inspect a card or network in a child process.

    Returns:
        ``report``: :meth:`Report.as_dict`; ``text``: :meth:`Report.text`.

    Raises:
        UsageError: as :func:`faithface.model.inspect.inspect_model`, or the network takes more than the limits.
        RunError: the child ended in another way.
    """
    size = weight_of(path)
    seconds = INSPECT_SECONDS + INSPECT_SECONDS_PER_MIB * size / MIB
    memory = INSPECT_BYTES + 10 * size
    with tempfile.TemporaryDirectory() as folder:
        answer = Path(folder) / "answer.json"
        asked = json.dumps([str(path), device, allow_outside, seconds, memory, str(answer)])
        try:
            done = subprocess.run(
                [sys.executable, "-m", "faithface.guarded", asked],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                timeout=_START + _WAIT * seconds,
                check=False,
            ).returncode
        except subprocess.TimeoutExpired:
            done = -int(getattr(signal, "SIGXCPU", signal.SIGTERM))
        try:
            said = json.loads(answer.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            raise _ended(path, done, seconds, memory) from None
    if "error" in said:
        raise (UsageError if said["code"] == UsageError.exit_code else RunError)(said["error"])
    return said  # type: ignore[no-any-return]


def weight_of(path: Path) -> int:
    """Return the size in bytes of the ``.onnx`` files and their data in a path's folder that inspecting may read."""
    try:
        files = [path, *path.parent.glob("*.onnx*")] if path.suffix.lower() == ".toml" else [path, *_data_of(path)]
        return sum(file.stat().st_size for file in files if file.is_file())
    except (OSError, ValueError):
        return 0


def _data_of(path: Path) -> list[Path]:
    return [other for other in path.parent.iterdir() if other.name.startswith(path.name) and other != path]


def _ended(path: Path, code: int, seconds: float, memory: int) -> FaithfaceError:
    if -code in (getattr(signal, "SIGXCPU", None), getattr(signal, "SIGKILL", None), signal.SIGTERM):
        return UsageError(
            f"{path} is refused: computing it took more than {seconds:.0f} s of processor time or "
            f"{readable_size(memory)} of memory"
        )
    how = f"signal {signal.Signals(-code).name}" if -code in set(signal.Signals) else f"exit code {code}"
    return RunError(f"{path} cannot be inspected: its computation ended the process ({how})")


def limit_process(seconds: float, memory: int) -> None:
    """Limit this process from now on; where the system has no such limits, only the parent's clock applies."""
    try:
        import resource
    except ImportError:
        return
    used = sum(resource.getrusage(resource.RUSAGE_SELF)[:2])
    wanted = {resource.RLIMIT_CPU: int(used + seconds) + 1, resource.RLIMIT_CORE: 0}
    statm = Path("/proc/self/statm")
    if statm.exists():
        wanted[resource.RLIMIT_DATA] = int(statm.read_text().split()[5]) * os.sysconf("SC_PAGE_SIZE") + memory
    for what, value in wanted.items():
        hard = resource.getrlimit(what)[1]
        resource.setrlimit(what, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def _child(asked: str) -> None:
    path, device, allow_outside, seconds, memory, answer = json.loads(asked)
    from faithface.contract.running import is_out_of_memory
    from faithface.model.inspect import inspect_model

    limit_process(seconds, memory)
    try:
        report = inspect_model(path, device, allow_outside)
        said: dict[str, Any] = {"report": report.as_dict(), "text": report.text()}
    except Exception as error:  # ONNX, ONNX Runtime and torch raise unrelated classes on unsupported networks
        code = UsageError.exit_code
        if is_out_of_memory(error):
            text = f"{path} is refused: computing it took more than {readable_size(memory)} of memory"
        elif isinstance(error, FaithfaceError):
            text, code = " ".join(str(error).split()), error.exit_code
        else:
            first = (str(error).strip().splitlines() or [""])[0][:300]
            text = f"{path} cannot be inspected ({type(error).__name__}: {first})"
        said = {"error": text, "code": code}
    Path(answer).write_text(json.dumps(said), encoding="utf-8")


if __name__ == "__main__":
    _child(sys.argv[1])
    os._exit(0)  # threads that the network left behind are not waited for
