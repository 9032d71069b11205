"""The protocols of the curve metrics, composed from shared paragraphs.

Place in the flow: ``base`` makes each row's docstring here; imports only the standard library.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass
from typing import Literal

Direction = Literal["insertion", "deletion"]


@dataclass(frozen=True)
class Row:
    """A row of the table of curve metrics: what one of them is, apart from what all share.

    Attributes:
        read: ``insertion``, ``deletion``, or ``gap``: insertion minus deletion.
        kind: the maps that are judged.
        form: what is read along the curve: ``probability`` of the class; ``decision``, 1 where it is right at the
            clean threshold; ``score``, the similarity itself.
    """

    read: Literal["gap", "insertion", "deletion"]
    kind: Literal["relevance", "similarity", "dissimilarity"] = "relevance"
    form: Literal["probability", "decision", "score"] = "probability"

    @property
    def id(self) -> str:
        kind = f"-{self.kind}" if self.pairs else ""
        return f"{self.read}{kind}{'-score' if self.form == 'score' else ''}@1"

    @property
    def pairs(self) -> bool:
        return self.kind != "relevance"

    @property
    def directions(self) -> tuple[Direction, ...]:
        return ("insertion", "deletion") if self.read == "gap" else (self.read,)

    @property
    def reversed(self) -> bool:
        """Whether insertion and deletion change places: the similarity of a pair, by its dissimilarity map."""
        return (self.kind, self.form) == ("dissimilarity", "score")

    @property
    def better(self) -> Literal["higher", "lower"]:
        return "higher" if self.read == "gap" or (self.read == "insertion") != self.reversed else "lower"

    @property
    def question(self) -> str:
        return QUESTION[self.kind][self.read]

    @property
    def source(self) -> str:
        return SOURCE["gap" if self.read == "gap" else self.kind]


QUESTION = {
    "relevance": {
        "gap": "How much better does the model do with what the map calls relevant than without it?",
        "insertion": (
            "How soon does the model find its answer again when the pixels that the map calls most relevant are put "
            "back into a masked image?"
        ),
        "deletion": (
            "How soon does the model lose its answer when the pixels that the map calls most relevant are removed?"
        ),
    },
    "similarity": {
        "gap": "How much better does a genuine pair match with what the map calls similar than without it?",
        "insertion": (
            "How soon does another person's face match the reference when what the map calls similar is put into it?"
        ),
        "deletion": (
            "How soon does a genuine pair stop matching when what the map calls similar is replaced by another "
            "person's face?"
        ),
    },
    "dissimilarity": {
        "gap": "How much more alike are two people without what the map calls dissimilar than with it?",
        "insertion": (
            "How soon do two people stop looking alike when, starting from the partner's own image, what the map calls "
            "dissimilar is put back?"
        ),
        "deletion": (
            "How soon do two people look alike to the model when what the map calls dissimilar is replaced by the "
            "partner's own pixels?"
        ),
    },
}
SOURCE = {
    "gap": ("faithface; areas after Petsiuk, Das, Saenko, RISE, BMVC 2018, and Lu, Xu, Ebrahimi, CorrRISE, WACV 2024"),
    "relevance": "Petsiuk, Das, Saenko, RISE, BMVC 2018 (curves)",
}
SOURCE["similarity"] = SOURCE["dissimilarity"] = (
    "Lu, Xu, Ebrahimi, CorrRISE, WACV 2024, after RISE, BMVC 2018 (curves); fills and directions: faithface"
)
# Of the dissimilarity forms: which way round they read, and why.
DIRECTION = {
    "decision": {
        "gap": (
            "Deleting dissimilar pixels makes the decision wrong soonest, so a good map has the larger insertion area: "
            "the order of the difference is that of genuine pairs, unlike in the ``-score`` form."
        ),
        "insertion": (
            "The partner's own image is accepted, which is wrong; putting back what is dissimilar should make the "
            "model reject soonest."
        ),
        "deletion": "Deleting what is dissimilar should make the model accept, which is wrong, soonest.",
    },
    "score": {
        "gap": (
            "The order is turned round against genuine pairs: deleting dissimilar pixels should raise the similarity."
        ),
        "insertion": (
            "The direction is the reverse of genuine pairs': putting back what is dissimilar should tell the two apart "
            "soonest."
        ),
        "deletion": (
            "The direction is the reverse of genuine pairs': deleting what is dissimilar should make the pair alike "
            "soonest."
        ),
    },
}
VALUE = {
    "probability": "p = the probability (softmax or sigmoid) of the class predicted on the clean image.",
    "decision": (
        "r(f) = 1 if the decision at the clean threshold is right (similarity of the altered probe and the unaltered "
        "reference at least the threshold for a genuine pair, below it for an impostor pair), else 0. The threshold is "
        "the card's, else the equal-error point of the clean scores; a similarity within 1e-5 below it counts as on it."
    ),
    "score": (
        "s(f) = the similarity of the altered probe and the unaltered reference (cosine, or minus the Euclidean "
        "distance, as the card says)."
    ),
}
STEPS = {
    "deletion": (
        "At fractions f = 0, 1/50, …, 1 the first k = round(f·H·W) of them take the values of the fill image, in pixel "
        "space, before the card's normalisation."
    ),
    "insertion": (
        "The image starts as the fill image; at fractions f = 0, 1/50, …, 1 the first k = round(f·H·W) of them "
        "(halfway cases: the complement of deletion at 1 − f) get their own values back, in pixel space, before the "
        "card's normalisation."
    ),
    "gap": (
        "insertion is the curve that puts the first k = round(f·H·W) pixels of the map's descending ranking back into "
        "the fill image, deletion the one that replaces them by it, at f = 0, 1/50, …, 1."
    ),
}
CLASS_FILLS = (
    "``fill``: what removed pixels become: ``blur`` (default; Gaussian, σ = 8 % of the shorter side), ``stranger`` "
    "(another sample of the other class, by the sample's seed; aligned faces only), ``black``, ``mean`` (the image's "
    "own), ``rise`` (RISE's 11×11 kernel), ``linear`` (ROAD's noisy imputation; slow, the fill depends on the mask)."
)
PAIR_FILLS = (
    "``fill``: what replaces pixels, default ``{fill}``: ``stranger`` (the pixels of another person's face of the same "
    "set, by the sample's seed), ``partner`` (the other image's own pixels), both for aligned faces only; ``blur`` "
    "(Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean``, ``rise``, ``linear`` (ROAD's noisy "
    "imputation; slow)."
)
GRID = (
    "``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid and whole cells move, k = round(f·G²) of "
    "them; pixel row r lies in cell row ⌊r·G/H⌋, so that cells may differ by one row where G does not divide H, and x "
    "is then the share of cells."
)
POINTS = "``points``: points of the curve, both ends included (51)."
WHICH = (
    "``which``: ``positive`` (default), the samples whose label is the dataset's positive class, attack or synthetic; "
    "``negative``, all others, a column of its own; or ``all``. A sample without a label, and any sample of a dataset "
    "without a positive class, counts as positive. A bona fide image shows no evidence that could be removed: its map "
    "answers another question."
)
PAIRS = (
    "``pairs``: ``{first}`` (default), ``{second}``, or ``all`` to compare with papers that mix them.",
    "``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same fraction; with ``stranger`` "
    "two different people).",
)
RANDOM = "A random ranking has expectation 0{whatever}; inverting a map without ties changes the sign and nothing else."
SPECIAL = (
    "With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding "
    "errors. Ties break by a permutation seeded from the sample id, the same for every explainer. A constant map is "
    "therefore scored at random, and flagged. A map with values that are not finite has no value (the reason is kept)."
)
CLASS_DIFFERS = (
    "RISE's own code blurs in normalised space for insertion, uses the mean colour for deletion, and breaks ties by "
    "reversed raster order; its area rule (Σ − first/2 − last/2)/(n − 1) is this one. Quantus' PixelFlipping removes "
    "single values of C·H·W (channels apart), takes the image's minimum for black, leaves out the clean point and does "
    "not divide the area by the number of steps, so that it grows with it. InterpretDL averages probabilities without "
    "the trapezoid, LATEC drops both ends. xplique and torch-cam agree up to fill and ties."
)
PAIR_DIFFERS = (
    "The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied pixels go "
    "all at once or never, and scores all pairs of a protocol: ``(fill=black,pairs=all,points=11)`` comes nearest, and "
    "stands on another scale than genuine or impostor pairs alone. RISE's rule for the area is this one; Quantus' is "
    "not normalised and knows no pairs."
)
CLASS_WEAK = {
    "gap": (
        "What it inherits from both areas: it depends on the fill, it rewards compact maps at pixel level (use "
        "``grid``), and a centre prior does well where the whole face speaks."
    ),
    "insertion": (
        "Rewards smooth, compact maps, because a few scattered pixels in a masked image mean little to a convolution; "
        "compare maps of different granularity with ``grid``. ``centre-prior`` scores high on aligned faces."
    ),
    "deletion": (
        "Altered images leave the distribution that the network knows: with a black fill, scattered random pixels "
        "lower the probability as fast as the right ones. Never read it alone: ``random`` and ``centre-prior`` stand "
        "beside it, and ``gap@1`` reads without them."
    ),
}
PAIR_WEAK = {
    "similarity": "A centre prior scores high on aligned genuine pairs, where the whole middle of the face speaks.",
    "dissimilarity": (
        "Means little with fills that are no faces: with black, random rankings and real maps score alike on impostor "
        "pairs."
    ),
}
STEPWISE = (
    "One pair's value moves in steps of one point of the curve; average over many pairs, or read the ``-score`` form."
)
COMPACT = "Rewards compact maps at pixel level; compare maps of different granularity with ``grid``."
CLEAN = (
    "The clean image is scored when samples are loaded, the fully masked one once per sample and fill for all "
    "explainers"
)


def docstring(row: Row) -> str:
    """Return the protocol of a row: a title, and sections of one paragraph, or one item, a line.

    Examples:
        >>> docstring(Row("gap", "similarity", "score")).splitlines()[0]
        'Insertion minus deletion of the similarity of the pair, on genuine pairs.'
    """
    sections = {
        "Formula": formula(row),
        "Parameters": parameters(row),
        "Range and direction": [range_and_direction(row)],
        "Special cases": [SPECIAL],
        "Needs": [needs(row)],
        "Differs from other libraries": [differs(row)],
        "Known weaknesses": [weaknesses(row)],
        "Cost": [cost(row)],
        "Source": [source(row)],
    }
    parts = [title(row)]
    for heading, paragraphs in sections.items():
        lines = [textwrap.indent(textwrap.fill(p, 108, break_on_hyphens=False), "    ") for p in paragraphs]
        parts.append("\n".join([heading, *lines]))
    return "\n\n".join(parts) + "\n"


def title(row: Row) -> str:
    if not row.pairs:
        if row.read == "gap":
            return "Insertion minus deletion: the headline of the curve metrics, which reads without a reference."
        done = "put back" if row.read == "insertion" else "removed"
        return f"Area under the predicted class's probability while the most relevant pixels are {done}."
    what = "the share of right decisions" if row.form == "decision" else "the similarity of the pair"
    if row.read == "gap":
        order = "Deletion minus insertion" if row.reversed else "Insertion minus deletion"
        return f"{order} of {what}, on {'genuine' if row.kind == 'similarity' else 'impostor'} pairs."
    adjective, done = row.kind.removesuffix("ity"), "put back" if row.read == "insertion" else "replaced"
    return f"Area under {what} while the probe's most {adjective} pixels are {done}."


def formula(row: Row) -> list[str]:
    probe = f"Only the probe (image A) is altered{', by its own ' + row.kind + ' map' if row.read == 'gap' else ''}."
    if row.read == "gap":
        order = "deletion) − area(insertion" if row.reversed else "insertion) − area(deletion"
        head = f"value = area({order}), by the trapezoid rule on [0, 1];"
        both = "Both curves come from the same forward passes as"
        if not row.pairs:
            value = "p(f) is the probability of the class predicted on the clean image;"
            return [f"{head} {value} {STEPS['gap']} {both} ``insertion@1`` and ``deletion@1``."]
        return [f"{head} {STEPS['gap']} {probe} {VALUE[row.form]} {both} the areas."]
    of = f"the probe's {row.kind} map" if row.pairs else "the map"
    ranked = f"The H·W pixels of {of} are ranked once, descending. {STEPS[row.read]}"
    if not row.pairs:
        return [ranked, f"value = ∫ p(f) df by the trapezoid rule on [0, 1], {VALUE['probability']}"]
    symbol = VALUE[row.form][0]
    return [f"{ranked} {probe}", f"value = ∫ {symbol}(f) df by the trapezoid rule on [0, 1]; {VALUE[row.form]}"]


def parameters(row: Row) -> list[str]:
    if not row.pairs:
        return [CLASS_FILLS, GRID, POINTS, WHICH]
    fill, *order = (
        ("stranger", "genuine", "impostor") if row.kind == "similarity" else ("partner", "impostor", "genuine")
    )
    return [PAIR_FILLS.format(fill=fill), GRID, POINTS, PAIRS[0].format(first=order[0], second=order[1]), PAIRS[1]]


def range_and_direction(row: Row) -> str:
    low, high = (0, 1) if row.form != "score" else (-1, 1)
    if row.read == "gap":
        low, high = low - high, high - low
    best = f"The best value is {float(high if row.better == 'higher' else low)}."
    cosine = " for cosine" if row.form == "score" else ""
    parts = [f"{low} to {high}{cosine}, {row.better} is better.".replace("-", "−"), best]
    if row.read == "gap":
        whatever = "" if row.pairs else " whatever the model, the data and the fill"
        parts.append(RANDOM.format(whatever=whatever))
    if row.kind == "dissimilarity":
        parts.append(DIRECTION[row.form][row.read])
    return " ".join(parts)


def needs(row: Row) -> str:
    what = "; verification" if row.pairs else "; a classifier"
    return f"The model (forward passes){what}{'; a decision threshold' if row.form == 'decision' else ''}."


def differs(row: Row) -> str:
    if row.pairs:
        return PAIR_DIFFERS
    return CLASS_DIFFERS + (" No other library reports the difference." if row.read == "gap" else "")


def weaknesses(row: Row) -> str:
    if not row.pairs:
        return CLASS_WEAK[row.read]
    stepwise = [STEPWISE] if row.form == "decision" else []
    return " ".join([PAIR_WEAK[row.kind], *stepwise, COMPACT])


def cost(row: Row) -> str:
    passes = "points − 2 = 49 forward passes per sample."
    if row.read == "gap":
        passes = "2·(points − 2) = 98 forward passes per sample, the same ones as deletion and insertion."
    return f"{passes} {CLEAN}" + (
        " (not at all with ``partner``). ``alter=both`` costs twice as much." if row.pairs else "."
    )


def source(row: Row) -> str:
    paper = (
        "Lu, Xu and Ebrahimi, 2024 (CorrRISE), after RISE, 2018."
        if row.pairs
        else "Petsiuk, Das and Saenko, 2018 (RISE)."
    )
    ours = "The gap and the fills" if row.read == "gap" else "The fills"
    return f"{paper} {ours}{'' if row.pairs else ' for faces'}: faithface."
