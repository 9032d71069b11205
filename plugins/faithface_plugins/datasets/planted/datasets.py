"""The three planted datasets of the contract: light items whose pixels and masks are rendered on demand.

* ``planted-pad``: bona fide against print, replay, mask and partial attacks;
* ``planted-synthetic``: real against generator artefacts in known places;
* ``planted-verification``: genuine pairs, different people, and part swaps, with triplets for the inpainting game.

Place in the flow: ``DATASETS`` is what the package registers. Calls the core's contract, ``content``, ``cues``,
``annotate``, ``parts``, ``render``. Nothing is stored: an item is a row of a plan, and a plan is a pure function of the
parameters.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from faithface.contract import Dataset, Face, Pair, Sample
from faithface_plugins.datasets.content import text_digest

from . import annotate, cues, draws
from .arrays import tagged_rows
from .identity import SWAP_PARTS, Identity, sample_identities, swap_part
from .nuisance import Nuisance, sample_nuisance
from .parts import part_masks
from .render import render_levels, to_float

Tag = Literal["none", "class", "random"]
Palette = Literal["standard", "shifted"]
Mask = Callable[[], np.ndarray]

SOURCE = "rendered by faithface_plugins.datasets.planted; see docs/datasets/planted.md"


def recipe(dataset: Dataset, name: str) -> Callable[[], str]:
    """Return the digest of something rendered: its parameters are its identity (the renderer's code is known apart).

    The parameters are those of the dataset, of which everything is drawn, and the name.
    """
    return functools.partial(text_digest, f"{dataset!r} {dataset.revision} {name}")


@dataclass(frozen=True)
class _Cued(Dataset):
    """Common base of `PlantedPad` and `PlantedSynthetic`: a plan of twins read as samples.

    Parameters:
        n: how many images, half of each class.
        seed: other seed, other people.
        tag: a corner tag: ``none``, on the positive ``class``, or on a ``random`` half.
        cue: false omits the attack or artefact, so that only the tag reveals the class.
        unseen: the kinds that are excluded from training.
        palette: ``standard``, or ``shifted`` (dyed hair, other walls and lip colours).
    """

    n: int = 200
    seed: int = 2
    tag: Tag = "none"
    cue: bool = True
    unseen: bool = False
    palette: Palette = "standard"

    revision = "1"
    aligned = False  # a detector's crop: position and scale vary
    licence = "CC0-1.0"
    source = SOURCE

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; expected at least 1 image")

    @property
    def _task(self) -> str:
        return "pad" if self.task == "pad" else "synthetic"

    def items(self) -> Sequence[Sample]:
        plan = cues.plan(self._task, self.seed, self.n, unseen=self.unseen, palette=self.palette)
        stamped = tagged_rows(plan.label, plan.key, self.tag)
        return [self._sample(plan.take(np.array([i])), i, bool(stamped[i])) for i in range(self.n)]

    def _sample(self, row: cues.Plan, index: int, stamped: bool) -> Sample:
        positive = bool(row.label[0])
        label = self.classes[int(positive)]
        identity = f"planted-{self.seed}-{int(row.person[0]):05d}"
        cued = positive and self.cue
        kind = f"-{row.kind[0]}" if cued else ""
        name = f"{label.replace(' ', '-')}{kind}--{index:05d}"

        def tagged(levels: np.ndarray) -> np.ndarray:
            return to_float(annotate.stamp_tag(levels, np.array([stamped])))[0]

        def clean() -> np.ndarray:
            return tagged(render_levels(row.people, row.conditions, threads=1))

        def altered() -> np.ndarray:
            return tagged(render_levels(row.people, row.conditions, cues.edit(row), threads=1))

        def relevance() -> np.ndarray:
            if not cued:  # nothing in the image shows an attack
                return np.zeros((1, *annotate.tag_mask().shape), bool)[0]
            return cues.truth(*cues.twins(row, threads=1))[0]

        def human() -> np.ndarray:
            return annotate.human_cue(relevance()[None])[0] if cued else annotate.human_face(row.conditions)[0]

        def tag() -> np.ndarray:
            return annotate.tag_mask() & stamped

        truth: dict[str, Mask] = {"relevance": relevance, "human": human}
        if self.tag != "none":
            truth["tag"] = tag

        def face(face_id: str, read: Mask) -> Face:
            return Face(face_id, read, identity, recipe(self, face_id))

        others: dict[str, Face] = {"twin": face(f"{name}--twin", clean)} if cued else {}
        shown = face(name, altered if cued else clean)
        return Sample(name, shown, label, truth, others, recipe(self, f"{name}--truth"))

    def out_of_set(self) -> Dataset | None:
        """The unseen kinds in the shifted palette, of other people; None for the out-of-set variant itself."""
        return None if self.unseen else replace(self, unseen=True, palette="shifted", seed=self.seed + 1_000_003)

    def truths(self) -> frozenset[str]:
        return frozenset({"relevance", "human"} | ({"tag"} if self.tag != "none" else set()))


@dataclass(frozen=True)
class PlantedPad(_Cued):
    """Presentation attacks on planted faces; parameters as documented on the base class."""

    name = "planted-pad"
    task = "pad"
    classes = cues.CLASSES["pad"]
    positive = "attack"


@dataclass(frozen=True)
class PlantedSynthetic(_Cued):
    """Generator artefacts on planted faces; parameters as documented on the base class."""

    name = "planted-synthetic"
    task = "synthetic-detection"
    classes = cues.CLASSES["synthetic"]
    positive = "synthetic"


@dataclass(frozen=True)
class PlantedVerification(Dataset):
    """Pairs of planted faces: half genuine, a quarter different people, a quarter part swaps (eyes, brows, nose, mouth,
    jaw).

    Truth: genuine pairs have ``similarity`` (the visible head), pairs of different people ``dissimilarity`` (the
    visible head), part swaps ``dissimilarity`` (the part's region in each image) and ``similarity`` (the rest of the
    head). Both images of every pair have their own conditions. Genuine pairs carry the inpainting game's triplet:
    ``others["non-mate"]`` is image b with one part of another person and nothing else changed, and
    ``truth["inpainted"]`` is bool 2×H×W: the part's region in the probe, and the pixels in which mate and non-mate
    differ.

    Parameters:
        n: how many pairs.
        people: how many people they are drawn from, at least 2.
        seed: other seed, other people.
        palette: ``standard`` or ``shifted``.
    """

    n: int = 200
    people: int = 40
    seed: int = 2
    palette: Palette = "standard"

    name = "planted-verification"
    task = "verification"
    revision = "1"
    aligned = True
    aligned_landmarks = (
        (0.37, 0.463),
        (0.638, 0.463),
        (0.504, 0.598),
        (0.406, 0.725),
        (0.603, 0.725),
    )  # of the mean face
    licence = "CC0-1.0"
    source = SOURCE

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; expected at least 1 pair")
        if self.people < 2:
            raise ValueError(f"people is {self.people}; expected at least 2, for there to be impostors")

    def items(self) -> Sequence[Pair]:
        index = np.arange(self.n)
        draw = draws.Stream(draws.keys(self.seed, "pairs", index), 4)
        first = draw.choice(self.people)
        other = (first + 1 + draw.choice(self.people - 1)) % self.people
        key_a, key_b = (draws.keys(self.seed, f"pair-{side}", index) for side in "ab")
        world = _World(
            sample_identities(self.seed, self.people, self.palette),
            first,
            other,
            sample_nuisance(key_a, "aligned", self.palette),
            sample_nuisance(key_b, "aligned", self.palette),
            f"planted-{self.seed}",
            self,
        )
        return [_pair(world, i) for i in range(self.n)]

    def out_of_set(self) -> Dataset | None:
        """The same pairs of other people in the shifted palette; None for the shifted variant itself."""
        return None if self.palette == "shifted" else replace(self, palette="shifted", seed=self.seed + 1_000_003)

    def truths(self) -> frozenset[str]:
        return frozenset({"similarity", "dissimilarity", "inpainted"})


@dataclass(frozen=True)
class _World:
    """What the pairs of a dataset are made of."""

    people: Identity
    first: np.ndarray
    other: np.ndarray
    a: Nuisance
    b: Nuisance
    prefix: str
    dataset: PlantedVerification

    def person(self, index: int) -> str:
        return f"{self.prefix}-{index:05d}"


def _pair(world: _World, i: int) -> Pair:
    """Pair i: even ones genuine; odd ones alternate between different people and part swaps."""
    at = np.array([i])
    me, them = world.people.take(world.first[at]), world.people.take(world.other[at])
    here, there = world.a.take(at), world.b.take(at)
    me_name, them_name = world.person(int(world.first[i])), world.person(int(world.other[i]))
    part = SWAP_PARTS[(i // 4 if i % 2 else i // 2) % len(SWAP_PARTS)]
    swapped = swap_part(me, them, part)
    swapped_name = f"{me_name}+{part}-of-{them_name}"

    def face(name: str, who: Identity, conditions: Nuisance, identity: str) -> Face:
        def read() -> np.ndarray:
            return to_float(render_levels(who, conditions, threads=1))[0]

        return Face(name, read, identity, recipe(world.dataset, name))

    def regions(who_a: Identity, who_b: Identity, inside: Callable[[Mapping[str, np.ndarray]], np.ndarray]) -> Mask:
        return lambda: np.stack(
            [
                inside({name: mask[0] for name, mask in part_masks(who, where, threads=1).items()})
                for who, where in ((who_a, here), (who_b, there))
            ]
        )

    if i % 2 == 0:
        name = f"genuine--{i:05d}"

        def inpainted() -> np.ndarray:
            probe = part_masks(me, here, (part,), threads=1)[part]
            mate, non_mate = (render_levels(who, there, threads=1) for who in (me, swapped))
            return np.concatenate([probe, annotate.differs(mate, non_mate)])

        return Pair(
            name,
            face(f"{name}-a", me, here, me_name),
            face(f"{name}-b", me, there, me_name),
            True,
            {"similarity": regions(me, me, _head), "inpainted": inpainted},
            {"non-mate": face(f"{name}-non-mate-{part}", swapped, there, swapped_name)},
            "genuine",
            recipe(world.dataset, f"{name}--truth"),
        )
    if i % 4 == 1:
        name = f"different--{i:05d}"
        return Pair(
            name,
            face(f"{name}-a", me, here, me_name),
            face(f"{name}-b", them, there, them_name),
            False,
            {"dissimilarity": regions(me, them, _head)},
            {},
            "different",
            recipe(world.dataset, f"{name}--truth"),
        )
    name = f"swap-{part}--{i:05d}"
    truth = {
        "dissimilarity": regions(me, swapped, lambda masks: masks[part]),
        "similarity": regions(me, swapped, lambda masks: _head(masks) & ~masks[part]),
    }
    return Pair(
        name,
        face(f"{name}-a", me, here, me_name),
        face(f"{name}-b", swapped, there, swapped_name),
        False,
        truth,
        {},
        "part-swap",
        recipe(world.dataset, f"{name}--truth"),
    )


def _head(masks: Mapping[str, np.ndarray]) -> np.ndarray:
    """The visible head: face and hair."""
    return masks["face"] | masks["hair"]


DATASETS: tuple[Dataset, ...] = (PlantedVerification(), PlantedPad(), PlantedSynthetic())
