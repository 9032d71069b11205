"""Boards as Markdown, and all files of a board. The same records give the same bytes: fixed formats, no dates.

Place in the flow: ``publish`` hands over a board; :func:`board_files` returns what to write, by relative path. Calls
``legend`` and ``spreadsheet``; imports tabulate.
"""

from __future__ import annotations

import collections
import hashlib
from collections.abc import Iterable, Sequence
from urllib.parse import quote

from tabulate import tabulate

from faithface.boards import escaping
from faithface.boards.across import MEANING, Across, across_tables
from faithface.boards.board import Board, Column, Table, passed
from faithface.boards.claims import claim
from faithface.boards.controls import controls_text
from faithface.boards.flags import flag_lines, implausible
from faithface.boards.legend import apart, marks_text, tier_text, verdict_text
from faithface.boards.outcomes import Decision, Split
from faithface.boards.record import Number, Record
from faithface.boards.spreadsheet import splits_csv, table_csv
from faithface.boards.verdicts import LEGEND, SIGNS
from faithface.reasons import ReasonCode, Status
from faithface.run.paths import safe

ARROW = {"higher": "↑", "lower": "↓"}
LONGEST = 300_000  # letters of tables after which a page only links to further ones: GitHub shows no long files
SHORT = 3  # protocols of a table that GitHub shows without scrolling
JUDGED = {
    "all": "all samples",
    "genuine": "genuine pairs",
    "impostor": "impostor pairs",
    "positive": "the positive class",
    "negative": "other classes",
}


def board_files(board: Board) -> dict[str, str]:
    """Return a board's files by relative path: ``README.md`` and one CSV per table."""
    files = {"README.md": markdown(board)}
    for name, table in zip(unique_names(board), board.tables, strict=True):
        files[f"tables/{name}.csv"] = table_csv(table)
        if table.splits:
            files[f"tables/{name}--decisions.csv"] = splits_csv(table)
    return files


def unique_names(board: Board) -> list[str]:
    """Return the file name of each table, without suffix.

    Two model files of one name, or two revisions of one dataset, have a table each.
    """
    names = [table_name(table) for table in board.tables]
    times = collections.Counter(names)
    pairs = zip(names, board.tables, strict=True)
    return [name if times[name] == 1 else f"{name}-{setting_hash(table)}" for name, table in pairs]


def setting_hash(table: Table) -> str:
    """Return eight letters for what makes a table's records comparable."""
    model, data = table.first.model, table.first.dataset
    text = f"{model.sha256}|{data.revision}|{data.size}|{data.limit}|{data.seed}"
    return hashlib.sha256(text.encode()).hexdigest()[:8]


def table_name(table: Table) -> str:
    """Return a table's file name, without suffix."""
    record = table.first
    what = record.model.name if table.kind == "explainers" else f"models--{record.explainer.spec}"
    return safe(f"{safe(what)}--{safe(record.dataset.spec)}")


def figure(value: float | None) -> str:
    """Return a number with about four figures; an en dash for none.

    Examples:
        >>> [figure(x) for x in (0.07123, -1.5, 12.345, None)]
        ['0.0712', '-1.500', '12.35', '–']
    """
    if value is None:
        return "–"
    digits = 4 if abs(value) < 1 else 3 if abs(value) < 10 else 2 if abs(value) < 100 else 1
    text = f"{value:.{digits}f}"
    return text.replace("-", "") if float(text) == 0 else text


def escape(text: str) -> str:
    """Return a text that stays in its Markdown table cell."""
    return escaping.markdown(text)


def pipe(rows: Iterable[Sequence[str]], headers: Sequence[str]) -> str:
    """Return a Markdown table; every cell is escaped."""
    body = [[escape(cell) for cell in row] for row in rows]
    return tabulate(body, headers=[escape(h) for h in headers], tablefmt="pipe", disable_numparse=True)


def cell_text(number: Number | None, rank: str | None) -> str:
    """Return a table's cell: ``number [low, high] · rank``, or why there is no number."""
    if number is None:
        return "–"
    if number.status != "ok":
        return number.status
    if number.number is None:
        return "–"
    text = figure(number.number)
    if (gate := passed(number)) is not None:
        return f"{'passed' if gate else 'failed'} ({text})"
    if number.low is not None and number.high is not None:
        text += f" [{figure(number.low)}, {figure(number.high)}]"
    return text if rank is None else f"{text} · {rank}"


def table_markdown(table: Table, columns: Sequence[Column] | None = None) -> str:
    """Return the body of a table in Markdown.

    Args:
        columns: the protocols to show; None: all that apply to some row.
    """
    columns = shown_columns(table) if columns is None else columns
    headers = [
        "explainer" if table.kind == "explainers" else "model",
        *(f"{c.protocol} {ARROW[c.sample.better]}{apart(c)}" for c in columns),
    ]
    lines: list[list[str]] = []
    runs = collections.Counter(row.record.model.family for row in table.rows)
    family = ""
    for row in table.rows:
        if table.kind == "models" and row.record.model.family != family:
            family = row.record.model.family
            if runs[family] > 1:
                lines.append(family_line(table, family))
        cells = [cell_text(row.number(c.protocol), row.rank(c.protocol)) for c in columns]
        lines.append([f"{row.title} (control)" if row.control else row.title, *cells])
    return pipe(lines, headers)


def family_line(table: Table, family: str) -> list[str]:
    """Return the line that sums up a family's runs: the mean of their numbers, the smallest and the largest."""
    line = [f"**{family}** (mean of runs, min – max)"]
    for column in shown_columns(table):
        found = [row.number(column.protocol) for row in table.rows if row.record.model.family == family]
        values = [n.number for n in found if n is not None and n.number is not None]
        if not values:
            line.append("–")
        else:
            mean = sum(values) / len(values)
            line.append(f"**{figure(mean)}** ({figure(min(values))} – {figure(max(values))}, {len(values)} runs)")
    return line


def protocol_markdown(table: Table) -> str:
    """Return the table of the protocols behind a table's columns: direction, range, what is judged, n."""
    lines = []
    for column in shown_columns(table):
        one = column.sample
        found = [n for row in table.rows if (n := row.number(column.protocol)) is not None and n.status == "ok"]
        lines.append(
            [
                column.protocol,
                f"{one.better} is better {ARROW[one.better]}",
                f"{bound(one.range[0], '−')} … {bound(one.range[1], '')}",
                bound(one.best, ""),
                JUDGED.get(one.which, one.which),
                span(n.n for n in found),
                span(n.invalid for n in found),
                verdict_text(column),
                one.source,
            ]
        )
    return pipe(lines, ["protocol", "direction", "range", "best", "judged on", "n", "invalid", "audit", "source"])


def explainers_markdown(table: Table) -> str:
    """Return the table of the explainers behind a table's rows: source, what each uses, package, tier."""
    lines = []
    for row in table.rows:
        one = row.record.explainer
        package = f"{one.origin.distribution} {one.origin.distribution_version}".strip()
        lines.append([row.title, one.source or "–", ", ".join(one.needs) or "–", package, tier_text(row)])
    return pipe(lines, ["explainer", "source", "uses", "package", "tier"])


def bound(value: float | None, sign: str) -> str:
    """Return an end of a range; None is infinity."""
    return f"{sign}∞" if value is None else f"{value:g}"


def span(numbers: Iterable[int]) -> str:
    found = sorted(set(numbers))
    if not found:
        return "–"
    return str(found[0]) if len(found) == 1 else f"{found[0]}–{found[-1]}"


def shown_columns(table: Table) -> list[Column]:
    """Return the columns that apply to a scored row; a suite for several tasks has some that fit none here."""
    scored = [row for row in table.rows if row.record.status == "ok"]
    shown = [
        column
        for column in table.columns
        if any((n := row.number(column.protocol)) is not None and n.status != Status.NOT_APPLICABLE for row in scored)
    ]
    return shown or list(table.columns)


def remarks(table: Table) -> list[str]:
    """Return one line per failure and per part that was not applicable, with its reason."""
    shown = shown_columns(table)
    lines = []
    for row in table.rows:
        if row.record.status != "ok":
            lines.append(f"`{row.title}` {row.record.status}: {row.record.reason}")
            continue
        for column in shown:
            number = row.number(column.protocol)
            if number is not None and number.reason:
                what = number.status if number.status != "ok" else "without a number"
                lines.append(f"`{row.title}`, `{column.protocol}` {what}: {number.reason}")
    for column in table.columns:
        found = [n for row in table.rows if (n := row.number(column.protocol)) and n.status != Status.FAILED]
        # A suite for several tasks has protocols that nobody expects here.
        if column not in shown and found and found[0].code != ReasonCode.OTHER_TASK:
            lines.append(f"`{column.protocol}` not applicable: {found[0].reason}")
    return [*lines, *flag_lines(table)]


def setting(table: Table) -> str:
    """Return one line on the model, the data and the clean accuracy behind a table."""
    record = table.first
    model, data = record.model, record.dataset
    parts = [f"{data.samples} of {data.size} samples (seed {data.seed})", f"dataset revision {data.revision}"]
    if table.kind == "explainers":
        parts.insert(0, f"model file sha256 `{model.sha256[:12]}`")
        parts.append(clean_text(record))
        if model.threshold is not None:
            parts.append(f"decision threshold {figure(model.threshold)}")
    return " · ".join(parts)


def clean_text(record: Record) -> str:
    accuracy = record.model.clean_accuracy
    if accuracy is None:
        named = ", ".join(record.model.unmatched)
        return f"clean accuracy unknown ({named}: no classes of the card)" if named else "clean accuracy unknown"
    return f"clean accuracy {100 * accuracy:.1f} % (n = {record.model.clean_n})"


def heading(table: Table) -> str:
    record = table.first
    if table.kind == "explainers":
        return f"{record.model.name} on {record.dataset.spec}"
    return f"Models by {record.explainer.spec} on {record.dataset.spec}"


def across_markdown(across: Across) -> list[str]:
    """Return the section on a task's tables together."""
    heads = ["explainer", *(f"{family}: first tie class" for family in across.families), "gates passed"]
    lines = [[line.title, *(str(line.first[one]) for one in across.families), str(line.gates)] for line in across.lines]
    rows = [[escape(cell) for cell in line] for line in lines]
    table = tabulate(rows, headers=heads, tablefmt="pipe", disable_numparse=True)
    title = f"{across.task}: {len(rows)} explainers, {across.tables} {across.what}s"
    return [
        f"## Across the tables: {across.task}",
        f"{escape(across.text())} {MEANING}",
        f"<details><summary>{title}</summary>\n\n{table}\n\n</details>",
    ]


def markdown(board: Board) -> str:
    """Return the board's page."""
    parts = [f"# {board.suite} v{board.version}"]
    if board.description:
        parts.append(escape(board.description))
    parts.append(
        "Each cell: number [95 % interval] · rank. A rank such as 1-3 is an interval: with 95 % confidence all true "
        "ranks of a column lie inside theirs (paired comparisons by person where faces repeat, corrected for all "
        "pairs). Gates are passed or failed. Gates, descriptions, costs and protocols with a summary of their own are "
        "not ranked, and neither is a metric that the audit does not let judge, nor anything with too few samples or "
        "people. Rows are in the order of the first column; controls stand at the foot and are not ranked. The tables "
        "are made from the records beside them and the audit of the metrics; `faithface leaderboard build` on this "
        "folder must change nothing."
    )
    if marks := marks_text(column for table in board.tables for column in shown_columns(table)):
        signs = tuple(SIGNS[mark] for mark in LEGEND)
        parts.append("\n".join(f"{'' if line.startswith(signs) else '  '}* {escape(line)}" for line in marks))
    explainers = [row for table in board.tables if table.kind == "explainers" for row in table.rows]
    if legend := controls_text(row.title for row in explainers if row.control):
        parts.append(escape(legend))
    parts += [part for one in across_tables(board.tables) for part in across_markdown(one)]
    spent = 0
    linked = []
    for name, table in zip(unique_names(board), board.tables, strict=True):
        if spent > LONGEST:
            linked.append(f"* [{escape(heading(table))}](tables/{quote(name)}.csv)")
            continue
        before = len(parts)
        columns = shown_columns(table)
        warned = [f"**{escape(line)}**" for line in implausible(table)]
        parts += [
            f"## {escape(heading(table))}",
            *warned,
            escape(setting(table)),
            table_markdown(table, columns[:SHORT]),
        ]
        if table.kind == "explainers" and columns:
            parts.append(escape(f"{columns[0].protocol}: {claim(table, columns[0])}"))
        if len(columns) > SHORT:
            rest = table_markdown(table, columns[SHORT:])
            title = f"{len(columns) - SHORT} more protocols"
            parts.append(f"<details><summary>{title}</summary>\n\n{rest}\n\n</details>")
        if any(split.number is not None for split in table.splits):
            title = "By the model's decision"
            parts.append(f"<details><summary>{title}</summary>\n\n{splits_markdown(table)}\n\n</details>")
        found = remarks(table)
        if found:
            parts.append("\n".join(f"* {escape(line)}" for line in found))
        if table.kind == "explainers":
            said = "Explainers: what they use, and their tier"
            parts.append(f"<details><summary>{said}</summary>\n\n{explainers_markdown(table)}\n\n</details>")
        parts.append(f"<details><summary>Protocols</summary>\n\n{protocol_markdown(table)}\n\n</details>")
        spent += sum(len(part) for part in parts[before:])
    if linked:
        parts += [f"## {len(linked)} more tables", "\n".join(linked)]
    parts += published(board.records)
    parts.append(where(board.records))
    return "\n\n".join(parts) + "\n"


def splits_markdown(table: Table) -> str:
    """Return the first protocols' numbers by the model's decision; the CSV beside the table has all."""
    shown = [
        column.protocol for column in shown_columns(table) if any(s.protocol == column.protocol for s in table.splits)
    ]
    by = {(s.explainer, s.protocol, s.decision): s for s in table.splits}
    decisions = [d for d in Decision if any(s.decision is d and s.protocol in shown[:SHORT] for s in table.splits)]
    lines = []
    for protocol in shown[:SHORT]:
        for row in table.rows:
            cells = [split_text(by.get((row.title, protocol, d))) for d in decisions]
            if any(cell != "–" for cell in cells):
                lines.append([protocol, row.title, *cells])
    return pipe(lines, ["protocol", "explainer", *decisions])


def split_text(split: Split | None) -> str:
    """Return a split's cell: number, interval and n, or that there are too few pairs."""
    if split is None:
        return "–"
    if split.number is None:
        return f"too few (n = {split.n})"
    interval = "" if split.low is None or split.high is None else f" [{figure(split.low)}, {figure(split.high)}]"
    return f"{figure(split.number)}{interval} (n = {split.n})"


def published(records: Sequence[Record]) -> list[str]:
    """Return the section of figures from papers; they stand beside the board and are never ranked with it."""
    entries = list(dict.fromkeys(entry for record in records for entry in record.suite.published))
    if not entries:
        return []
    rows = [(e.explainer, e.protocol, figure(e.value), e.source, e.note) for e in entries]
    return [
        "## Published figures, for comparison",
        "From the sources named, on other models and partly by protocols that differ: not measured here, not ranked.",
        pipe(rows, ("explainer", "nearest protocol", "published", "source", "what differs")),
    ]


def where(records: Sequence[Record]) -> str:
    """Return the lines on where the numbers come from: devices, versions, trust."""
    places = sorted({place(record) for record in records})
    levels = "What others have run again: [trust.csv](trust.csv); everything else is self-reported."
    return "\n".join(["## Where", "", *(f"* {escape(one)}" for one in places), "", levels])


def place(record: Record) -> str:
    at = record.where
    # Not the batch: it is measured anew for every model and run, and no number depends on it (each record keeps it).
    text = f"{at.device} ({at.device_name}, {at.provider or 'not opened'}), {at.system}"
    text += f", faithface {at.versions.get('faithface', '?')}"
    if at.commit:
        commit, _, changes = at.commit.partition("+")
        text += f" at commit {commit[:12]}{'+' + changes if changes else ''}"
    return text
