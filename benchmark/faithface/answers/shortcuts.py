"""What a network looks at over a whole set: how much of its decisions lies outside the face, and in which thing.

Place in the flow: behind ``faithface shortcuts``. May call its siblings, ``regions``, ``plugins``, ``model`` and
``loading``. :func:`find_shortcuts` computes; ``shortcuts_page`` renders what it returns.

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
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from faithface.answers.backdrop import check_task
from faithface.answers.players import Places, Things, players_of
from faithface.answers.scoring import checked, choose_items, score_players, score_things
from faithface.card import ModelCard
from faithface.contract import Dataset, Pair, Sample
from faithface.errors import FaithfaceError, UsageError
from faithface.loading import read_face
from faithface.model import open_model
from faithface.plugins import Registry, load_registry
from faithface.regions.shapley import shapley_values
from faithface.run.paths import short

LIMIT = 100  # samples
FILLS = 4  # pictures that replace a place
LEVEL = 0.95
DRAWS = 1000

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
        passes, seconds: what it cost, without the families of the zoo.
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
    check_task(data, card)
    if fills < 1 or limit < 2 or compare < 0:
        raise UsageError(f"fills {fills}, limit {limit}, compare {compare}; expected at least 1, 2 and 0")
    items = choose_items(data, card, limit, seed)
    players = players_of(data, items, card.input.size, crop)
    opened = open_model(card, device)
    people = [_person(item) for item in items]
    zoo = zoo_families(registry, card, compare)
    others = [other for cards in zoo.values() for other in cards]
    start = time.perf_counter()
    if isinstance(players, Things):
        # Every image is read, which means rendered, once for all networks.
        networks = [opened, *(open_model(other, device) for other in others)]
        every = score_things(networks, data, items, players)
        scores = checked(opened, data, every[0])
    else:
        every = []
        scores = score_players(opened, data, items, players, fills, seed)
    seconds = time.perf_counter() - start
    found, values = summarise(scores, players, people)
    cautions = _cautions(data, items, players, found, fills)
    rows: dict[str, tuple[Part, ...]] = {}
    for i, other in enumerate(others):
        try:
            asked = players_of(data, items, other.input.size, crop)
            theirs = (
                every[i + 1] if every else score_players(open_model(other, device), data, items, asked, fills, seed)
            )
            rows[other.name] = summarise(theirs, asked, people)[0]
        except FaithfaceError as error:
            cautions.append(f'"{other.name}" of the zoo could not be compared: {error}')
    families = []
    for name, cards in zoo.items():
        names = tuple(other.name for other in cards if other.name in rows)
        if names:
            shares = np.array([[part.share for part in rows[one]] for one in names])
            families.append(Family(name, names, shares))
    return Shortcuts(
        card=card,
        dataset=short(resolved.spec),
        way="things" if isinstance(players, Things) else "places",
        n=len(items),
        bound=players.bound,
        parts=found,
        outside=_outside(magnitudes(scores), players, people),
        values=values,
        families=tuple(families),
        examples=_examples(items, values, players, card.input.size),
        cautions=tuple(cautions),
        passes=scores.size,
        seconds=seconds,
    )


def magnitudes(scores: np.ndarray) -> np.ndarray:
    """Return the mean size of each player's value over fills, float64 N×k, from the scores N×F×2^k.

    The magnitude is taken before the mean: one stranger may raise the score where another lowers it.
    """
    return np.abs(shapley_values(scores)).mean(axis=1)  # type: ignore[no-any-return]


def summarise(
    scores: np.ndarray, players: Things | Places, people: Sequence[str]
) -> tuple[tuple[Part, ...], np.ndarray]:
    """Return what each player carries, and the signed values N×k, from the scores N×F×2^k.

    For pairs the scores are distances to the threshold, so that their sign is the decision, as it is for log-odds.
    """
    values = shapley_values(scores).mean(axis=1)
    size = magnitudes(scores)
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
