"""What became of a cell, a metric or a value, and why: values that travel from the place that decides to the board.

Place in the flow: below everything; imports only the standard library. ``errors`` carries a code with each exception,
metrics give one with each value they cannot compute, the store keeps it, and boards print it. Nothing reads a detail
text to find out what happened.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Status(StrEnum):
    """What became of a cell (one explainer on one model and dataset) or of a metric in it."""

    PENDING = "pending"
    OK = "ok"
    FAILED = "failed"
    NOT_APPLICABLE = "not applicable"


class ReasonCode(StrEnum):
    """Why there is no number, or a remark on one that exists."""

    # Not applicable, known before anything runs.
    OTHER_TASK = "other-task"
    NO_GROUND_TRUTH = "no-ground-truth"
    NO_OUT_OF_SET = "no-out-of-set"
    NOT_ALIGNED = "not-aligned"
    CANNOT_REEXPLAIN = "cannot-reexplain"
    SINGLE_RUN = "single-run"
    NO_METRIC = "no-metric"
    # Not applicable, known once the model or the samples are open.
    NO_TWIN = "no-twin"
    QUANTISED = "quantised"
    NO_LAYER = "no-layer"
    NO_THRESHOLD = "no-threshold"
    NO_SAMPLES = "no-samples"
    NOT_APPLICABLE = "not-applicable"
    # A missing value of one sample.
    NON_FINITE_MAP = "non-finite-map"
    NON_FINITE_SCORE = "non-finite-score"
    UNDEFINED = "undefined"
    UNRELIABLE_REFERENCE = "unreliable-reference"
    # Failures, by who is at fault.
    EXPLAINER_RAISED = "explainer-raised"
    EXPLAINER_RETURNED = "explainer-returned"
    METRIC_RAISED = "metric-raised"
    METRIC_RETURNED = "metric-returned"
    MODEL_UNUSABLE = "model-unusable"
    DATASET_UNUSABLE = "dataset-unusable"
    WORKER_LOST = "worker-lost"
    TIME_LIMIT = "time-limit"
    MEMORY_LIMIT = "memory-limit"
    INPUT_CHANGED = "input-changed"
    STATE_CHANGED = "state-changed"
    LEFT_RUNNING = "left-running"
    USAGE = "usage"
    RUN = "run"
    # Remarks on values that exist.
    CONSTANT_MAP = "constant-map"
    NOT_DETERMINISTIC = "not-deterministic"
    REMARK = "remark"


@dataclass(frozen=True)
class Reason:
    """A code that programs act on, and a detail that people read.

    Attributes:
        code: what happened.
        detail: one line of text; never parsed. It is printed after the place it is about, so it need not name that.
    """

    code: ReasonCode
    detail: str

    @classmethod
    def of(cls, given: Reason | str | None, code: ReasonCode) -> Reason | None:
        """Return a reason as it is, a text as one with ``code``, and nothing (None or "") as None."""
        if isinstance(given, Reason):
            return given
        return cls(code, given) if given else None

    def __str__(self) -> str:
        return self.detail
