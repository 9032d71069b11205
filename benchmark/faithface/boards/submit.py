"""From a finished run to a pull request: checks, records copied, boards built, and the words and commands to send it.

Place in the flow: ``faithface leaderboard submit`` prints what :func:`submit_run` returns. Calls ``validate`` and
``publish``. Runs no git: what is sent, and whether, is up to the submitter.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from faithface.boards.board import make_board
from faithface.boards.claims import claim
from faithface.boards.escaping import markdown
from faithface.boards.findings import Finding
from faithface.boards.inside import MetricOf, no_metric
from faithface.boards.publish import add_runs, records_of
from faithface.boards.record import RECORDS, Kept
from faithface.boards.render import heading, shown_columns
from faithface.boards.validate import validate_records
from faithface.boards.verdicts import Audit, audit_for
from faithface.errors import UsageError
from faithface.reasons import Status
from faithface.run.paths import safe


@dataclass(frozen=True)
class Submission:
    """A run that was added to its boards.

    Attributes:
        boards: the folders that were built.
        branch: a name for the git branch.
        commands: to send it, one per line.
        title, body: of the pull request; the body in Markdown.
    """

    boards: tuple[Path, ...]
    branch: str
    commands: tuple[str, ...]
    title: str
    body: str


class NotFit(UsageError):
    """A run whose records do not hold; ``findings`` says why."""

    def __init__(self, run: Path, findings: Sequence[Finding]) -> None:
        self.findings = tuple(findings)
        more = f" and {len(findings) - 1} more" if len(findings) > 1 else ""
        super().__init__(f"{run} cannot be submitted: {findings[0]}{more}")


def submit_run(run: Path, out: Path, metric_of: MetricOf = no_metric) -> Submission:
    """Check a finished run, add its records to the boards below ``out``, and say how to send them.

    Raises:
        UsageError: the run is not finished, its records do not hold, they belong to no suite, or a board is frozen.
        RunError: a board cannot be written.
    """
    records_of(run)
    kept, findings = validate_records(run / RECORDS, metric_of)
    if findings:
        raise NotFit(run, findings)
    suites = sorted({(one.record.suite.name, one.record.suite.version) for one in kept})
    if any(name == "adhoc" for name, _version in suites):
        raise UsageError(f"{run} belongs to no suite, so there is no board for it; run a suite: `faithface run SUITE`")
    boards = add_runs([run], out)
    names = ", ".join(dict.fromkeys(one.record.explainer.spec for one in kept if not one.record.explainer.control))
    title = f"Board {', '.join(f'{name} v{version}' for name, version in suites)}: {names or 'controls'}"
    title = title if len(title) <= 72 else f"{title[:71]}…"
    branch = safe(f"board-{suites[0][0]}-v{suites[0][1]}-{names.split(', ')[0] or 'controls'}")[:60]
    folders = [str(board) for board in boards] + [str(board.parent / "README.md") for board in boards]
    commands = (
        f"git switch -c {shlex.quote(branch)}",
        f"git add {' '.join(shlex.quote(folder) for folder in folders)}",
        f"git commit -m {shlex.quote(title)}",
        f"git push -u origin {shlex.quote(branch)}",
    )
    return Submission(tuple(boards), branch, commands, title, _body(kept, audit_for(boards[0])))


def _body(kept: Sequence[Kept], audit: Audit) -> str:
    """Return the pull request's text: what was run, where, what came out, and what its author has to state."""
    records = [one.record for one in kept]
    ok = [record for record in records if record.status is Status.OK]
    where = sorted({f"{r.where.device} ({r.where.device_name}), {r.where.system}" for r in records})
    versions = sorted({r.where.versions.get("faithface", "?") for r in records})
    commits = sorted({r.where.commit for r in records if r.where.commit})
    lines = [
        f"{len(records)} records ({len(ok)} with numbers), faithface {', '.join(versions)}, on {'; '.join(where)}.",
        *([f"Commit {', '.join(commits)}."] if commits else []),
    ]
    parts = ["\n".join(lines)]
    for table in make_board(kept, audit).tables:
        columns = shown_columns(table)
        if table.kind == "explainers" and columns:
            said = claim(table, columns[0])
            parts.append(f"**{markdown(heading(table))}**, {markdown(columns[0].protocol)}: {markdown(said)}")
    parts.append(
        "Please state:\n\n"
        "- [ ] I ran this myself, with the code that the records name.\n"
        "- [ ] Parameters were not chosen on the samples of this board.\n"
        "- [ ] Method and model may be used and named here (licence, consent of the people in the pictures).\n"
        "- [ ] I am / am not the author of the method."
    )
    return "\n\n".join(parts) + "\n"
