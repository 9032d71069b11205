"""The checks of metrics, with what each asks and what to do.

Place in the flow: ``check_metric`` is what plugin authors call, through ``faithface.testing``. What a check does is
in ``asked_of_metrics``. May call ``findings`` and the core.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from faithface.applicability import metric_applies
from faithface.contract import Metric
from faithface.tasks import Task
from faithface.testing import asked_of_metrics as ask
from faithface.testing.findings import Check, Finding, Outcome, Report, Severity, expect, run_checks
from faithface.testing.shelf import borrowing

ERROR, WARNING = Severity.ERROR, Severity.WARNING
VALID = ("returns-scores", "one-per-sample", "nan-has-reason")
CHECKS: tuple[Check[ask.Trial], ...] = (
    Check(
        "documented",
        "Is the protocol written down, with its question and its parameters?",
        "write the class's docstring, and protocol.question",
        ask.documented,
        WARNING,
        once=True,
    ),
    Check(
        "cites-source",
        "Does `protocol.source` name the paper?",
        "name the paper, or say that there is none",
        ask.cites,
        WARNING,
        once=True,
    ),
    Check(
        "pickles",
        "Can it be sent to a worker process?",
        "define the class at the top of an importable module, and hold plain values",
        ask.pickles,
        once=True,
    ),
    Check(
        "summarises",
        "Does `summarise` give one number, and NaN for none?",
        "return float(...), and NaN where there are no values",
        ask.summarises,
        once=True,
    ),
    Check(
        "returns-scores",
        "Does `score` return the values that the protocol names?",
        "return faithface.Scores({'': values, ...}) with the names of protocol.values",
        ask.returns_scores,
    ),
    Check(
        "one-per-sample",
        "Is there one float64 per sample and value?",
        "return arrays of N numbers: values.astype(np.float64)",
        ask.one_per_sample,
        after=("returns-scores",),
    ),
    Check(
        "nan-has-reason",
        "Has every value that is missing a reason?",
        "give reasons={index: 'why'} for what is NaN",
        ask.reasons_for_nan,
        after=("returns-scores", "one-per-sample"),
    ),
    Check(
        "in-range",
        "Do all values lie in the declared range?",
        "correct protocol.range, or the formula",
        ask.in_range,
        after=VALID,
    ),
    Check(
        "any-map",
        "Does any map get a value in range, or a reason: constant, zero, tiny, huge?",
        "guard divisions by a range or a sum that may be 0",
        ask.any_map,
        after=(*VALID, "in-range"),
    ),
    Check(
        "deterministic",
        "Do two calls on the same maps give the same values?",
        "draw from samples.rng(index, purpose), and keep no state between calls",
        ask.deterministic,
        after=VALID,
    ),
    Check(
        "global-random",
        "Is it free of the global random generators?",
        "draw from samples.rng(index, purpose)",
        ask.global_random,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "batch-independent",
        "Is a sample's value the same alone and in a batch?",
        "score each sample by itself; what is about the set belongs into summarise",
        ask.batch_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "order-independent",
        "Is a sample's value the same at another place of the batch?",
        "draw per sample: samples.rng(index, purpose)",
        ask.order_independent,
        after=(*VALID, "deterministic"),
    ),
    Check(
        "company-independent",
        "Is a sample's value the same beside other samples?",
        "use nothing of the other samples of the batch",
        ask.company_independent,
        after=(*VALID, "deterministic", "batch-independent"),
    ),
    Check(
        "inputs-untouched",
        "Are maps, images and scores as they were?",
        "work on clones",
        ask.inputs_untouched,
        after=("returns-scores",),
    ),
    Check(
        "model-untouched",
        "Has the twin the same weights, hooks and modes as before?",
        "use model.with_weights for other weights",
        ask.model_untouched,
        after=("returns-scores",),
    ),
    Check(
        "process-untouched",
        "Are default dtype, gradient mode and the like as they were?",
        "use context managers",
        ask.process_untouched,
        after=("returns-scores",),
    ),
    Check(
        "memory-released",
        "Is nothing kept from call to call?",
        "keep no arrays in attributes or module variables",
        ask.memory_released,
        after=VALID,
    ),
    Check(
        "reads-maps",
        "Do other maps get other values?",
        "the value must depend on the maps",
        ask.reads_maps,
        after=VALID,
    ),
    Check(
        "right-direction",
        "Is the evidence better than noise and than its inverse, by `protocol.better`?",
        "check the sign, and protocol.better",
        ask.right_direction,
        after=(*VALID, "deterministic", "in-range", "reads-maps"),
    ),
    Check(
        "in-place",
        "Are maps with the evidence at its place better than mirrored ones?",
        "check the order of height and width",
        ask.in_place,
        after=(*VALID, "right-direction"),
    ),
)


def check_metric(
    metric: Metric,
    *,
    expected_failures: Mapping[str, str] | None = None,
    max_examples: int = 10,
    only: Sequence[str] | None = None,
    tasks: Sequence[Task] | None = None,
) -> Report:
    """Try a metric on maps whose worth is known, for every task that it declares.

    Args: as of :func:`~faithface.testing.check_explainer`.

    Returns:
        One finding per check and task. A metric that needs what the tiny networks do not have (several training runs,
        the model's own contributions, a second dataset) is skipped for that reason.
    """
    chosen = [check for check in CHECKS if only is None or check.name in only]
    declared = metric.protocol.tasks if tasks is None else set(tasks) & metric.protocol.tasks
    chosen_tasks = [t for t in ("pad", "synthetic-detection", "verification") if t in declared]
    found: list[Finding] = []
    if chosen_tasks:
        first: Any = chosen_tasks[0]
        found += run_checks([c for c in chosen if c.once], ask.Trial(metric, first, max_examples))
    for task in chosen_tasks:
        again = task == "synthetic-detection" and "pad" in chosen_tasks
        some = [c for c in chosen if not c.once and (not again or c.name in VALID)]
        trial = ask.Trial(metric, task, max_examples)  # type: ignore[arg-type]
        with borrowing():
            dataset = trial.samples.dataset
            assert dataset is not None
            if reason := metric_applies(trial.model.card, dataset, ask.Known(), metric):
                found.append(Finding("applies", task, Outcome.SKIPPED, Severity.NOTE, reason.detail))
                continue
            found += run_checks(some, trial, task)
    return Report("metric", metric.id, expect(found, expected_failures or {}, [c.name for c in CHECKS]))
