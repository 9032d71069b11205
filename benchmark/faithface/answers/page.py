"""The answer as one self-contained HTML page: no script, no other file, light and dark, from 390 pixels on.

Place in the flow: the last step of ``faithface why``. May call ``why``, ``wording``, ``shell``, ``figures`` (overlays)
and scikit-image. What is drawn is prepared here as numbers; its look is defined in ``page.html.j2``.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import distance_transform_edt
from skimage.measure import approximate_polygon, find_contours, label

from faithface.answers.shell import data_uri, fill_template, plain, signed, write_text
from faithface.answers.why import Answer, ExplainerMap
from faithface.answers.wording import TRUSTED, sentence
from faithface.figures import grey, overlay, scale_of
from faithface.regions.agreement import Agreement
from faithface.regions.shapley import ENOUGH, RegionValues, fills_needed

BINS = 40
WIDE = 320.0  # width of a bar's drawing, in its own units
MARK = 6.0

VERDICTS = {
    "undefined": "nothing to rank: all regions are equal",
    "unjudged": "not judged: the exact values are too uncertain",
    "full": "agrees, as closely as can be measured",
    "agrees": "agrees",
    "chance": "not above chance",
    "contradicts": "contradicts",
}
REFERENCES = {"stranger": "against other people", "partner": "against the other image", "blur": "against blur"}


@dataclass(frozen=True)
class Outline:
    """A region on the face: SVG path, place and size of its label, and how strongly it is coloured."""

    name: str
    path: str
    x: float
    y: float
    sign: str
    strength: float
    text: str


@dataclass(frozen=True)
class Bar:
    """One region's value for one kind of fill, in the units of the drawing."""

    text: str
    zero: float
    left: float
    width: float
    sign: str
    low: float | None
    high: float | None
    dots: tuple[float, ...]


def render_page(answer: Answer) -> str:
    """Return the page as HTML text; the same answer gives the same text, but for the measured seconds."""
    order = order_of(answer)
    size = answer.images[0].shape[:2]
    return fill_template(
        "page.html.j2",
        answer=answer,
        title=sentence(answer),
        lead=lead_of(answer),
        faces=[data_uri(image) for image in answer.images],
        under=data_uri(grey(answer.images[0])),
        height=size[0],
        width=size[1],
        outlines=_outlines(answer),
        tints=tints(answer),
        columns=[column_of(answer, value) for value in answer.values],
        rows=[
            (
                answer.regions.names[r],
                f"{100 * answer.regions.shares[r]:.0f}",
                [_bars(value)[r] for value in answer.values],
            )
            for r in order
        ],
        totals=[total_of(value) for value in answer.values],
        roles=("A, the probe: ", "B, the reference: ")
        if answer.ranking is None
        else ("the probe: ", f"{answer.ranking.mate.person}: ", f"{answer.ranking.other.person}: "),
        candidates=_candidates(answer),
        distribution=_distribution(answer),
        explainers=_explainers(answer),
        cautions=cautions_of(answer),
        fill_lists=[(kind, ", ".join(names)) for kind, names in answer.fill_names.items() if kind != "partner"],
    )


def order_of(answer: Answer) -> np.ndarray:
    """Return the regions' numbers as they are listed: what matters most for the question first."""
    mean = answer.values[0].mean
    # Against the partner of a rejected pair the question is what differs, and that has negative values.
    differs = answer.values[0].fill == "partner" and answer.ranking is None
    return np.argsort(mean if differs else -mean, kind="stable")


def write_page(answer: Answer, out: Path) -> None:
    """Write the page.

    Raises:
        RunError: the path cannot be written.
    """
    write_text(out, render_page(answer))


# --- text


def lead_of(answer: Answer) -> str:
    """Return what was decided, and by what threshold, in a sentence or two."""
    card = answer.card
    ranking = answer.ranking
    if ranking is not None:
        place = "first" if ranking.rank == 1 else f"number {ranking.rank}"
        return (
            f"{card.name} compared {answer.names[0]} with {ranking.images} images of {len(ranking.candidates)} people "
            f"in {ranking.folder}. {ranking.mate.person} comes {place} with a similarity of "
            f"{plain(ranking.mate.similarity)} ({ranking.mate.image}); the best of anybody else is "
            f"{ranking.other.person} with {plain(ranking.other.similarity)} ({ranking.other.image})."
        )
    if not answer.are_pairs:
        said = f"{card.name} calls {answer.names[0]} {answer.predicted} with probability {answer.score:.3f}."
        return f"{said} {_left(answer)}"
    text = f"{card.name} gives {answer.names[0]} and {answer.names[1]} a {answer.score_name} of {plain(answer.score)}"
    if answer.threshold is None:
        text += "; no threshold is known, so nothing is accepted or rejected."
    else:
        relation = "at least" if answer.decision == "accepted" else "below"
        text += f", {relation} the threshold {plain(answer.threshold)} ({answer.threshold_from})."
    if answer.known_same is not None:
        right = answer.known_same == (answer.decision == "accepted")
        truth = "one person" if answer.known_same else "two people"
        verdict = "" if answer.decision == "scored" else f": the decision is {'right' if right else 'wrong'}"
        text += f" The data set says that they show {truth}{verdict}."
    return text


def _left(answer: Answer) -> str:
    """Return what is left of a class's probability when every region is replaced: no region accounts for that much."""
    values = answer.values[0]
    means = {"blur": "the whole face blurred", "stranger": "another face in its place"}
    return f"With {means.get(values.fill, 'every region replaced')} it is {values.filled.mean():.3f}."


def tints(answer: Answer) -> tuple[str, str]:
    """Return what orange and blue regions do."""
    if answer.ranking is None:
        return "raises the score", "lowers it"
    return f"speaks for {answer.ranking.mate.person}", f"for {answer.ranking.other.person}"


def _candidates(answer: Answer) -> list[dict[str, object]]:
    """Return the first ten people of a gallery, and the mate, with bars from the smallest similarity shown."""
    ranking = answer.ranking
    if ranking is None:
        return []
    shown = [(i + 1, one) for i, one in enumerate(ranking.candidates) if i < 10 or one.person == ranking.mate.person]
    low, high = min(one.similarity for _, one in shown), max(one.similarity for _, one in shown)
    span = (high - low) or 1.0
    return [
        {
            "place": place,
            "person": one.person,
            "image": one.image,
            "text": plain(one.similarity),
            "width": round(4 + 96 * (one.similarity - low) / span, 1),
            "kind": "mate" if one.person == ranking.mate.person else "",
        }
        for place, one in shown
    ]


def column_of(answer: Answer, values: RegionValues) -> dict[str, str]:
    """Return what a column of values is headed by: ``head``, ``effect``, ``reliability``."""
    n = len(values.values)
    heads = {
        "stranger": f"against {n} other people" if n > 1 else "against another person",
        "partner": f"against {answer.names[1] if answer.are_pairs else ''}",
        "blur": f"against {n} strengths of blur" if n > 1 else "against blur",
    }
    effects = {
        "stranger": "right: this region makes the pair more alike than other people's regions would; left: less",
        "partner": "left: putting the other image's region in its place would make the pair more alike",
        "blur": "right: the region supports the score; left: it lowers the score",
    }
    if answer.ranking is not None:
        mate, other = answer.ranking.mate.person, answer.ranking.other.person
        heads["partner"] = f"against {other}"
        effects = dict.fromkeys(effects, f"right: this region speaks for {mate}; left: for {other}")
    elif not answer.are_pairs:
        effects["stranger"] = effects["blur"]
    said = f"reliability {values.reliability:.2f}" if n > 1 else "one fill, so no interval"
    return {"head": heads[values.fill], "effect": effects[values.fill], "reliability": said}


def total_of(values: RegionValues) -> str:
    """Return the values' sum, and what it equals."""
    filled = plain(values.filled.mean(), 4)
    filled = f"({filled})" if filled.startswith("−") else filled
    return f"{signed(values.values.sum(axis=1).mean())} = {plain(values.clean, 4)} − {filled}"


def cautions_of(answer: Answer) -> list[str]:
    """Return what the reader should know first, the answer's own cautions included."""
    said = list(answer.cautions)
    for value in answer.values:
        n = len(value.values)
        if n < 2 or value.reliability >= ENOUGH:
            continue
        needed = fills_needed(value.reliability, n)
        cost = (
            f"About {needed} fills ({needed * value.passes // n:,} passes) would reach {ENOUGH}."
            if needed
            else "More fills are not expected to help."
        )
        weak = "The order of the regions is a guess." if value.reliability < TRUSTED else "Read the order with care."
        said.append(
            f"Fill {value.fill}: the reliability of the mean over {n} fills is {value.reliability:.2f}. {weak} {cost}"
        )
    said.append(
        "The values are exact for the stated fills, and for those alone. Another way of replacing a region asks "
        "another question and gives another answer."
    )
    if answer.of("blur") is not None:
        said.append("Intervals and reliability over strengths of blur do not cover fills of another kind.")
    said.append(
        f"Regions: {answer.regions.source}. Check that the outlines fit this face. Left and right are the viewer's."
    )
    if answer.are_pairs:
        swap = " Swap the images to ask about the other face." if answer.ranking is None else ""
        said.append(f"Only {answer.names[0]} is altered.{swap}")
        said.append("A region that agrees is no proof of identity, and one that differs is no proof of the contrary.")
    return [*said, *answer.failures]


# --- drawings


def _outlines(answer: Answer) -> list[Outline]:
    labels, values = answer.regions.labels, answer.values[0].mean
    top = float(np.abs(values).max()) or 1.0
    drawn = []
    for number, name in enumerate(answer.regions.names):
        mask = labels == number
        paths = []
        for contour in find_contours(np.pad(mask, 1).astype(float), 0.5):
            points = approximate_polygon(contour, 0.4) - 0.5
            paths.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points) + "Z")
        y, x = middle_of(mask)
        value = float(values[number])
        drawn.append(
            Outline(
                name,
                "".join(paths),
                x,
                y,
                "for" if value >= 0 else "against",
                abs(value) / top,
                f"{name} {signed(value)}",
            )
        )
    return drawn


def middle_of(mask: np.ndarray) -> tuple[float, float]:
    """Return where a label fits best: the pixel of the largest part that is farthest from its edge."""
    parts = label(mask)
    largest = parts == 1 + int(np.argmax(np.bincount(parts.ravel())[1:]))
    # Squeezed upright, because a word needs more width than height.
    depth = distance_transform_edt(np.pad(largest, 1), sampling=(2.2, 1.0))[1:-1, 1:-1]
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    return float(y), float(x)


def _bars(values: RegionValues) -> list[Bar]:
    """Return one bar per region, all on one scale that holds every value and interval."""
    mean, margin = values.mean, np.nan_to_num(values.margin)
    ends = np.concatenate([mean - margin, mean + margin, [0.0]])
    low, high = float(ends.min()), float(ends.max())
    span = (high - low) or 1.0

    def place(value: float) -> float:
        return round(MARK + (value - low) / span * (WIDE - 2 * MARK), 1)

    several = len(values.values) > 1
    bars = []
    for r, value in enumerate(mean):
        left, right = sorted((place(0.0), place(float(value))))
        dots = tuple(place(float(v)) for v in values.values[:, r] if low <= v <= high) if several else ()
        text = signed(float(value)) + (f" ± {margin[r]:.4f}" if several else "")
        bars.append(
            Bar(
                text,
                place(0.0),
                left,
                round(right - left, 1),
                "for" if value >= 0 else "against",
                place(float(value - margin[r])) if several else None,
                place(float(value + margin[r])) if several else None,
                dots,
            )
        )
    return bars


def _distribution(answer: Answer) -> dict[str, object] | None:
    """Return the histogram of the data set's scores with the marks on it, in percent of width and height."""
    if answer.population is None:
        return None
    groups = {name: scores for name, scores in answer.population.groups.items() if len(scores)}
    score = answer.score
    card = answer.card
    axis = answer.score_name
    if not answer.are_pairs:
        classes = card.output.classes
        positive = card.output.positive if card.output.positive in classes else classes[-1]
        axis = f"probability of {positive}"
        if answer.predicted != positive:
            if len(classes) != 2:
                return None
            score = 1 - score
    marks = [score] + ([answer.threshold] if answer.threshold is not None else [])
    every = np.concatenate([*groups.values(), marks])
    low, high = float(every.min()), float(every.max())
    pad = 0.02 * ((high - low) or 1.0)
    low, high = low - pad, high + pad
    edges = np.linspace(low, high, BINS + 1)

    def place(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    drawn = []
    for number, (name, scores) in enumerate(groups.items()):
        counts = np.histogram(scores, edges)[0]
        heights = 100 * counts / max(1, counts.max())
        bars = [(round(100 * i / BINS, 2), round(float(h), 2)) for i, h in enumerate(heights) if h]
        drawn.append({"name": name, "n": len(scores), "bars": bars, "number": number})
    ranked = []
    for name, scores in groups.items():
        share = 100 * float((scores <= score).mean())
        ranked.append(f"above {share:.0f} % of the {len(scores)} {name} {'pairs' if answer.are_pairs else 'images'}")
    return {
        "dataset": answer.population.dataset,
        "axis": axis,
        "groups": drawn,
        "score": place(score),
        "score_text": plain(score),
        "threshold": None if answer.threshold is None else place(answer.threshold),
        "threshold_text": None if answer.threshold is None else plain(answer.threshold),
        "low": plain(low, 2),
        "high": plain(high, 2),
        "step": 100 / BINS,
        "ranked": "; ".join(ranked),
    }


def _explainers(answer: Answer) -> list[dict[str, object]]:
    by_name: dict[str, list[Agreement]] = {}
    for one in answer.agreements:
        by_name.setdefault(one.explainer, []).append(one)
    maps: dict[str, ExplainerMap] = {one.explainer: one for one in answer.maps}

    def first(name: str) -> float:
        return -float(np.nan_to_num(by_name[name][0].spearman, nan=-2))

    rows: list[dict[str, object]] = []
    for name in sorted(by_name, key=first):
        map_ = maps[name].map
        picture = overlay(answer.images[0], map_, scale_of(map_))
        rows.append(
            {
                "name": name,
                "kind": maps[name].kind,
                "picture": data_uri(picture),
                "figures": [
                    {
                        "reference": REFERENCES[one.reference],
                        "spearman": "–" if np.isnan(one.spearman) else signed(one.spearman, 2),
                        "kendall": "–" if np.isnan(one.kendall) else signed(one.kendall, 2),
                        "ceiling": f"{one.ceiling:.2f}",
                        "chance": f"{one.chance:.2f}",
                        "verdict": VERDICTS[one.verdict],
                        "kind": one.verdict,
                    }
                    for one in by_name[name]
                ],
            }
        )
    return rows
