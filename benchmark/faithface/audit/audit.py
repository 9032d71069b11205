"""One audit from start to finish: the worlds, the exam, the evidence, the verdicts, the record.

Place in the flow: ``cli.audit`` calls :func:`audit`. May call everything beside it, ``plugins``, ``applicability``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version

import numpy as np

from faithface.applicability import metric_applies
from faithface.audit.evidence import finite_mean, kendall, monotone, paired_z, rank_agreement, samples_needed
from faithface.audit.exam import FAULT_NAMES, SUBJECT, Answers, Setting, examine, parameter_names, series
from faithface.audit.record import AuditRecord, Evidence, Examined, Finding, World
from faithface.audit.verdict import Claim, verdict_of
from faithface.contract import Explainer, Metric
from faithface.errors import UsageError
from faithface.plugins import Registry

TRUTH = "contribution-correlation@1"
# Metrics that no single explainer on one dataset can be examined by.
APART = frozenset({"family", "out-of-set"})


@dataclass(frozen=True)
class Place:
    """A world as the user gives it, by names.

    Attributes:
        subject: the explainer whose maps are damaged; ``contributions`` where the model gives its own.
        methods: further explainers.
    """

    model: str
    dataset: str
    subject: str
    methods: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return f"{self.model}/{self.dataset}/{self.subject}"

    @property
    def name(self) -> str:
        return f"{self.model} · {self.dataset.partition('(')[0]}"


PLACES: tuple[Place, ...] = (
    Place(
        "exact-verifier-16-0",
        "planted-verification",
        "contributions",
        ("fggb(reading=signed,norms=shared)", "hirescam", "saliency", "centre-prior", "edges"),
    ),
    Place(
        "exact-pad-16-0", "planted-pad", "contributions", ("grad-cam", "hirescam", "saliency", "centre-prior", "edges")
    ),
    Place(
        "planted-pad-guided-0", "planted-pad", "grad-cam", ("hirescam", "saliency", "oracle", "centre-prior", "edges")
    ),
)


def ranked_form(metric: Metric) -> str:
    """Return the text of a metric as boards rank it: with 11 points, and a grid of 14 cells, where it has these
    parameters and its points are the 51 of the pixel level."""
    names = parameter_names(metric)
    if "points" not in names or getattr(metric, "points", 0) != 51:
        return metric.id
    return f"{metric.id}(grid=14,points=11)" if "grid" in names else f"{metric.id}(points=11)"


def audit(
    registry: Registry,
    metrics: Mapping[str, Metric],
    places: Sequence[Place] = PLACES,
    samples: int = 100,
    seed: int = 0,
    suite: str = "all registered metrics",
    tell: Callable[[str], None] = lambda _line: None,
) -> AuditRecord:
    """Examine metrics, and return the record.

    Args:
        metrics: by text, as they are set.
        samples: per world, chosen as a run's limit chooses them.
        tell: receives lines of progress.

    Raises:
        UsageError: a name that is not registered, no metrics, or fewer than 4 samples.
    """
    if not metrics:
        raise UsageError("no metrics to examine; name a suite, or give --metric")
    if samples < 4:
        raise UsageError(f"samples is {samples}; expected at least 4, to estimate a spread")
    start, processor = time.perf_counter(), time.process_time()
    worlds: list[World] = []
    found: dict[str, dict[str, tuple[Evidence, bool]]] = {text: {} for text in metrics}
    refused: dict[str, list[Finding]] = {text: [] for text in metrics}
    for place in places:
        setting = open_place(registry, place)
        applying: dict[str, Metric] = {}
        for text, metric in metrics.items():
            reason = metric_applies(setting.model.card, setting.dataset, setting.subject, metric)
            if metric.protocol.needs & APART:
                refused[text].append(
                    _not_here(place, "needs several runs or datasets, which no world of the audit has")
                )
            elif reason is not None:
                refused[text].append(_not_here(place, reason.detail))
            else:
                applying[text] = metric
        answers = examine(setting, applying, samples, seed, tell)
        for text in applying:
            if text in answers.refused:
                refused[text].append(_not_here(place, answers.refused[text]))
        evidence = {
            text: _evidence(answers, text, metric) for text, metric in applying.items() if text in answers.values
        }
        evidence = {text: one for text, one in evidence.items() if one.n > 1}
        worlds.append(_world(place, setting, answers, evidence, metrics))
        for text, one in evidence.items():
            truth = evidence.get(TRUTH)
            if truth is not None:
                tau = _oriented_kendall(one, metrics[text], truth, metrics[TRUTH])
                one = one.model_copy(update={"with_truth": tau})
            found[text][place.name] = (one, setting.exact)
    examined = []
    for text, metric in metrics.items():
        claimed = metric.protocol.family, metric.protocol.better, metric.protocol.bar
        verdict, findings = verdict_of(Claim(*claimed), found[text])
        examined.append(
            Examined(
                metric=text,
                family=metric.protocol.family,
                better=metric.protocol.better,
                bar=metric.protocol.bar,
                verdict=verdict,
                findings=(*findings, *refused[text]),
                evidence={name: one for name, (one, _) in found[text].items()},
            )
        )
    return AuditRecord(
        suite=suite,
        faithface=version("faithface"),
        seed=seed,
        samples=samples,
        seconds=round(time.perf_counter() - start, 1),
        processor=round(time.process_time() - processor, 1),
        worlds=tuple(worlds),
        metrics=tuple(examined),
    )


def open_place(registry: Registry, place: Place) -> Setting:
    """Open the model and resolve the names of a world."""
    from faithface.model import open_model

    card, dataset = registry.model(place.model).object, registry.dataset(place.dataset).object
    subject = registry.explainer(place.subject).object
    methods: dict[str, Explainer] = {}
    for text in place.methods:
        explainer = registry.explainer(text).object
        if card.task in explainer.info.tasks:
            methods[text] = explainer
    exact = "contributions" in subject.info.needs
    return Setting(
        name=place.name,
        model=open_model(card),
        dataset=dataset,
        subject=subject,
        exact=exact,
        controls={
            "random": registry.explainer("random").object,
            "inverted": registry.explainer(f"inverted:{place.subject}").object,
        },
        methods=methods,
        cells=card.contributions.grid[0] if exact and card.contributions is not None else 14,
    )


def _not_here(place: Place, why: str) -> Finding:
    return Finding(check="applies", passed=False, world=place.name, detail=why)


def _evidence(answers: Answers, text: str, metric: Metric) -> Evidence:
    column, sign = answers.values[text], 1 if metric.protocol.better == "higher" else -1
    subject, random, inverted = (column[name] for name in (SUBJECT, "random", "inverted"))
    # What asks about patches is held against the order of patch means, all else against that of the ranked cells.
    kept = answers.by_patch if "contributions" in metric.protocol.needs else answers.quality
    quality = {name: float(np.mean(values)) for name, values in kept.items() if name in column}
    means = {name: mean for name, values in column.items() if np.isfinite(mean := finite_mean(values))}
    again = answers.again.get(text, {})
    first = again.get("first", {})

    def agreement(kind: str) -> float | None:
        return kendall(first, again[kind]) if kind in again else None

    return Evidence(
        n=int(np.isfinite(subject).sum()),
        means=means,
        real_over_random=paired_z(subject, random, sign),
        random_over_inverted=paired_z(random, inverted, sign),
        monotone=monotone(means, series(), sign),
        quality=rank_agreement(means, quality, sign),
        faults={name: paired_z(subject, column[name], sign) for name in FAULT_NAMES.values() if name in column},
        seed=agreement("seed"),
        points=agreement("points"),
        fill=agreement("fill"),
        batch=answers.batch.get(text),
        stable=samples_needed(subject, random, sign),
        passes=answers.passes.get(text, 0.0),
        seconds=answers.seconds.get(text, 0.0),
    )


def _oriented_kendall(one: Evidence, metric: Metric, other: Evidence, other_metric: Metric) -> float | None:
    tau = kendall(one.means, other.means)
    turned = metric.protocol.better != other_metric.protocol.better
    return None if tau is None else -tau if turned else tau


def _world(
    place: Place, setting: Setting, answers: Answers, evidence: Mapping[str, Evidence], metrics: Mapping[str, Metric]
) -> World:
    table: dict[str, dict[str, float]] = {}
    for first, one in evidence.items():
        for second, other in evidence.items():
            tau = _oriented_kendall(one, metrics[first], other, metrics[second])
            if tau is not None and first != second:
                table.setdefault(first, {})[second] = round(tau, 4)
    return World(
        name=place.name,
        model=place.model,
        sha256=setting.model.card.sha256 or "",
        dataset=place.dataset,
        revision=setting.dataset.revision,
        subject=place.subject,
        exact=setting.exact,
        n=answers.n,
        methods=tuple(setting.methods),
        quality={name: float(np.mean(values)) for name, values in answers.quality.items()},
        by_patch={name: float(np.mean(values)) for name, values in answers.by_patch.items()},
        kendall=table,
    )
