"""One page for the owner of a network: is it what its card says, where does it fail, where does it look, and which
explainers to trust on it.

Place in the flow: behind ``faithface report``. Joins its siblings ``decisions``, ``measures`` and ``trust``, and
``preprocessing``; ``report_page`` renders what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from faithface.answers.backdrop import check_task
from faithface.answers.decisions import Decisions, decide
from faithface.answers.measures import MEASURES, Measured, measure
from faithface.answers.scoring import choose_items
from faithface.answers.shortcuts import zoo_families
from faithface.answers.trust import CLASSIFIERS, PAIRS, Trust, trust
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer
from faithface.errors import FaithfaceError, NotApplicable, UsageError
from faithface.hashing import model_digest
from faithface.model import open_model
from faithface.plugins import Registry, load_registry
from faithface.preprocessing import CLEAR, Fit, try_preprocessings
from faithface.regions.partition import Regions, regions_of
from faithface.regions.shapley import STILL
from faithface.run.paths import short

SAMPLES = 16  # for the five measures
JUDGED = 8  # for the explainers
FILLS = 8
MEASURED_BY = "grad-cam"
FEW = 100  # samples below which error rates are rough
PLANTED = {
    "pad": "planted-pad",
    "synthetic-detection": "planted-synthetic",
    "verification": "planted-verification",
}


@dataclass(frozen=True)
class FamilyMeasures:
    """The measures of one family of the zoo: means over its networks, by protocol (NaN where there is none)."""

    name: str
    models: tuple[str, ...]
    values: dict[str, float]


@dataclass(frozen=True)
class Report:
    """Everything that the owner's page says.

    Attributes:
        card: the network's.
        sha256: of its file.
        dataset: the set's short name.
        decisions: error rates and samples by outcome.
        fits: how the usual preprocessings do, the best first; empty where they could not be tried.
        measures: the five measures of Explain To Me.
        measured_by: the explainer whose maps they measure.
        families: the zoo's, measured on planted faces.
        families_on: the set on which they were measured.
        trust: which explainers follow the exact region values; None where regions cannot be placed.
        problems: what the owner should act on, one line each.
        cautions: what the reader should know.
        seconds: wall time.
    """

    card: ModelCard
    sha256: str
    dataset: str
    decisions: Decisions
    fits: tuple[Fit, ...]
    measures: tuple[Measured, ...]
    measured_by: str
    families: tuple[FamilyMeasures, ...]
    families_on: str
    trust: Trust | None
    problems: tuple[str, ...]
    cautions: tuple[str, ...]
    seconds: float

    def sentence(self) -> str:
        """Return one sentence: the decisions, and whether the card is right."""
        d = self.decisions
        right = f"{self.card.name} is right on {d.accuracy.share:.1%} of {d.n} samples of {self.dataset}"
        if not self.problems:
            return f"{right}; nothing contradicts its card"
        return f"{right}; {len(self.problems)} thing{'s' * (len(self.problems) > 1)} to look at"


def make_report(
    model: str,
    dataset: str,
    *,
    explainers: Sequence[str] = (),
    measured_by: str = MEASURED_BY,
    samples: int = SAMPLES,
    judged: int = JUDGED,
    fills: int = FILLS,
    compare: int = 1,
    crop: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    registry: Registry | None = None,
) -> Report:
    """Report on one network with one set.

    Args:
        model: a registered name, or a card's path.
        dataset: labelled images or pairs.
        explainers: who is compared with the exact region values; empty: five common ones of the task.
        measured_by: the explainer whose maps the five measures describe.
        samples: for the five measures, evenly over the classes.
        judged: samples for the comparison of explainers; 0: none.
        fills: pictures that replace a region in that comparison.
        compare: networks of each of the zoo's families; 0: none.
        crop: the template that the crops follow; None: the set's own landmarks, else by size.
        seed, device, registry: as for :func:`~faithface.answers.why`.

    Raises:
        UsageError: unknown names, a set of another task or of one class.
        RunError: scores that are not finite.
    """
    start = time.perf_counter()
    registry = registry or load_registry()
    card = registry.model(model).object
    resolved = registry.dataset(dataset)
    data = resolved.object
    check_task(data, card)
    explainer = registry.explainer(measured_by).object
    asked = tuple(explainers) or tuple(
        name for name in (PAIRS if card.task == "verification" else CLASSIFIERS) if name in registry.explainers
    )
    for name in asked:  # a misspelt name costs nothing
        registry.explainer(name)
    opened = open_model(card, device)
    decisions = decide(opened, data)
    cautions: list[str] = []
    try:
        fits = tuple(try_preprocessings(card, data, device))
    except (NotApplicable, UsageError) as error:
        fits = ()
        cautions.append(f"Other preprocessings could not be tried: {error}")
    chosen = choose_items(data, card, samples, seed)
    measures = measure(registry, card, data, chosen, explainer, seed, device)
    families, families_on = _families(registry, card, data, explainer, samples, compare, seed, device)
    told = None
    if judged:
        try:
            regions = _regions(card, data, crop)
            items = choose_items(data, card, judged, seed)
            threshold = decisions.threshold if card.task == "verification" else None
            told = trust(registry, opened, data, items, regions, asked, fills, threshold, seed)
            cautions += told.failures
        except FaithfaceError as error:
            cautions.append(f"Explainers were not compared with exact region values: {error}")
    return Report(
        card=card,
        sha256=model_digest(card.path),
        dataset=short(resolved.spec),
        decisions=decisions,
        fits=fits,
        measures=measures,
        measured_by=measured_by,
        families=families,
        families_on=families_on,
        trust=told,
        problems=tuple(_problems(card, decisions, fits)),
        cautions=(*cautions, *_cautions(decisions, told, judged)),
        seconds=time.perf_counter() - start,
    )


def _regions(card: ModelCard, data: Dataset, crop: str | None) -> Regions:
    if not data.aligned:
        raise UsageError(f'data set "{data.name}" says that its faces are not aligned')
    landmarks = None
    if crop is None and data.aligned_landmarks:
        landmarks = np.array(data.aligned_landmarks) * np.array(card.input.size)[::-1] - 0.5
    return regions_of(card.input.size, crop, landmarks)


def _families(
    registry: Registry,
    card: ModelCard,
    data: Dataset,
    explainer: Explainer,
    samples: int,
    compare: int,
    seed: int,
    device: str,
) -> tuple[tuple[FamilyMeasures, ...], str]:
    """Measure the zoo on planted faces, which it was trained on; it says nothing of real ones."""
    name = PLANTED[card.task]
    planted = data if data.name.startswith("planted-") else registry.dataset(name).object
    found = []
    for family, cards in zoo_families(registry, card, compare).items():
        rows = [
            measure(registry, other, planted, choose_items(planted, other, samples, seed), explainer, seed, device)
            for other in cards
        ]
        values = {
            protocol: float(np.mean([row[i].value for row in rows])) for i, (protocol, _, _) in enumerate(MEASURES)
        }
        found.append(FamilyMeasures(family, tuple(other.name for other in cards), values))
    return tuple(found), planted.name


def _problems(card: ModelCard, d: Decisions, fits: Sequence[Fit]) -> list[str]:
    """Return what contradicts the card, or makes the network useless on this set."""
    said = []
    own = next((fit for fit in fits if fit.name == "the card's"), None)
    if fits and own is None:
        said.append(f"The card's preprocessing gives no finite outputs; {fits[0].name} fits best.")
    elif own is not None and fits[0].auc - own.auc >= CLEAR:
        said.append(
            f"The card's preprocessing is probably wrong: {fits[0].name} reaches an AUC of {fits[0].auc:.3f}, the "
            f"card's {own.auc:.3f}. The command “faithface inspect” with this set prints the lines for the card."
        )
    every = np.concatenate([d.accepts, d.rejects])
    if float(np.ptp(every)) < STILL:
        said.append(f"Every sample gets the same score ({every[0]:.3f}): is the network's output constant?")
    elif d.auc < 0.5 - CLEAR:
        said.append(f"The AUC is {d.auc:.3f}, below chance: are the card's classes in the order of the outputs?")
    elif d.auc < 0.5 + 5 * CLEAR:
        said.append(f"The AUC is {d.auc:.3f}: on this set the network hardly tells the two sides apart.")
    if card.task == "verification" and d.threshold_from == "of the card":
        low, _high = d.false_accepts.interval
        missed, _ = d.false_rejects.interval
        if max(low, missed) > 2 * d.eer + 0.05:
            said.append(
                f"The card's threshold {d.threshold:.3f} does not suit this set: {d.false_accepts.share:.1%} false "
                f"accepts and {d.false_rejects.share:.1%} false rejects, where {d.eer_threshold:.3f} gives {d.eer:.1%} "
                "of both."
            )
    return said


def _cautions(d: Decisions, told: Trust | None, judged: int) -> list[str]:
    said = []
    fewest = min(d.false_accepts.n, d.false_rejects.n)
    if fewest < FEW:
        said.append(f"The smaller side has {fewest} samples: error rates are rough. See their intervals.")
    if d.unknown:
        said.append(f"{d.unknown} samples have no label that the card knows; they count nowhere.")
    if d.threshold_from.startswith("equal-error"):
        said.append("The threshold was chosen on these very samples, so both error rates look a little too good.")
    said.append("Intervals of error rates take samples for independent; pairs that share a face are not quite.")
    if told is not None and told.n:
        said.append(
            f"Explainers were compared on {told.n} samples. That can show a map that misleads; it cannot rank two that "
            f"are close. A perfect map would reach {told.ceiling:.2f} here."
        )
    elif judged and told is not None:
        said.append("On none of the chosen samples does the score move when regions are replaced.")
    said.append(
        "The zoo was measured on planted faces: its numbers show the direction of a measure, not a mark to pass."
    )
    return said
