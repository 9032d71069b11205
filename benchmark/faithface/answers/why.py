"""One decision, answered: what each region of the face contributes to it, exactly, and which explainers agree.

Place in the flow: behind ``faithface why``. May call its siblings, ``regions``, ``plugins``, ``model``, and
``explaining`` (to explain and check maps as a run does). :func:`why` computes; ``page`` renders what it returns.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
from torch import Tensor

from faithface.answers.backdrop import Population, backdrop_of, known_of, known_same_of
from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Samples
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.explaining import checked_maps, samples_from_files, what_happened
from faithface.images import list_images, read_image
from faithface.model import open_model
from faithface.plugins import Registry, Resolved, load_registry
from faithface.reasons import ReasonCode
from faithface.regions.agreement import Agreement, agreement, region_sums
from faithface.regions.fills import check_kind, make_fills
from faithface.regions.partition import CROPS, Regions, regions_from_masks, regions_of
from faithface.regions.shapley import RegionValues
from faithface.regions.values import region_values
from faithface.run.paths import short

FILLS = 8
CONTROL = "centre-prior"
TOLERANCE = 1e-5  # of the values' sum against score minus filled score

Decision = Literal["accepted", "rejected", "scored"]


@dataclass(frozen=True)
class ExplainerMap:
    """An explainer's map of the probe: float32 H×W, and which one it is."""

    explainer: str
    kind: str
    map: np.ndarray


@dataclass(frozen=True)
class Answer:
    """Everything that is known about one decision.

    Attributes:
        card: the model's.
        device: where it ran.
        names: the images' names: the probe, and for pairs the reference.
        images: float32 H×W×3 each, as the network saw them (before normalisation).
        score: similarity of the pair, or probability of the predicted class.
        score_name: ``cosine``, ``minus distance``, or ``probability``.
        threshold: the similarity from which on pairs are accepted, and where it comes from; None where unknown.
        decision: ``accepted`` or ``rejected`` (pairs with a threshold), else ``scored``.
        predicted: the predicted class, "" for pairs.
        known_same: pairs found in the data set: whether the two are one person; else None.
        regions: the partition.
        values: exact region values; the first is what the sentence and the explainers are judged by.
        agreements: each explainer against each of ``values``.
        maps: the explainers' maps of the probe.
        population: the data set's scores; None without a data set.
        fill_names: names of the fills, by kind.
        failures: one line per explainer that gave no map.
        cautions: what the reader should know before believing the page.
        passes: forward passes for the region values.
        seconds: wall time for the region values.
    """

    card: ModelCard
    device: str
    names: tuple[str, ...]
    images: tuple[np.ndarray, ...]
    score: float
    score_name: str
    threshold: float | None
    threshold_from: str
    decision: Decision
    predicted: str
    known_same: bool | None
    regions: Regions
    values: tuple[RegionValues, ...]
    agreements: tuple[Agreement, ...]
    maps: tuple[ExplainerMap, ...]
    population: Population | None
    fill_names: Mapping[str, tuple[str, ...]]
    failures: tuple[str, ...]
    cautions: tuple[str, ...]
    passes: int
    seconds: float

    @property
    def are_pairs(self) -> bool:
        return self.card.task == "verification"

    def of(self, fill: str) -> RegionValues | None:
        """Return the values for a kind of fill, or None."""
        return next((v for v in self.values if v.fill == fill), None)


def why(
    images: Sequence[str | Path],
    model: str,
    *,
    dataset: str | None = None,
    explainers: Sequence[str] = (),
    fill: str | None = None,
    fills: int = FILLS,
    partition: str = "paired",
    crop: str | None = None,
    landmarks: np.ndarray | None = None,
    masks: str | Path | None = None,
    threshold: float | None = None,
    seed: int = 0,
    device: str = "cpu",
    registry: Registry | None = None,
) -> Answer:
    """Explain one decision by the exact Shapley values of the probe's regions.

    Args:
        images: one image for classifiers; for verification the probe, whose regions are replaced, and the reference.
        model: a registered name, or a card's path.
        dataset: aligned faces: strangers are drawn from it, the threshold (if the card has none) and the distribution
            of scores come from it.
        explainers: names with parameters; their maps are compared with the exact values, and so is ``centre-prior``.
        fill: ``stranger``, ``blur`` or ``partner``; None: strangers for pairs with a data set (and the partner beside
            them where the pair is rejected), blur for classifiers and without a data set.
        fills: how many strangers, or strengths of blur.
        partition, crop, landmarks: see :func:`~faithface.regions.partition.regions_of`; landmarks are in pixels of the
            first image.
        masks: a folder with one black and white image per region, named after it, at the model's input size.
        threshold: the similarity from which on a pair is accepted.
        seed: all random numbers depend on it.
        device: an execution target such as ``cpu`` or ``cuda``.
        registry: plugins; None: load what is installed.

    Raises:
        UsageError: an unknown name, the wrong number of images, an image of the wrong size or of a single colour,
            faces that are not aligned, or too few strangers.
        RunError: the score does not change under any region, or the model's answers are not finite.
    """
    registry = registry or load_registry()
    card = registry.model(model).object
    paths = [Path(image) for image in images]
    wanted = 2 if card.task == "verification" else 1
    if len(paths) != wanted:
        raise UsageError(
            f'model "{card.name}" is for {card.task} and needs {wanted} image{"s" * (wanted > 1)}; got {len(paths)}'
        )
    if not 1 <= fills <= 256:
        raise UsageError(f"fills is {fills}; expected 1 to 256, of which each costs 2^k forward passes")
    resolved = registry.dataset(dataset) if dataset else None
    data = resolved.object if resolved else None
    if data is not None and not data.fits(card.task):
        raise UsageError(f'data set "{data.name}" is for {data.task}; model "{card.name}" is for {card.task}')
    # Resolved before anything is computed, so that a misspelt name costs nothing.
    asked = _explainers(registry, explainers, card)
    placed_by_hand = landmarks is not None or masks is not None
    if data is not None and not data.aligned and not placed_by_hand:
        raise UsageError(
            f'data set "{data.name}" declares that its faces are not aligned, so no template can place their regions: '
            "align them, or give five landmarks or masks"
        )
    cautions: list[str] = []
    pixels = [read_image(path) for path in paths]
    for path, image in zip(paths, pixels, strict=True):
        _check_image(path, image, card, resizable=crop is not None or placed_by_hand)
        if image.shape[:2] != card.input.size:
            height, width = card.input.size
            cautions.append(f"{path.name} was resized from {image.shape[0]}×{image.shape[1]} to {height}×{width}.")
    regions = _regions(card, partition, crop, landmarks, masks, pixels[0].shape[:2])
    opened = open_model(card, device)
    shown = short(resolved.spec) if resolved else ""
    population, threshold, threshold_from = backdrop_of(opened, data, shown, threshold)
    samples = samples_from_files(opened, paths, seed, threshold, data)
    score = float(samples.clean.scores[0])
    if not np.isfinite(score):
        raise RunError(f'model "{card.name}" gives {score} for these images; expected a finite score')
    known = known_of(data, paths)
    if samples.are_pairs and data is not None and threshold is None:
        cautions.append(
            f"{shown} has pairs of one kind only, so it gives no threshold, and it is not known whether a stranger is "
            "one of the two people. Give a threshold, or a set with genuine and impostor pairs."
        )
    decision: Decision = "scored"
    if samples.are_pairs and threshold is not None:
        decision = "accepted" if int(samples.clean.predicted[0]) else "rejected"
    kinds = _kinds(fill, decision, samples, data, cautions)
    values, names, seconds = _values(opened, samples, regions, kinds, fills, data, tuple(known))
    found, agreements, failures = _compare(opened, samples, asked, regions, values, decision)
    for value in values:
        if value.residual > TOLERANCE:
            cautions.append(
                f"With fill {value.fill}, the values add up to score minus filled score only within "
                f"{value.residual:.1e}; expected {TOLERANCE:.0e}. The execution target computes less precisely."
            )
    return Answer(
        card=card,
        device=device,
        names=tuple(path.name for path in paths),
        images=tuple(_pixels(samples, side) for side in range(wanted)),
        score=score,
        score_name=_score_name(card),
        threshold=threshold if samples.are_pairs else None,
        threshold_from=threshold_from,
        decision=decision,
        predicted="" if samples.are_pairs else card.output.classes[int(samples.clean.predicted[0])],
        known_same=known_same_of(data, known) if samples.are_pairs else None,
        regions=regions,
        values=values,
        agreements=agreements,
        maps=found,
        population=population,
        fill_names=names,
        failures=failures,
        cautions=tuple(cautions),
        passes=sum(value.passes for value in values),
        seconds=seconds,
    )


# --- what is checked before anything is computed


def _check_image(path: Path, image: np.ndarray, card: ModelCard, resizable: bool) -> None:
    height, width = card.input.size
    if image.shape[:2] != (height, width) and not resizable:
        known = ", ".join(f"--crop {name} ({crop.size}×{crop.size})" for name, crop in CROPS.items())
        raise UsageError(
            f'{path} is {image.shape[0]}×{image.shape[1]}; model "{card.name}" takes aligned crops of {height}×{width} '
            f"and a region's place is known for those only: crop the face first, or, if it is an aligned crop of "
            f"another size, say which ({known}), or give landmarks or masks"
        )
    if float(image.std(axis=(0, 1)).max()) < 0.01:
        raise UsageError(f"{path} is a single colour; expected a face")


def _regions(
    card: ModelCard,
    partition: str,
    crop: str | None,
    landmarks: np.ndarray | None,
    masks: str | Path | None,
    original: tuple[int, ...],
) -> Regions:
    if sum(given is not None for given in (crop, landmarks, masks)) > 1:
        raise UsageError("crop, landmarks and masks exclude each other; give the one that places the regions")
    if masks is not None:
        return regions_from_masks(_read_masks(Path(masks)), card.input.size)
    if landmarks is not None:
        scale = np.array(card.input.size)[::-1] / np.array(original)[::-1]
        landmarks = (np.asarray(landmarks, dtype=np.float64) + 0.5) * scale - 0.5
    return regions_of(card.input.size, crop, landmarks, partition)


def _read_masks(folder: Path) -> dict[str, np.ndarray]:
    files = list_images(folder) if folder.is_dir() else []
    if not files:
        raise UsageError(f"masks: {folder} is not a folder with images; expected one black and white image per region")
    masks: dict[str, np.ndarray] = {}
    for name, path in files:
        region = path.stem.replace("_", " ")
        if region in masks:
            raise UsageError(f'masks: {folder} has two images for the region "{region}", one of them {name}; keep one')
        masks[region] = read_image(path).mean(axis=2) > 0.5
    return masks


def _explainers(registry: Registry, names: Sequence[str], card: ModelCard) -> list[Resolved[Explainer]]:
    """Resolve names, ``all`` included, and add the control."""
    if not names:
        return []
    from faithface.figures import choose_explainers

    chosen = choose_explainers(registry, names, card)
    if CONTROL in registry.explainers and all(one.object.name != CONTROL for one in chosen):
        chosen.append(registry.explainer(CONTROL))
    return chosen


# --- the parts of the answer


def _kinds(
    fill: str | None, decision: Decision, samples: Samples, data: Dataset | None, cautions: list[str]
) -> tuple[str, ...]:
    """Return the kinds of fill to use, the one that judges first."""
    if fill is not None:
        check_kind(fill, samples.are_pairs, data)
        return (fill,)
    if not samples.are_pairs:
        return ("blur",)
    aligned = data is None or data.aligned
    first = "stranger" if data is not None and data.aligned else "blur"
    if first == "blur":
        reason = "no data set was given" if data is None else f'the faces of "{data.name}" are not aligned'
        cautions.append(
            f"Regions were blurred, because {reason}. A blurred region hides detail only; other people's faces "
            "(a data set of aligned faces) answer the question that matters for identity."
        )
    return ("partner", first) if decision == "rejected" and aligned else (first,)


def _values(
    model: FaceModel,
    samples: Samples,
    regions: Regions,
    kinds: Sequence[str],
    count: int,
    data: Dataset | None,
    known: tuple[str, ...],
) -> tuple[tuple[RegionValues, ...], dict[str, tuple[str, ...]], float]:
    """Score all subsets for all fills at once, and return the exact values by kind of fill."""
    sets = [make_fills(model, samples, kind, count, data, known) for kind in kinds]
    start = time.perf_counter()
    values = region_values(model, samples, sets, regions.labels)
    seconds = time.perf_counter() - start
    problems = [value.problem for value in values]
    broken = next((p for p in problems if p is not None and p.code is ReasonCode.NON_FINITE_SCORE), None)
    if broken is not None:
        raise RunError(f'model "{model.card.name}" gives {broken}')
    if all(problems):
        raise RunError(
            f'model "{model.card.name}": {problems[0]}; there is nothing to explain: is its output constant, or its '
            "probability saturated?"
        )
    return values, {s.kind: s.names for s in sets}, seconds


def _compare(
    model: FaceModel,
    samples: Samples,
    asked: Sequence[Resolved[Explainer]],
    regions: Regions,
    values: Sequence[RegionValues],
    decision: Decision,
) -> tuple[tuple[ExplainerMap, ...], tuple[Agreement, ...], tuple[str, ...]]:
    """Explain the decision, and compare each map with each of the exact values.

    Rejected pairs are judged by their dissimilarity maps, which should be large where the exact value is negative.
    """
    kind = "relevance" if not samples.are_pairs else "dissimilarity" if decision == "rejected" else "similarity"
    sign = -1.0 if kind == "dissimilarity" else 1.0
    maps: list[ExplainerMap] = []
    agreements: list[Agreement] = []
    failures: list[str] = []
    for one in asked:
        try:
            made = checked_maps(model, samples, one.object)
        except Exception as error:  # a plugin may raise anything; the others are still compared
            text = str(error) if isinstance(error, FaithfaceError) else what_happened(error)
            failures.append(f'explainer "{one.spec}" gave no map: {text}')
            continue
        map_ = _probe_map(made, kind)
        sums = region_sums(map_, regions.labels)
        maps.append(ExplainerMap(one.spec, kind, map_))
        for value in values:
            agreements.append(agreement(one.spec, kind, value.fill, sums, sign * value.mean, value.rank_reliability))
    return tuple(maps), tuple(agreements), tuple(failures)


def _probe_map(maps: Maps, kind: str) -> np.ndarray:
    found: Tensor = maps.named()[kind][0]
    found = found if kind == "relevance" else found[0]
    return found.detach().cpu().numpy()


def _pixels(samples: Samples, side: int) -> np.ndarray:
    image = samples.images[0, side] if samples.are_pairs else samples.images[0]
    return image.detach().cpu().numpy().transpose(1, 2, 0)  # type: ignore[no-any-return]


def _score_name(card: ModelCard) -> str:
    if card.task != "verification":
        return "probability"
    return "cosine" if card.output.similarity == "cosine" else "minus distance"
