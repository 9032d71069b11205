"""What a command does at a failure beside recording it: stop the run, or open a debugger.

Place in the flow: ``run`` beside it puts :class:`FailFast` around its executor for ``--fail-fast``, and gives
:func:`post_mortem` to the executor in this process for ``--pdb``.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from faithface.cli.lines import say
from faithface.errors import RunError

if TYPE_CHECKING:
    from faithface.run.executors import Executor, Job
    from faithface.run.results import Event


class FirstFailure(RunError):
    """A run was stopped at its first failure."""

    def __init__(self, line: str, traceback: str) -> None:
        super().__init__("stopped at the first failure (--fail-fast); give the same command again to go on")
        self.line, self.traceback = line, traceback


class FailFast:
    """An executor that stops after the first failure, once the driver has written it."""

    def __init__(self, executor: Executor) -> None:
        self.executor = executor

    def __getattr__(self, name: str) -> Any:
        return getattr(self.executor, name)

    def __call__(self, job: Job, /) -> Iterator[Event]:
        from faithface.cli.progress import failure_line
        from faithface.reasons import Status
        from faithface.run.results import CellShard

        cells = {cell.number: cell for cell in job.group.cells}
        for event in self.executor(job):
            yield event
            if isinstance(event, CellShard):
                found = {"": event.failure} if event.failure else event.metric_failures
                for metric, failure in found.items():
                    if failure.status is Status.FAILED:
                        line = failure_line(job.group, cells[event.cell], metric, failure.reason)
                        raise FirstFailure(line, failure.traceback)


def post_mortem(error: BaseException) -> None:
    """Open Python's debugger where an exception was raised."""
    import pdb

    say(f"{type(error).__name__}: {error}")
    pdb.post_mortem(error.__traceback__)
