"""The owner's report as one self-contained HTML page.

Place in the flow: the last step of ``faithface report``. May call ``report`` and ``shell``; how it looks stands in
``report.html.j2``.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from faithface.answers.decisions import OUTCOMES, Decisions, Rate
from faithface.answers.measures import MEASURES
from faithface.answers.report import Report
from faithface.answers.shell import data_uri, fill_template, plain, signed, write_text
from faithface.answers.trust import Trust

BINS = 40
OUTCOME_MEANINGS = {
    "verification": {
        "true accept": "one person, accepted",
        "true reject": "two people, rejected",
        "false accept": "two people, accepted",
        "false reject": "one person, rejected",
    },
    "other": {
        "true accept": "{negative}, accepted",
        "true reject": "{positive}, rejected",
        "false accept": "{positive}, accepted",
        "false reject": "{negative}, rejected",
    },
}


def render_report(report: Report) -> str:
    """Return the page as HTML text."""
    d, card = report.decisions, report.card
    return fill_template(
        "report.html.j2",
        report=report,
        title=f"{report.sentence()}.",
        figures=_figures(d),
        curve=_curve(d),
        fits=[
            {"name": fit.name, "auc": f"{fit.auc:.3f}", "error": f"{fit.error:.1%}", "own": fit.name == "the card's"}
            for fit in report.fits
        ],
        outcomes=[
            {
                "name": name if d.counts[name] == 1 else f"{name}s",
                "meaning": _meaning(report, name),
                "count": d.counts[name],
                "kind": "bad" if name.startswith("false") else "good",
                "samples": [
                    {
                        "name": one.sample,
                        "pictures": [data_uri(picture) for picture in one.pictures],
                        "score": plain(one.score),
                        "distance": signed(one.distance, 3),
                    }
                    for one in d.outcomes[name]
                ],
            }
            for name in OUTCOMES
        ],
        measures=_measures(report),
        trust=None if report.trust is None else _trust(report.trust),
        facts=[
            ("task", card.task),
            ("family", card.family or "–"),
            ("input", f"{card.input.size[0]}×{card.input.size[1]}, {card.input.color}"),
            ("mean, std", f"{_numbers(card.input.mean)}; {_numbers(card.input.std)} on pixels in 0..1"),
            ("output", f"{card.output.kind}{': ' + ', '.join(card.output.classes) if card.output.classes else ''}"),
            ("licence", card.licence or "–"),
            ("source", card.source or "–"),
            ("sha256", report.sha256),
        ],
    )


def write_report(report: Report, out: Path) -> None:
    """Write the page.

    Raises:
        RunError: the path cannot be written.
    """
    write_text(out, render_report(report))


def _figures(d: Decisions) -> list[dict[str, str]]:
    def rate(name: str, one: Rate, meaning: str) -> dict[str, str]:
        low, high = one.interval
        return {
            "name": name,
            "value": f"{one.share:.1%}",
            "more": f"{low:.1%} to {high:.1%} ({one.count} of {one.n})",
            "meaning": meaning,
        }

    return [
        rate("accuracy", d.accuracy, "right decisions"),
        rate("false accepts", d.false_accepts, "of those that should be rejected"),
        rate("false rejects", d.false_rejects, "of those that should be accepted"),
        {
            "name": "equal error rate",
            "value": f"{d.eer:.1%}",
            "more": f"at {plain(d.eer_threshold)}",
            "meaning": "where both error rates meet",
        },
        {"name": "AUC", "value": f"{d.auc:.3f}", "more": "0.5 is chance", "meaning": "area under the ROC curve"},
    ]


def _curve(d: Decisions) -> dict[str, object]:
    every = np.concatenate([d.accepts, d.rejects, [d.threshold]])
    low, high = float(every.min()), float(every.max())
    pad = 0.02 * ((high - low) or 1.0)
    low, high = low - pad, high + pad
    edges = np.linspace(low, high, BINS + 1)
    groups = []
    for number, (name, scores) in enumerate((("should be accepted", d.accepts), ("should be rejected", d.rejects))):
        counts = np.histogram(scores, edges)[0]
        heights = 100 * counts / max(1, counts.max())
        bars = [(round(100 * i / BINS, 2), round(float(h), 2)) for i, h in enumerate(heights) if h]
        groups.append({"number": number, "name": name, "n": len(scores), "bars": bars})
    at = round(100 * (d.threshold - low) / (high - low), 2)
    return {
        "groups": groups,
        "threshold": at,
        "text": plain(d.threshold),
        "low": plain(low, 2),
        "high": plain(high, 2),
        "step": 100 / BINS,
    }


def _meaning(report: Report, name: str) -> str:
    if report.card.task == "verification":
        return OUTCOME_MEANINGS["verification"][name]
    classes, positive = report.card.output.classes, report.card.output.positive or report.card.output.classes[-1]
    negative = " or ".join(one for one in classes if one != positive)
    return OUTCOME_MEANINGS["other"][name].format(positive=positive, negative=negative)


def _measures(report: Report) -> list[dict[str, object]]:
    rows: list[dict[str, object]] = []
    for i, (protocol, name, meaning) in enumerate(MEASURES):
        own = report.measures[i]
        zoo = [(n, family.name, family.values[protocol]) for n, family in enumerate(report.families)]
        there = [value for _, _, value in zoo if np.isfinite(value)] + ([own.value] if np.isfinite(own.value) else [])
        low, high = (min(there), max(there)) if there else (0.0, 1.0)
        pad = 0.12 * ((high - low) or abs(high) or 1.0)
        low, high = low - pad, high + pad

        def place(value: float, low: float = low, high: float = high) -> float:
            return round(100 * (value - low) / (high - low), 1)

        rows.append(
            {
                "name": name,
                "protocol": protocol,
                "meaning": meaning,
                "text": plain(own.value) if np.isfinite(own.value) else "–",
                "more": f"{plain(own.low)} to {plain(own.high)}" if np.isfinite(own.low) else "",
                "why": own.why,
                "at": place(own.value) if np.isfinite(own.value) else None,
                "zoo": [
                    {"number": n, "name": family, "text": plain(value), "at": place(value)}
                    for n, family, value in zoo
                    if np.isfinite(value)
                ],
            }
        )
    return rows


def _trust(told: Trust) -> list[dict[str, object]]:
    def place(value: float) -> float:
        return round(50 + 50 * max(-1.0, min(1.0, value)), 1)

    return [
        {
            "name": row.explainer,
            "text": signed(row.mean, 2),
            "interval": f"{signed(row.low, 2)} to {signed(row.high, 2)}" if np.isfinite(row.low) else "",
            "gain": "" if np.isnan(row.gain) else signed(row.gain, 2),
            "gain_interval": ""
            if np.isnan(row.gain_low)
            else f"{signed(row.gain_low, 2)} to {signed(row.gain_high, 2)}",
            "verdict": row.verdict,
            "at": place(row.mean),
            "left": min(50.0, place(row.mean)),
            "width": abs(place(row.mean) - 50),
            "low": place(row.low) if np.isfinite(row.low) else None,
            "high": place(row.high) if np.isfinite(row.high) else None,
            "kind": "for" if row.mean >= 0 else "against",
        }
        for row in told.rows
    ]


def _numbers(values: tuple[float, ...]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
