"""``bench``'s results as text and as a figure.

Place in the flow: called by ``suite``; gets plain data, measures nothing.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tabulate import tabulate


def render(result: dict[str, Any]) -> str:
    """Return the tables as plain text."""
    machine = result["machine"]
    versions = ", ".join(f"{k} {v}" for k, v in machine["versions"].items())
    head = f"{machine['device']}, {machine['threads']} threads, device {result['device']}; {versions}"
    parts = [
        head,
        "",
        "deletion@1 + insertion@1, 51 points (blur fill; beside other libraries: black)",
        _engine(result),
    ]
    thrice = [
        f"{r['role']}: {_ratio(r['quantus_by_pixels'])}"
        for r in result["engine"]
        if "ratio" in r.get("quantus_by_pixels", {})
    ]
    if thrice:
        parts += [
            "with PixelFlipping's step set to a number of pixels (three times as many passes): " + "; ".join(thrice)
        ]
    parts += ["", "time by ONNX Runtime's best policy / time by the autotuned engine and policy", _engines(result)]
    parts += ["", "gradient CAMs and attributions: time of the other library / time of faithface", _rivals(result)]
    rows: list[tuple[Any, ...]]
    keys = ("explainer", "forward", "backward", "maps_per_second", "efficiency", "skipped")
    rows = [tuple(r.get(key, "") for key in keys) for r in result["explainers"]]
    network = result["explainers"][0]["network"] if rows else ""
    headers = ("explainer", "forward", "backward", "maps/s", "efficiency", "note")
    parts += ["", f"passes per map, and maps per second ({network})", tabulate(rows, headers=headers)]
    rows = [(r["samples"], r.get("seconds", "–"), r.get("peak_mib", r.get("failed"))) for r in result["growth"]]
    parts += ["", "growth (small network, 11 points)", tabulate(rows, headers=("samples", "seconds", "peak MiB"))]
    rows = [(r["figure"], r["value"], r["bar"], _verdict(r["holds"])) for r in result["bars"]]
    parts += ["", "what the project promises", tabulate(rows, headers=("figure", "value", "bar", "holds"))]
    parts += ["", *result.get("notes", []), f"{result['seconds']} s"]
    return "\n".join(parts)


def _engine(result: dict[str, Any]) -> str:
    rows = [
        (
            f"{r['role']} ({r['network']})",
            "×".join(map(str, r["input"])),
            r["batch"] if r.get("side_by_side", 1) == 1 else f"{r['side_by_side']} × {r['batch']}",
            r["bare_passes_per_second"],
            r["metric_passes_per_second"],
            _ratio(r["efficiency"]),
            _ratio(r["quantus"]),
            _ratio(r["torchcam"]),
        )
        for r in result["engine"]
    ]
    headers = ("network", "input", "batch", "bare/s", "metric/s", "efficiency", "vs Quantus", "vs torch-cam")
    return tabulate(rows, headers=headers, disable_numparse=True)


def _engines(result: dict[str, Any]) -> str:
    found = result.get("engines", {"skipped": "measured on the host only"})
    if "skipped" in found:
        return str(found["skipped"])
    rows = [(r["network"], r["onnxruntime"], r["engine"], r["autotuned"], _ratio(r)) for r in found["networks"]]
    headers = ("network", "ONNX Runtime", "engine chosen", "its policy", "ratio")
    return tabulate(rows, headers=headers, disable_numparse=True)


def _rivals(result: dict[str, Any]) -> str:
    found, rows = result["gradcam"], []
    if "skipped" in found:
        rows.append(("pytorch-grad-cam", found["skipped"]))
    else:
        rows.append(("six CAMs of one batch, pytorch-grad-cam", _ratio(found["six"])))
        rows += [(f"{name} alone, pytorch-grad-cam", f"{ratio:.2f}×") for name, ratio in found["one_by_one"].items()]
    rows += [(f"{k}, captum", f"{v:.2f}×") for k, v in result["captum"].items() if isinstance(v, float)]
    if "vjp" in result:
        rows.append((f"{result['vjp']['outputs']} vector-Jacobian products, a loop", _ratio(result["vjp"])))
    return tabulate(rows, disable_numparse=True)


def _ratio(found: dict[str, Any]) -> str:
    if "skipped" in found:
        return "skipped"
    low, high = found["quartiles"]
    return f"{found['ratio']:.2f} ({low:.2f}–{high:.2f})"


def _verdict(holds: bool | None) -> str:
    return "not measured" if holds is None else "yes" if holds else "NO"


def draw(result: dict[str, Any], path: Path) -> None:
    """Draw efficiency and speed-ups, each with a line at 1, and peak memory; the suffix of ``path`` is the format."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 3.6), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    rows = result["engine"]
    names = [r["role"] for r in rows]
    left.bar(names, [r["efficiency"]["ratio"] for r in rows], color="#4477aa", width=0.6)
    left.axhline(1, color="black", linewidth=0.8)
    left.set_title("Efficiency: bare network time / metric time", fontsize=9)
    left.set_ylim(0, 1.1)
    for shift, key, colour in ((-0.18, "quantus", "#ee6677"), (0.18, "torchcam", "#ccbb44")):
        at = [i for i, r in enumerate(rows) if "ratio" in r[key]]
        middle.bar([i + shift for i in at], [rows[i][key]["ratio"] for i in at], 0.34, color=colour, label=key)
    middle.axhline(1, color="black", linewidth=0.8)
    middle.set_xticks(range(len(names)), names)
    middle.set_title("Times faster than another library", fontsize=9)
    middle.legend(fontsize=8)
    grown = [r for r in result["growth"] if "peak_mib" in r]
    right.plot([r["samples"] for r in grown], [r["peak_mib"] for r in grown], "o-", color="#4477aa")
    right.set_ylim(0, 1.2 * max((r["peak_mib"] for r in grown), default=1))
    right.set_title("Peak memory (MiB) against samples", fontsize=9)
    for axes in (left, middle, right):
        axes.tick_params(labelsize=8)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=150)
