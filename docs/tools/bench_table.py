"""Write what ``faithface bench --json`` measured into a page, between two marks.

Place in the flow: ``python -m docs.tools.bench_table docs/explanation/bench.json docs/explanation/performance.md``.
Reads
the JSON, and measures nothing.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

BEGIN, END = "<!-- bench: written by docs.tools.bench_table -->", "<!-- bench: end -->"
_VERDICT = {True: "yes", False: "**no**", None: "not measured"}


def table(result: dict[str, Any]) -> str:
    """Return the machine, the promises and the engines as Markdown."""
    machine = result["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in machine["versions"].items())
    lines = [
        f"`faithface bench{' --quick' if result['quick'] else ''}` on {machine['threads']} threads of ",
        f"{machine['device']} ({versions}), in {result['seconds']:.0f} s:",
    ]
    text = "".join(lines) + "\n\n| figure | measured | promised | holds |\n| --- | --- | --- | --- |\n"
    for bar in result["bars"]:
        value = "–" if bar["value"] is None else f"{bar['value']:g}"
        promised = bar["bar"].replace(">=", "≥").replace("<=", "≤")
        text += f"| {bar['figure']} | {value} | {promised} | {_VERDICT[bar['holds']]} |\n"
    engines = result.get("engines", {}).get("networks", [])
    if engines:
        text += "\n| network | ONNX Runtime | engine chosen | its policy | times faster (quartiles) |\n"
        text += "| --- | --- | --- | --- | --- |\n"
        for row in engines:
            low, high = row["quartiles"]
            text += f"| {row['network']} | {row['onnxruntime']} | {row['engine']} | {row['autotuned']} "
            text += f"| {row['ratio']:.2f} ({low:.2f}–{high:.2f}) |\n"
    return text + _explainers(result)


def _explainers(result: dict[str, Any]) -> str:
    """Return the explainers' passes, speed and efficiency, and the ratios to two other libraries."""
    rows = [row for row in result.get("explainers", []) if "maps_per_second" in row and row.get("forward")]
    text = ""
    if rows:
        text += f"\n| explainer, on {rows[0]['network']} | passes forward + backward | maps per second | efficiency |\n"
        text += "| --- | --- | --- | --- |\n"
        for row in rows:
            efficiency = f"{row['efficiency']:.2f}" if "efficiency" in row else "–"
            text += f"| `{row['explainer']}` | {row['forward']} + {row['backward']} | {row['maps_per_second']:g} "
            text += f"| {efficiency} |\n"
    singles = result.get("gradcam", {}).get("one_by_one", {})
    captum = {k: v for k, v in result.get("captum", {}).items() if isinstance(v, float)}
    if singles or captum:
        text += "\n| one explainer alone, ResNet-18 size | beside | times faster |\n| --- | --- | --- |\n"
        for found, library in ((singles, "pytorch-grad-cam"), (captum, "captum")):
            text += "".join(f"| `{name}` | {library} | {ratio:.2f} |\n" for name, ratio in found.items())
    return text


def main(arguments: Sequence[str]) -> None:
    """Write the table of a JSON file into a page that has both marks."""
    measured, page = map(Path, arguments)
    text = page.read_text(encoding="utf-8")
    if BEGIN not in text or END not in text:
        sys.exit(f"{page} has no marks; expected the lines '{BEGIN}' and '{END}'")
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    result = json.loads(measured.read_text(encoding="utf-8"))
    page.write_text(f"{before}{BEGIN}\n{table(result)}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
