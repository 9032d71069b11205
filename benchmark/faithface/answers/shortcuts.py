"""What a network looks at over a whole set: how much of its decisions lies outside the face, and in which thing.

Place in the flow: behind ``faithface shortcuts``. May call its siblings, ``regions``, ``plugins``, ``model``,
``loading`` and ``tasks``. :func:`find_shortcuts` computes; ``shortcuts_page`` renders what it returns.

Two ways of asking, chosen by the data:

* **things**: the set holds every image with and without each thing (``others`` under ``changed: …``, as
  ``planted-shortcuts`` has them). The players are the things, and nothing is cut out: every image that is scored is
  one that the camera could have taken.
* **places**: aligned faces. The players are places of the picture (corners, border, background, eyes, face), and what
  replaces a place is the same place of other people's pictures, of the other class where there is one.

In both, the value of a player is its exact Shapley value for the score. Classifiers are scored by the log-odds of the
positive class, so that a saturated probability hides nothing; pairs by their similarity.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from faithface.answers.players import Places, Things, players_of
from faithface.card import ModelCard
from faithface.contract import Dataset, Face, FaceModel, Pair, Sample
from faithface.errors import FaithfaceError, RunError, UsageError
from faithface.loading import clean_threshold, load_samples, read_face
from faithface.model import open_model
from faithface.plugins import Registry, load_registry
from faithface.preprocessing import positive_columns
from faithface.regions.fills import make_fills
from faithface.regions.shapley import shapley_values
from faithface.regions.subsets import score_subsets
from faithface.regions.values import scalar_of
from faithface.run.paths import short
from faithface.tasks import class_probabilities

LIMIT = 100  # samples
FILLS = 4  # pictures that replace a place
STILL = 1e-6
LEVEL = 0.95
DRAWS = 1000
CERTAIN = 1e-6  # a probability nearer to 0 or 1 than this counts as this

Verdict = Literal["shortcut", "perhaps", "clear", "evidence", "not told apart"]


@dataclass(frozen=True)
class Part:
    """What one thing, or one place, carries of a network's decisions.

    Attributes:
        name: of the thing or place.
        share: its part of the magnitude of all values: mean |φ| over samples, divided by the sum over parts; 0 to 1.
        low, high: 95 % interval of the share, by drawing people again.
        turned: share of samples whose decision changes when this part alone is replaced.
        verdict: ``shortcut`` (the interval lies above the bound), ``perhaps`` (the share does, its interval does not),
            ``clear``; ``evidence`` for the face and the cue, ``not told apart`` for the eyes, in front of which
            glasses sit.
    """

    name: str
    share: float
    low: float
    high: float
    turned: float
    verdict: Verdict


@dataclass(frozen=True)
class Family:
    """A family of the zoo, asked the same question on the same samples: the shares of its networks, M×k."""

    name: str
    models: tuple[str, ...]
    shares: np.ndarray

    @property
    def means(self) -> np.ndarray:
        """Mean share of each part over the family's networks, float64 k."""
        return self.shares.mean(axis=0)  # type: ignore[no-any-return]


@dataclass(frozen=True)
class Example:
    """The sample in which a part's value is largest: its pixels H×W×3 as they are, and with the part replaced."""

    part: str
    sample: str
    before: np.ndarray
    after: np.ndarray
    value: float


@dataclass(frozen=True)
class Shortcuts:
    """What was found for one network on one set.

    Attributes:
        card: the network's.
        dataset: the set's short name.
        way: ``things`` or ``places``.
        n: samples.
        bound: the share from which on a thing counts as a shortcut.
        parts: in the order of the players.
        outside: share of all parts that are no evidence, with its interval: (share, low, high).
        values: float64 N×k: the signed value of each part for each sample, mean over fills.
        families: of the zoo, for comparison.
        examples: one per part.
        cautions: what to know before believing it.
        passes, seconds: what it cost, the zoo's families left aside.
    """

    card: ModelCard
    dataset: str
    way: Literal["things", "places"]
    n: int
    bound: float
    parts: tuple[Part, ...]
    outside: tuple[float, float, float]
    values: np.ndarray
    families: tuple[Family, ...]
    examples: tuple[Example, ...]
    cautions: tuple[str, ...]
    passes: int
    seconds: float

    @property
    def found(self) -> tuple[str, ...]:
        """Names of the parts that are shortcuts, the largest first."""
        chosen = [part for part in self.parts if part.verdict == "shortcut"]
        return tuple(part.name for part in sorted(chosen, key=lambda part: -part.share))

    def text(self) -> str:
        """Return the result for a terminal of 80 columns."""
        lines = [f"{self.sentence()}", ""]
        lines.append(f"{'part':22}{'share':>7}  {'95 % interval':15}{'turns':>6}  verdict")
        for part in self.parts:
            interval = f"[{part.low:.0%}, {part.high:.0%}]"
            lines.append(f"{part.name[:21]:22}{part.share:>7.0%}  {interval:15}{part.turned:>6.0%}  {part.verdict}")
        share, low, high = self.outside
        lines.append(f"{self.outside_name:22}{share:>7.0%}  [{low:.0%}, {high:.0%}]")
        for family in self.families:
            said = ", ".join(f"{part.name} {s:.0%}" for part, s in zip(self.parts, family.means, strict=True))
            lines.append(f"{family.name}: {said}")
        return "\n".join(lines)

    @property
    def outside_name(self) -> str:
        return "outside the cue" if self.way == "things" else "outside the face"

    def sentence(self) -> str:
        """Return one sentence that says what was found."""
        where = f"on {self.n} {'pairs' if self.card.task == 'verification' else 'images'} of {self.dataset}"
        if self.found:
            shares = {part.name: part.share for part in self.parts}
            said = " and ".join(f"the {name} ({shares[name]:.0%} of the decision)" for name in self.found)
            return f"{self.card.name} uses {said} {where}"
        perhaps = [part.name for part in self.parts if part.verdict == "perhaps"]
        if perhaps:
            return f"{self.card.name} may use the {' and the '.join(perhaps)} {where}: take more samples"
        return f"{self.card.name} shows no shortcut {where}"


def find_shortcuts(
    model: str,
    dataset: str,
    *,
    limit: int = LIMIT,
    fills: int = FILLS,
    compare: int = 1,
    crop: str | None = None,
    seed: int = 0,
    device: str = "cpu",
    registry: Registry | None = None,
) -> Shortcuts:
    """Say how much of a network's decisions lies in things that are no evidence.

    Args:
        model: a registered name, or a card's path.
        dataset: a registered name; with things that can be changed, or aligned.
        limit: samples, drawn evenly over classes (or over genuine and impostor pairs) by the seed.
        fills: pictures that replace a place; not used where the set has things.
        compare: training runs of each of the zoo's families of this task that are asked the same; 0: none.
        crop: the template that the crops follow; None: the set's own landmarks, else by size.
        seed: all random numbers depend on it.
        device: an execution target such as ``cpu`` or ``cuda``.
        registry: plugins; None: load what is installed.

    Raises:
        UsageError: unknown names, a set of another task, faces that are not aligned, a set of one class, too few
            samples or too few strangers.
        RunError: the score is not finite, or does not move whatever is replaced.
    """
    registry = registry or load_registry()
    card = registry.model(model).object
    resolved = registry.dataset(dataset)
    data = resolved.object
    if not data.fits(card.task):
        raise UsageError(f'data set "{data.name}" is for {data.task}; model "{card.name}" is for {card.task}')
    if fills < 1 or limit < 2 or compare < 0:
        raise UsageError(f"fills {fills}, limit {limit}, compare {compare}; expected at least 1, 2 and 0")
    items = choose_items(data, card, limit, seed)
    players = players_of(data, items, card.input.size, crop)
    opened = open_model(card, device)
    start = time.perf_counter()
    scores, passes = score_players(opened, data, items, players, fills, seed)
    seconds = time.perf_counter() - start
    people = [_person(item) for item in items]
    found, values = summarise(scores, players, people, card)
    cautions = _cautions(data, items, players, found, fills)
    families = []
    for name, cards in zoo_families(registry, card, compare).items():
        rows = []
        for other in cards:
            try:
                asked = players_of(data, items, other.input.size, crop)
                rows.append(
                    summarise(
                        score_players(open_model(other, device), data, items, asked, fills, seed)[0],
                        asked,
                        people,
                        other,
                    )[0]
                )
            except FaithfaceError as error:
                cautions.append(f'"{other.name}" of the zoo could not be compared: {error}')
        if rows:
            shares = np.array([[part.share for part in row] for row in rows])
            families.append(Family(name, tuple(other.name for other in cards), shares))
    return Shortcuts(
        card=card,
        dataset=short(resolved.spec),
        way="things" if isinstance(players, Things) else "places",
        n=len(items),
        bound=players.bound,
        parts=found,
        outside=_outside(np.abs(values), players, people),
        values=values,
        families=tuple(families),
        examples=_examples(items, values, players, card.input.size),
        cautions=tuple(cautions),
        passes=passes,
        seconds=seconds,
    )


def choose_items(data: Dataset, card: ModelCard, limit: int, seed: int) -> list[Sample | Pair]:
    """Return at most ``limit`` samples, evenly over classes (or kinds of pair), drawn by the seed, in their order.

    Raises:
        UsageError: samples of one class only.
    """
    items: list[Sample | Pair] = list(data.items())
    labels = [str(item.same) if isinstance(item, Pair) else item.label for item in items]
    known = sorted({label for label in labels if label is not None})
    if len(known) < 2:
        what = "kind of pair" if card.task == "verification" else "class"
        said = f": {known[0]}" if known and card.task != "verification" else ""
        raise UsageError(
            f'data set "{data.name}" has samples of one {what} only{said}; a shortcut tells classes apart, so both are '
            "needed"
        )
    rng = np.random.default_rng(seed)
    queues = [list(rng.permutation([i for i, label in enumerate(labels) if label == name])) for name in known]
    chosen: list[int] = []
    while len(chosen) < limit and any(queues):
        for queue in queues:
            if queue and len(chosen) < limit:
                chosen.append(int(queue.pop(0)))
    return [items[i] for i in sorted(chosen)]


def score_players(
    model: FaceModel, data: Dataset, items: Sequence[Sample | Pair], players: Things | Places, fills: int, seed: int
) -> tuple[np.ndarray, int]:
    """Return the scores of all subsets of players, float64 N×F×2^k (F = 1 for things), and the passes they cost.

    Raises:
        RunError: scores that are not finite, or that never move.
    """
    columns = [] if model.card.task == "verification" else positive_columns(model.card, data)
    if isinstance(players, Things):
        scores = np.stack([_score_things(model, item, players, columns) for item in items])[:, None]
    else:
        threshold = clean_threshold(model, data) if model.card.task == "verification" else None
        scores = np.stack(
            [_score_places(model, data, item, players, fills, seed, threshold, columns) for item in items]
        )
    if not np.isfinite(scores).all():
        raise RunError(f'model "{model.card.name}" gives scores that are not finite on "{data.name}"')
    moved = float(np.abs(scores - scores[..., :1]).max())
    if moved < STILL:
        raise RunError(
            f'model "{model.card.name}": the score does not move whatever is replaced (largest change {moved:.1e} in '
            f"{scores.size} passes); there is nothing to explain: is its output constant?"
        )
    return scores, scores.size


def log_odds(card: ModelCard, outputs: Tensor, columns: Sequence[int]) -> Tensor:
    """Return the log-odds of the classes ``columns`` together, float64 N, from raw outputs N×K."""
    outputs = outputs.double()
    if card.output.kind == "logits":
        others = [i for i in range(len(card.output.classes)) if i not in columns]
        return outputs[:, list(columns)].logsumexp(dim=1) - outputs[:, others].logsumexp(dim=1)
    if card.output.kind == "logit":
        return outputs.reshape(-1) * (1 if list(columns) == [1] else -1)
    probability = class_probabilities(card, outputs)[:, list(columns)].sum(dim=1)
    return probability.clamp(CERTAIN, 1 - CERTAIN).logit()


def _score_things(model: FaceModel, item: Sample | Pair, players: Things, columns: Sequence[int]) -> np.ndarray:
    faces: list[Face] = [item.faces[0], *(item.others[role] for role in players.roles[1:])]
    images = torch.stack([read_face(face, model.size) for face in faces])
    return log_odds(model.card, model.outputs(images.to(model.device)).cpu(), columns).numpy()


def _score_places(
    model: FaceModel,
    data: Dataset,
    item: Sample | Pair,
    players: Places,
    fills: int,
    seed: int,
    threshold: float | None,
    columns: Sequence[int],
) -> np.ndarray:
    samples = load_samples(model, [item], seed, threshold, data)  # type: ignore[list-item]
    strangers = make_fills(model, samples, "stranger", fills, data, tuple(face.id for face in item.faces))
    scalar: Callable[[Tensor], Tensor] = lambda outputs: log_odds(model.card, outputs, columns)  # noqa: E731
    if samples.are_pairs:
        scalar = scalar_of(model, samples)
    probe = samples.images[0, 0] if samples.are_pairs else samples.images[0]
    scores = score_subsets(model, probe, strangers.images, players.regions.labels, scalar)
    return scores - threshold if threshold is not None else scores


def summarise(
    scores: np.ndarray, players: Things | Places, people: Sequence[str], card: ModelCard
) -> tuple[tuple[Part, ...], np.ndarray]:
    """Return what each player carries, and the signed values N×k, from the scores N×F×2^k.

    For pairs the scores are distances to the threshold, so that their sign is the decision, as it is for log-odds.
    """
    by_fill = shapley_values(scores)
    values = by_fill.mean(axis=1)
    # The magnitude is taken before the mean over fills: a stranger may raise the score where another lowers it.
    size = np.abs(by_fill).mean(axis=1)
    shares, low, high = share_intervals(size, people)
    k = len(players.names)
    alone = scores[..., [1 << r for r in range(k)]]
    turned = ((alone >= 0) != (scores[..., :1] >= 0)).mean(axis=(0, 1))
    parts = tuple(
        Part(
            name,
            float(shares[r]),
            float(low[r]),
            float(high[r]),
            float(turned[r]),
            _verdict(players, name, float(shares[r]), float(low[r])),
        )
        for r, name in enumerate(players.names)
    )
    return parts, values


def share_intervals(size: np.ndarray, people: Sequence[str]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return each player's share of the magnitudes N×k, and its 95 % interval by drawing people again (bootstrap)."""
    names = {name: i for i, name in enumerate(dict.fromkeys(people))}
    by_person = np.zeros((len(names), size.shape[1]))
    np.add.at(by_person, [names[name] for name in people], size)
    rng = np.random.default_rng(0)
    draws = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), DRAWS) @ by_person
    total = draws.sum(axis=1, keepdims=True)
    drawn = np.divide(draws, total, out=np.zeros_like(draws), where=total > 0)
    low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2], axis=0)
    return size.sum(axis=0) / size.sum(), low, high


def _verdict(players: Things | Places, name: str, share: float, low: float) -> Verdict:
    if name in players.evidence:
        return "evidence"
    if name in players.mixed:
        return "not told apart"
    return "shortcut" if low > players.bound else "perhaps" if share > players.bound else "clear"


def _outside(size: np.ndarray, players: Things | Places, people: Sequence[str]) -> tuple[float, float, float]:
    inside = np.isin(players.names, [*players.evidence, *players.mixed])
    two = np.stack([size[:, inside].sum(axis=1), size[:, ~inside].sum(axis=1)], axis=1)
    shares, low, high = share_intervals(two, people)
    return float(shares[1]), float(low[1]), float(high[1])


def zoo_families(registry: Registry, card: ModelCard, runs: int) -> dict[str, list[ModelCard]]:
    """Return the first ``runs`` networks of each builtin family that was trained for the same task."""
    families: dict[str, list[ModelCard]] = {}
    for name, entry in registry.models.items():
        other = entry.object
        trained = name.startswith("planted-") and other.task == card.task and other.name != card.name
        if trained and len(families.setdefault(other.family, [])) < runs:
            families[other.family].append(other)
    return {name: cards for name, cards in sorted(families.items()) if cards}


def _person(item: Sample | Pair) -> str:
    """Return whose picture is altered; where that is not known, every sample counts as a person of its own."""
    return item.faces[0].identity or item.id


def _examples(
    items: Sequence[Sample | Pair], values: np.ndarray, players: Things | Places, size: tuple[int, int]
) -> tuple[Example, ...]:
    found = []
    for r, name in enumerate(players.names):
        at = int(np.abs(values[:, r]).argmax())
        item = items[at]
        before = read_face(item.faces[0], size).numpy().transpose(1, 2, 0)
        if isinstance(players, Things):
            after = read_face(item.others[players.roles[1 << r]], size).numpy().transpose(1, 2, 0)
        else:
            mask = (players.regions.labels == r)[..., None]
            after = np.where(mask, 0.5, before)
        found.append(Example(name, item.id, before, after, float(values[at, r])))
    return tuple(found)


def _cautions(
    data: Dataset, items: Sequence[Sample | Pair], players: Things | Places, parts: Sequence[Part], fills: int
) -> list[str]:
    said = []
    if isinstance(players, Things):
        said.append(
            "The values are exact for the things that this set can change, and for those alone. A shortcut of another "
            "kind is not seen."
        )
    else:
        said.append(
            f"Places follow a template ({players.regions.source}), and were replaced by {fills} other people's. A "
            "thing that lies in the middle of the face is not told from the face."
        )
        if players.mixed:
            said.append(
                "Glasses lie over the eyes, and eyes are evidence: a place cannot tell them apart. A set with and "
                "without glasses can."
            )
        said.append(
            "A place counts only if its content differs between pictures of this set. A set without the shortcut "
            "does not show it: use images of the kind that the network was trained on."
        )
    if len(items) < 30:
        said.append(f"{len(items)} samples are few: intervals over so few people are too narrow. Take 30 or more.")
    if all(face.identity is None for item in items for face in item.faces):
        said.append("The set does not say who is shown, so intervals take every sample for another person.")
    if any(part.verdict == "perhaps" for part in parts):
        said.append("A part lies above the bound with an interval that does not: take more samples to decide.")
    return said
