"""What an audit leaves behind: one JSON file, from which its page is made.

Place in the flow: ``audit`` writes it, ``page`` reads it; the modules beside it make its parts. Imports pydantic.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict

from faithface.errors import UsageError

Verdict = Literal["judges", "with care", "describes", "fails", "not examined"]
RECORD = "audit.json"


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Finding(_Strict):
    """One reason of a verdict.

    Attributes:
        check: what was checked: ``order``, ``monotone``, ``fault``, ``same``, ``place``, ``gate``, ``samples``,
            ``applies`` or ``world``.
        passed: whether it speaks for the metric.
        world: where; "" for everywhere.
        detail: which fault, or which two maps.
        value: the number that was compared: a z value or a correlation; None where there is none.
        bar: what it was compared with.
    """

    check: str
    passed: bool
    world: str = ""
    detail: str = ""
    value: float | None = None
    bar: float | None = None


class Evidence(_Strict):
    """What one metric's values show in one world. z values are mean ÷ standard error of paired differences, oriented so
    that positive is right; ±99 where there is no spread.

    Attributes:
        n: samples with a value of the subject's map.
        means: the metric's mean by candidate, in its own direction.
        real_over_random, random_over_inverted: the two halves of the order subject > random > inverted subject.
        monotone: Spearman's correlation of the mean values of the subject and its three versions with the strength of
            the damage, mean over noise, shift and blur; 1 only if all three are in order. None where all are equal.
        quality: Spearman's correlation of the ten mean values with the versions' quality (:class:`World`).
        faults: z of own map against the fault, by fault.
        seed, points, fill: Kendall's τ of the order of candidates between two seeds; the metric's number of points and
            6; its fill and ``mean``. None where the metric has no such parameter.
        batch: largest difference of a value between a sample alone and in its batch.
        with_truth: Kendall's τ with contribution-correlation over all candidates; None where that is not known.
        stable: samples after which subject and random differ by 3 standard errors; None if never.
        passes, seconds: forward passes and seconds per sample, for one more explainer.
    """

    n: int
    means: dict[str, float]
    real_over_random: float
    random_over_inverted: float
    monotone: float | None
    quality: float | None = None
    faults: dict[str, float]
    seed: float | None = None
    points: float | None = None
    fill: float | None = None
    batch: float | None = None
    with_truth: float | None = None
    stable: int | None = None
    passes: float = 0.0
    seconds: float = 0.0


class Examined(_Strict):
    """One metric's exam: its evidence by world, and what follows."""

    metric: str
    family: str
    better: str
    bar: float | None = None
    verdict: Verdict
    findings: tuple[Finding, ...]
    evidence: dict[str, Evidence]


class World(_Strict):
    """Where metrics are examined.

    Attributes:
        exact: the subject's maps are the model's own contributions, so that the order of damaged versions is known.
        quality: of the subject's versions: mean over samples of the correlation with the undamaged map over 14×14
            cells.
        by_patch: the same over the patches of an exact network.
        kendall: Kendall's τ of two metrics' orders of all candidates, by the metrics' texts.
    """

    name: str
    model: str
    sha256: str
    dataset: str
    revision: str
    subject: str
    exact: bool
    n: int
    methods: tuple[str, ...]
    quality: dict[str, float]
    by_patch: dict[str, float] = {}
    kendall: dict[str, dict[str, float]] = {}


class FillCheck(_Strict):
    """Do a network and its twin that was fine-tuned on masked images put explainers in the same order?

    Attributes:
        kind: which maps judged samples: ``relevance``, ``similarity`` or ``dissimilarity``.
        tau: Kendall's τ of both orders.
        tau_told: the same over the pairs of explainers that one of the networks tells apart; None: there are none.
    """

    model: str
    fill: str
    kind: str
    n: int
    tau: float
    tau_told: float | None = None


class AuditRecord(_Strict):
    """An audit: sizes, versions, worlds and verdicts.

    Attributes:
        fills: what is known of fills, by ``python -m training.masked_twins``.
        seconds, processor: elapsed time, and processor time of all threads; both in seconds.
    """

    schema_version: int = 1
    suite: str
    faithface: str
    seed: int
    samples: int
    seconds: float
    processor: float = 0.0
    worlds: tuple[World, ...]
    metrics: tuple[Examined, ...]
    fills: tuple[FillCheck, ...] = ()


def read(path: Path) -> AuditRecord:
    """Read a record.

    Raises:
        UsageError: no such file, or not a record of an audit.
    """
    try:
        return AuditRecord.model_validate_json(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(f"{path}: no such file; expected the record that `faithface audit` writes") from None
    except ValueError as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"{path}: not a record of an audit ({first}); run `faithface audit` again") from None


def write(record: AuditRecord, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.model_dump_json(indent=1) + "\n", encoding="utf-8")
