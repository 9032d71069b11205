"""The planted dataset on which shortcuts are found: every image exists with and without each thing that could give a
class away.

Place in the flow: registered beside the other planted datasets; ``training.train_shortcuts`` takes its images in bulk.
Calls ``cues``, ``annotate``, ``render``.

Five things can be in an image, independently of each other: the cue of an attack (which is what a detector should
see), a paper edge, a corner tag, glasses, and a patterned background. An image's ``others`` hold the same image with
any of the things changed, rendered anew: what a network's score owes to each thing is then exact, without seams.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from faithface.contract import Dataset, Face, Sample
from faithface_plugins.datasets.content import text_digest

from . import annotate, cues, draws
from .geometry import SIZE
from .render import render_levels, to_float

CUE = "cue"
THINGS = (CUE, "paper edge", "corner tag", "glasses", "background")
KINDS = ("mask", "partial", "replay")  # a print has a paper edge of its own
CHANGED = "changed: "

PLAIN, PATTERNS = (0, 1), (2, 3, 4)  # of nuisance.BACKGROUNDS


def changed_role(things: Sequence[str]) -> str:
    """Return the role, in a sample's ``others``, of the image in which these things are changed.

    Examples:
        >>> changed_role(["glasses", "cue"])
        'changed: glasses + cue'
    """
    return CHANGED + " + ".join(things)


def plan_faces(seed: int, n: int, palette: str = "standard") -> cues.Plan:
    """Plan n faces, each of another person: their attack's kind, their conditions, and no labels yet."""
    plan = cues.plan("pad", seed, 2 * n, only=KINDS, palette=palette, alignment="aligned")
    return plan.take(np.arange(0, 2 * n, 2))


def draw_things(seed: int, n: int) -> np.ndarray:
    """Return which things are in n images, bool N×5 in the order of :data:`THINGS`: each in half, independently."""
    stream = draws.Stream(draws.keys(seed, "things", n), len(THINGS))
    return np.stack([stream.unit() < 0.5 for _ in THINGS], axis=1)


def render_things(plan: cues.Plan, present: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Render faces with the things that are present (bool N×5). uint8 N×112×112×3.

    Nothing else differs between two renderings of the same face: light, pose and sensor noise are its own.
    """
    return stamp_things(render_scene(plan, present, threads), plan.key, present)


def render_scene(plan: cues.Plan, present: np.ndarray, threads: int | None = None) -> np.ndarray:
    """Render faces with those things that are in front of the camera: cue, glasses and background."""
    cue, _edge, _tag, glasses, pattern = present.T
    which = draws.Stream(draws.derive(plan.key, "things"), 2)
    plain, patterned = (np.array(kinds)[which.choice(len(kinds))] for kinds in (PLAIN, PATTERNS))
    conditions = replace(
        plan.conditions,
        glasses=glasses.astype(np.float32),
        background=np.where(pattern, patterned, plain).astype(np.int64),
    )
    levels = np.empty((len(plan), SIZE, SIZE, 3), np.uint8)
    for with_cue in (False, True):
        at = np.flatnonzero(cue == with_cue)
        if len(at):
            part = replace(plan.take(at), conditions=conditions.take(at))
            edit = cues.edit(part) if with_cue else None
            levels[at] = render_levels(part.people, part.conditions, edit, threads)
    return levels


def stamp_things(levels: np.ndarray, key: np.ndarray, present: np.ndarray) -> np.ndarray:
    """Draw on rendered faces what is added to a picture: paper edge and corner tag. New array."""
    return annotate.stamp_tag(draw_edges(levels, key, present[:, 1]), present[:, 2])


def draw_edges(levels: np.ndarray, key: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Draw the white edge of a paper print, with its shadow, on the images where ``rows`` is true. New array."""
    stream = draws.Stream(draws.derive(key, "edge"), 5)
    x0, y0 = (56 + stream.between(-1.5, 1.5) for _ in "xy")
    wide, tall = stream.between(47, 50), stream.between(47, 50)
    angle = stream.between(-0.03, 0.03)
    grid = np.arange(SIZE, dtype=np.float32)
    out = levels.copy()
    for i in np.flatnonzero(rows):
        dx, dy = grid[None, :] - x0[i], grid[:, None] - y0[i]
        a = np.cos(angle[i]) * dx + np.sin(angle[i]) * dy
        b = np.cos(angle[i]) * dy - np.sin(angle[i]) * dx
        outside = np.maximum(np.abs(a) - wide[i], np.abs(b) - tall[i])
        paper = np.clip(1.8 - np.abs(outside), 0, 1)[..., None]
        shadow = (np.clip(1 - outside / 6, 0, 1) * (outside > 0))[..., None]
        image = out[i] * (1 - 0.45 * shadow)
        out[i] = np.round(image + paper * (240 - image)).astype(np.uint8)
    return out


@dataclass(frozen=True)
class PlantedShortcuts(Dataset):
    """Attacks and bona fide faces in which four things that are no evidence come and go at random.

    Parameters:
        n: how many images, each of another person.
        seed: other seed, other people.
    """

    n: int = 100
    seed: int = 2

    name = "planted-shortcuts"
    task = "pad"
    revision = "1"
    classes = cues.CLASSES["pad"]
    positive = "attack"
    aligned = True
    aligned_landmarks = ((0.37, 0.463), (0.638, 0.463), (0.504, 0.598), (0.406, 0.725), (0.603, 0.725))
    licence = "CC0-1.0"
    source = "rendered by faithface_plugins.datasets.planted; see docs/datasets/planted.md"

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ValueError(f"n is {self.n}; expected at least 1 image")

    def items(self) -> Sequence[Sample]:
        plan, present = plan_faces(self.seed, self.n), self.things()
        return [self._sample(plan.take(np.array([i])), present[i], i) for i in range(self.n)]

    def things(self) -> np.ndarray:
        """Return which things are in each image, bool n×5 in the order of :data:`THINGS`."""
        return draw_things(self.seed, self.n)

    def _sample(self, row: cues.Plan, present: np.ndarray, index: int) -> Sample:
        label = self.classes[int(present[0])]
        name = f"{label}--{index:05d}"
        identity = f"planted-{self.seed}-{int(row.person[0]):05d}"

        def face(face_id: str, things: np.ndarray) -> Face:
            return Face(face_id, _reader(row, things), identity, lambda: text_digest(f"{self!r} {face_id} 1"))

        others = {}
        for subset in range(1, 1 << len(THINGS)):
            bits = np.array([bool(subset >> t & 1) for t in range(len(THINGS))])
            role = changed_role([thing for thing, bit in zip(THINGS, bits, strict=True) if bit])
            others[role] = face(f"{name}--changed-{subset:02d}", present ^ bits)
        return Sample(name, face(name, present), label, {}, others)


def _reader(row: cues.Plan, things: np.ndarray) -> Callable[[], np.ndarray]:
    return lambda: to_float(render_things(row, things[None], threads=1))[0]
