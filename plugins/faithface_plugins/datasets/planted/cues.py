"""From a kind of attack or artefact to images: fits the conditions to the kind, renders the twins, takes the truth.

The conditions are fitted for both classes alike (an open mouth where the kind needs teeth), and images 2k and 2k + 1
share their person, their kind, their glasses, background and collar: only the class differs. Calls `render`, `attacks`,
`artefacts`, `annotate`; is called by `arrays` and `datasets`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from . import annotate, artefacts, attacks, draws
from .draws import Stream
from .identity import Identity, sample_identities
from .nuisance import Nuisance, sample_nuisance
from .render import Cue, Scene, render_twins

TASKS = ("pad", "synthetic")
CLASSES = {"pad": ("bona-fide", "attack"), "synthetic": ("real", "synthetic")}
_KINDS: dict[tuple[str, bool], dict[str, Cue]] = {
    ("pad", False): attacks.PAD_KINDS,
    ("pad", True): attacks.PAD_UNSEEN,
    ("synthetic", False): artefacts.SYNTHETIC_KINDS,
    ("synthetic", True): artefacts.SYNTHETIC_UNSEEN,
}
_DECOYS = (
    "glasses",
    "glasses_size",
    "glasses_round",
    "background",
    "wall_colour",
    "wall_accent",
    "wall_period",
    "wall_angle",
    "collar",
    "collar_contrast",
    "cloth_colour",
    "collar_colour",
)
DECOY_FIELDS = ("glasses", "background", "collar", "collar_contrast")


def kinds(task: str, unseen: bool = False) -> tuple[str, ...]:
    """Names of the attacks (`pad`) or artefacts (`synthetic`); `unseen` gives those excluded from training."""
    if task not in TASKS:
        raise ValueError(f"task: got {task!r}, expected one of {', '.join(TASKS)}")
    return tuple(_KINDS[task, unseen])


@dataclass(frozen=True)
class Plan:
    """What N images show, before any pixel: image i has `people[i]`, `conditions[i]`, `kind[i]` and `label[i]`.

    `label` is int64 (N,), 1 for attack or synthetic; `kind` is the pair's kind, for both classes; `person` int64 (N,).
    """

    task: str
    people: Identity
    conditions: Nuisance
    kind: np.ndarray
    label: np.ndarray
    person: np.ndarray
    key: np.ndarray

    def __len__(self) -> int:
        return len(self.label)

    def take(self, indices: np.ndarray) -> Plan:
        """These images only."""
        i = np.asarray(indices)
        return Plan(
            self.task,
            self.people.take(i),
            self.conditions.take(i),
            self.kind[i],
            self.label[i],
            self.person[i],
            self.key[i],
        )


def plan(
    task: str,
    seed: int,
    n: int,
    *,
    only: tuple[str, ...] | None = None,
    unseen: bool = False,
    palette: str = "standard",
    alignment: str = "loose",
) -> Plan:
    """Plan n images of a task: even ones bona fide or real, odd ones attack or synthetic.

    `only` restricts the kinds. Raises ValueError for n < 1, an unknown task, kind, palette or alignment.
    """
    if n < 1:
        raise ValueError(f"n: got {n}, expected at least 1 image")
    known = kinds(task, unseen)
    for name in only or ():
        if name not in known:
            raise ValueError(f"kind: got {name!r}, expected one of {', '.join(known)} (unseen={unseen})")
    chosen = np.array(only or known)
    index = np.arange(n)
    pair = index // 2
    people = sample_identities(seed, pair, palette)
    pick = draws.Stream(draws.keys(seed, f"kind-{task}", pair), 4).choice(len(chosen))
    kind = chosen[pick]
    if task == "synthetic" and not unseen:
        fits = artefacts.allowed(people, kind)
        others = [name for name in chosen if name != "checkerboard"]
        if others:  # else only checkerboards are requested: the bald are given hair instead
            kind = np.where(fits, kind, np.array(others)[pick % len(others)])
        people = replace(people, hair_cover=np.where(kind == "checkerboard", np.float32(1), people.hair_cover))
        people = _show_ears(people, kind == "melted")
    key = draws.keys(seed, f"image-{task}", index)
    own = sample_nuisance(key, alignment, palette)
    shared = sample_nuisance(draws.keys(seed, f"pair-{task}", pair), alignment, palette)
    conditions = replace(own, **{name: getattr(shared, name) for name in _DECOYS})
    teeth, iris = kind == "teeth", kind == "iris"
    conditions = replace(
        conditions,
        mouth_open=np.where(teeth, np.maximum(conditions.mouth_open, np.float32(0.75)), conditions.mouth_open),
        smile=np.where(teeth, np.maximum(conditions.smile, np.float32(0.15)), conditions.smile),
        squint=np.where(iris, np.float32(0), conditions.squint),
    )
    return Plan(task, people, conditions, kind, (index % 2).astype(np.int64), pair, key)


def _show_ears(people: Identity, rows: np.ndarray) -> Identity:
    """Cut the hair of these people above the ears, so that an ear can melt where it is seen."""
    short = np.minimum(people.hair_length, np.float32(-0.02))
    side = np.minimum(people.hair_side, np.float32(0.01))
    return replace(
        people, hair_length=np.where(rows, short, people.hair_length), hair_side=np.where(rows, side, people.hair_side)
    )


def edit(p: Plan) -> Callable[[Scene, slice], np.ndarray]:
    """The edit for `render_twins` that gives each row its kind, whatever its label (the clean twin is the other
    output).
    """
    table = {**_KINDS[p.task, False], **_KINDS[p.task, True]}

    def alter(s: Scene, rows: slice) -> np.ndarray:
        out = s.canvas.copy()
        kind, key = p.kind[rows], draws.derive(p.key[rows], "cue")
        for name in np.unique(kind):
            at = np.flatnonzero(kind == name)
            out[:, at] = table[str(name)](s.take(at), Stream(key[at], 24))
        return out

    return alter


def twins(p: Plan, threads: int | None = None) -> tuple[np.ndarray, np.ndarray]:
    """Each image without and with its cue, whatever its label. Two uint8 (N, 112, 112, 3)."""
    return render_twins(p.people, p.conditions, edit(p), threads)


def truth(clean: np.ndarray, altered: np.ndarray) -> np.ndarray:
    """The pixels that differ by more than `annotate.THRESHOLD` levels in any channel. bool (N, 112, 112)."""
    return annotate.differs(clean, altered)
