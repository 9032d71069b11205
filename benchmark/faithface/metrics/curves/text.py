"""The protocols of the curve metrics: a page for classifiers and one for pairs, and what differs from row to row.

Place in the flow: ``base`` makes each row's docstring here; imports only the standard library.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Read = Literal["gap", "insertion", "deletion"]
Kind = Literal["relevance", "similarity", "dissimilarity"]
Form = Literal["probability", "decision", "score"]
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

    read: Read
    kind: Kind = "relevance"
    form: Form = "probability"

    @property
    def id(self) -> str:
        return self.read + f"-{self.kind}" * self.pairs + "-score" * (self.form == "score") + "@1"

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
    def source(self) -> str:
        return SOURCE["gap" if self.read == "gap" else "pairs" if self.pairs else "class"]


QUESTION: dict[tuple[Kind, Read], str] = {
    ("relevance", "gap"): "How much better does the model do with what the map calls relevant than without it?",
    ("relevance", "insertion"): "How soon does the model return to its answer when the pixels that the map calls most "
    "relevant are put back into a masked image?",
    ("relevance", "deletion"): "How soon does the model lose its answer when the pixels that the map calls most "
    "relevant are removed?",
    ("similarity", "gap"): "How much better does a genuine pair match with what the map calls similar than without it?",
    ("similarity", "insertion"): "How soon does another person's face match the reference when what the map calls "
    "similar is put into it?",
    ("similarity", "deletion"): "How soon does a genuine pair stop matching when what the map calls similar is "
    "replaced by another person's face?",
    ("dissimilarity", "gap"): "How much more alike are two people without what the map calls dissimilar than with it?",
    ("dissimilarity", "insertion"): "How soon do two people stop looking alike when, starting from the partner's own "
    "image, what the map calls dissimilar is put back?",
    ("dissimilarity", "deletion"): "How soon do two people look alike to the model when what the map calls dissimilar "
    "is replaced by the partner's own pixels?",
}
SOURCE = {
    "gap": "faithface; areas after Petsiuk, Das, Saenko, RISE, BMVC 2018, and Lu, Xu, Ebrahimi, CorrRISE, WACV 2024",
    "class": "Petsiuk, Das, Saenko, RISE, BMVC 2018 (curves); fills for faces: faithface",
    "pairs": "Lu, Xu, Ebrahimi, CorrRISE, WACV 2024, after RISE, BMVC 2018 (curves); fills and directions: faithface",
}

STEPS: dict[Read, str] = {
    "insertion": """The image starts as the fill image; at fractions f = 0, 1/50, …, 1 the first k = round(f·H·W) pixels
    (halfway cases: the complement of deletion at 1 − f) get their own values back, in pixel space, before the card's
    normalisation.""",
    "deletion": """At fractions f = 0, 1/50, …, 1 the first k = round(f·H·W) pixels take the values of the fill image,
    in pixel space, before the card's normalisation.""",
    "gap": """Insertion puts the first k = round(f·H·W) pixels of the map's descending ranking back into the fill image,
    deletion replaces them with it, at f = 0, 1/50, …, 1.""",
}
VALUE: dict[Form, str] = {
    "probability": "p = the probability (softmax or sigmoid) of the class predicted on the clean image.",
    "decision": """r(f) = 1 if the decision at the clean threshold is right, else 0. It is right when the similarity of
    the altered probe and the unaltered reference is at least the threshold for a genuine pair, and below it for an
    impostor pair. The threshold is the card's, or else the equal-error point of the clean scores; a similarity up to
    1e-5 below it counts as reaching it.""",
    "score": """s(f) = the similarity of the altered probe and the unaltered reference: cosine, or minus the Euclidean
    distance, as the card states.""",
}
# Only for dissimilarity maps: which direction is better, and why.
DIRECTION: dict[Form, str] = {
    "decision": """Deleting dissimilar pixels should make the model accept early, which is wrong. Putting them back into
    the partner's own image, which is accepted, should make it reject early. So a good map has the larger insertion
    area, and the difference is taken as for genuine pairs, unlike in the ``-score`` form.""",
    "score": """Reversed against genuine pairs: deleting dissimilar pixels should raise the similarity early, putting
    them back should lower it early.""",
}
TITLE: dict[Form, str] = {
    "probability": "the predicted class's probability",
    "decision": "the share of right decisions",
    "score": "the similarity of the pair",
}
ANYWHERE = " whatever the model, the data and the fill"
INVERTED = "inverting a map without ties changes the sign and nothing else."
WEAK: dict[tuple[Kind, Read] | Kind, str] = {
    ("relevance", "gap"): """It inherits the weaknesses of both areas: it depends on the fill, it rewards compact maps
    at pixel level (use ``grid``), and a centre prior does well where the whole face is evidence.""",
    ("relevance", "insertion"): """Rewards smooth, compact maps, because a few scattered pixels in a masked image mean
    little to a convolution; compare maps of different granularity with ``grid``. ``centre-prior`` scores high on
    aligned faces.""",
    ("relevance", "deletion"): """Altered images leave the distribution that the network was trained on: with a black
    fill, scattered random pixels lower the probability as fast as the right ones. Always compare with ``random`` and
    ``centre-prior``; ``gap@1`` can be read without them.""",
    "similarity": """A centre prior scores high on aligned genuine pairs, where the whole middle of the face is
    evidence.""",
    "dissimilarity": """Means little when the fill is not a face: with ``black``, random rankings and real maps score
    alike on impostor pairs.""",
}
COMPACT = "Rewards compact maps at pixel level; compare maps of different granularity with ``grid``."
STEPWISE = """The value of one pair moves in steps of one point of the curve; average over many pairs, or use the
    ``-score`` form."""

PAGE = """{title}

Formula
    {formula}

Parameters
    ``fill``: what pixels are replaced with, {fill}
    ``blur`` (Gaussian, σ = 8 % of the shorter side), ``black`` (the papers'), ``mean`` (the image's own), ``rise``
    (RISE's 11×11 kernel), ``linear`` (ROAD's noisy imputation; slow, because the fill depends on the mask). Or the
    name of a plugin's fill.
    ``grid``: 0 = pixels (default); G = the map is averaged on a G×G grid and whole cells move, k = round(f·G²) of them,
    and x is the share of cells. Pixel row r lies in cell row ⌊r·G/H⌋, so cells may differ by one row where G does not
    divide H.
    ``points``: number of points of the curve, both ends included (51).
    {which}

Range and direction
    {range}

Special cases
    With ``grid``, means are ranked in steps of 2⁻²⁰ of the map's largest |value|: smaller differences are rounding
    errors. Ties are broken by a permutation seeded from the sample id, the same for every explainer. A constant map is
    therefore scored at random, and flagged. A map with non-finite values has no value; the reason is recorded.

Needs
    The model (forward passes); {needs}.

Differs from other libraries
    {differs}

Known weaknesses
    {weak}

Cost
    {passes} forward passes per sample{same}.
    The clean image is scored when samples are loaded, the fully masked one once per sample and fill for all
    explainers{cost}

Source
    {source}.
"""
CLASS = {
    "fill": """default ``blur``: ``stranger`` (another sample of the other class, by the sample's seed; aligned faces
    only);""",
    "which": """``which``: ``positive`` (default), the samples whose label is the dataset's positive class, attack or
    synthetic; ``negative``, all others, a column of its own; or ``all``. A sample without a label, and any sample of a
    dataset without a positive class, counts as positive. A bona fide image shows no evidence that could be removed: its
    map answers another question.""",
    "needs": "a classifier",
    "differs": """RISE's own code blurs in normalised space for insertion, uses the mean colour for deletion, and breaks
    ties by reversed raster order; its area rule (Σ − first/2 − last/2)/(n − 1) is the one used here. Quantus'
    PixelFlipping removes single values of C·H·W (channels apart), takes the image's minimum for black, omits the clean
    point and does not divide the area by the number of steps, so that it grows with it. InterpretDL averages
    probabilities without the trapezoid rule. LATEC drops both ends. xplique and torch-cam agree except for fill and
    ties.""",
    "cost": ".",
}
PAIRS = {
    "fill": """default ``{fill}``: ``stranger`` (another person's face of the same set, by the sample's seed) and
    ``partner`` (the other image of the pair), both for aligned faces only;""",
    "which": """``pairs``: ``{}`` (default), ``{}``, or ``all`` to compare with papers that mix them.
    ``alter``: ``probe`` (default) or ``both`` (each image by its own map, at the same fraction; with ``stranger`` two
    different people).""",
    "needs": "verification",
    "differs": """The papers' code removes pixels by percentile thresholds on 11 points with a black fill, so that tied
    pixels are removed all at once or never, and scores all pairs of a protocol. The setting
    ``(fill=black,pairs=all,points=11)`` comes nearest, on another scale than genuine or impostor pairs alone. RISE's
    area rule is the one used here; Quantus' is not normalised and does not support pairs.""",
    "cost": " (not at all with ``partner``). ``alter=both`` costs twice as much.",
}


def docstring(row: Row) -> str:
    """Return the protocol of a row: a title, and sections.

    Examples:
        >>> docstring(Row("gap", "similarity", "score")).splitlines()[0]
        'Insertion minus deletion of the similarity of the pair, on genuine pairs.'
    """
    gap, decision, own = row.read == "gap", row.form == "decision", PAIRS if row.pairs else CLASS
    similar = row.kind == "similarity"
    weak = [WEAK[row.kind], *[STEPWISE] * decision, COMPACT] if row.pairs else [WEAK[row.kind, row.read]]
    return PAGE.format(
        title=title(row),
        formula=formula(row),
        fill=own["fill"].format(fill="stranger" if similar else "partner"),
        which=own["which"].format(*("genuine", "impostor")[:: 1 if similar else -1]),
        range=range_and_direction(row),
        needs=own["needs"] + "; a decision threshold" * decision,
        differs=own["differs"] + "\n    No other library reports the difference." * (gap and not row.pairs),
        weak="\n    ".join(weak),
        passes="2·(points − 2) = 98" if gap else "points − 2 = 49",
        same=", the same ones as deletion and insertion" * gap,
        cost=own["cost"],
        source=row.source,
    )


def title(row: Row) -> str:
    what = TITLE[row.form]
    if row.read == "gap":
        order = "Deletion minus insertion" if row.reversed else "Insertion minus deletion"
        where = f", on {'genuine' if row.kind == 'similarity' else 'impostor'} pairs" * row.pairs
        return f"{order} of {what}{where}."
    most = f"probe's most {row.kind.removesuffix('ity')}" if row.pairs else "most relevant"
    done = "put back" if row.read == "insertion" else "replaced" if row.pairs else "removed"
    return f"Area under {what} while the {most} pixels are {done}."


def formula(row: Row) -> str:
    gap, symbol = row.read == "gap", VALUE[row.form][0]
    of = f"the probe's {row.kind}" if row.pairs else "the"
    ranked = f"The H·W pixels of {of} map are ranked once, descending."
    probe = f"Only the probe (image A) is altered{f', by its own {row.kind} map' * gap}."
    value = "area(deletion) − area(insertion)" if row.reversed else "area(insertion) − area(deletion)"
    parts = [
        *[ranked] * (not gap),
        STEPS[row.read],
        *[probe] * row.pairs,
        f"value = {value if gap else f'∫ {symbol}(f) df'} by the trapezoid rule on [0, 1]; {VALUE[row.form]}",
        *["Both curves come from the same forward passes as the areas."] * gap,
    ]
    return "\n    ".join(parts)


def range_and_direction(row: Row) -> str:
    gap, score = row.read == "gap", row.form == "score"
    low, high = (-2 if gap else -1, 2 if gap else 1) if score else (-1 if gap else 0, 1)
    best = float(high if row.better == "higher" else low)
    parts = [
        f"{low} to {high}{' for cosine' * score}, {row.better} is better. The best value is {best}.".replace("-", "−"),
        *[f"A random ranking has expectation 0{ANYWHERE * (not row.pairs)}; {INVERTED}"] * gap,
        *([DIRECTION[row.form]] if row.kind == "dissimilarity" else []),
    ]
    return "\n    ".join(parts)
