"""Write the board's table in README.md from the published demo board, between its two marks.

Place in the flow: `tox -e boards` calls it after rebuilding the boards, so that a table that is out of date shows as a
difference. Reads one CSV of the board; imports the standard library only.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
TABLE = ROOT / "leaderboards" / "demo" / "v0" / "tables" / "planted-pad-guided-0--planted-pad.csv"
COLUMNS = ("gap@1(grid=14)", "relevance-mass@1", "entropy@1")
ARROWS = {"higher": "↑", "lower": "↓"}
WHOLE = "The whole board: [demo v0](leaderboards/demo/v0/README.md)."
START, END = "<!-- board: written by .ci/readme_board.py -->", "<!-- board end -->"


def excerpt(table: Path) -> str:
    """Return some columns of a board's CSV as a Markdown table: number, interval, rank; rows in the board's order."""
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["protocol"] in COLUMNS and not row["value_name"]]
    rows = [row for row in rows if row["status"] != "not applicable"]
    better = {row["protocol"]: ARROWS[row["better"]] for row in rows}
    cells: dict[str, dict[str, str]] = {}
    for row in rows:
        cells.setdefault(row["explainer"], {})[row["protocol"]] = cell(row)
    lines = ["| explainer | " + " | ".join(f"{name} {better[name]}" for name in COLUMNS) + " |"]
    lines.append("| --- |" + " --- |" * len(COLUMNS))
    lines += [f"| {name} | " + " | ".join(found[column] for column in COLUMNS) + " |" for name, found in cells.items()]
    return "\n".join(lines)


def cell(row: dict[str, str]) -> str:
    if row["status"] != "ok" or not row["number"]:
        return row["status"]
    number, low, high = (f"{float(row[key]):.2f}" if row[key] else "" for key in ("number", "low", "high"))
    interval = f" [{low}, {high}]" if low and high else ""
    return number + interval + (f" · {row['rank']}" if row["rank"] else "")


def main() -> None:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    pattern = re.escape(START) + ".*?" + re.escape(END)
    made = f"{START}\n{excerpt(TABLE)}\n\n{WHOLE}\n{END}"
    path.write_text(re.sub(pattern, lambda _match: made, text, flags=re.DOTALL), encoding="utf-8")


if __name__ == "__main__":
    main()
