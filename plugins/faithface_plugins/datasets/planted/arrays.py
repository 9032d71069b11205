"""Bulk arrays for training and tests: images, labels, truth, human masks, all from a seed.

    from faithface_plugins.datasets.planted import pad_arrays, synthetic_arrays, verification_arrays

Use another seed for held-out people: identities of different seeds are different. Calls `cues`, `annotate`, `render`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from . import annotate, cues, draws
from .identity import sample_identities
from .nuisance import sample_nuisance
from .render import render_levels


@dataclass(frozen=True)
class Planted:
    """N labelled images. `images, labels, truth, human = pad_arrays(...)` unpacks the first four.

    `images` uint8 (N, 112, 112, 3) RGB; `labels` int64 (N,), 1 = attack or synthetic; `truth` bool (N, 112, 112), all
    False where there is no cue; `human` float32 (N, 112, 112) in [0, 1]; `kind` str (N,), the pair's kind for both
    classes; `person` int64 (N,); `twins` uint8, the same image without its cue; `tagged` bool (N,); `tag` bool (112,
    112); `decoys` the decoys by name, (N,).
    """

    images: np.ndarray
    labels: np.ndarray
    truth: np.ndarray
    human: np.ndarray
    kind: np.ndarray
    person: np.ndarray
    twins: np.ndarray
    tagged: np.ndarray
    tag: np.ndarray
    decoys: dict[str, np.ndarray]

    def __iter__(self) -> Iterator[np.ndarray]:
        return iter((self.images, self.labels, self.truth, self.human))


def tagged_rows(labels: np.ndarray, key: np.ndarray, tag: str) -> np.ndarray:
    """Which images carry the tag: none, those of class 1, or a random half. bool (N,)."""
    if tag not in annotate.TAGS:
        raise ValueError(f"tag: got {tag!r}, expected one of {', '.join(annotate.TAGS)}")
    if tag == "none":
        return np.zeros(len(labels), bool)
    if tag == "class":
        return labels == 1
    return draws.Stream(draws.derive(key, "tag"), 2).unit() < 0.5


def planted_arrays(
    task: str,
    seed: int,
    n: int,
    *,
    only: tuple[str, ...] | None = None,
    unseen: bool = False,
    palette: str = "standard",
    alignment: str = "loose",
    tag: str = "none",
    corner: str = "bottom-right",
    cue: bool = True,
    threads: int | None = None,
) -> Planted:
    """n images of a task, half of each class; see `Planted`.

    `only`: some kinds; `unseen`: the kinds excluded from training; `palette`: standard or shifted; `alignment`: aligned
    or loose; `tag`: none, class or random, stamped in `corner`; `cue=False` omits the attack or artefact, so that
    only the tag reveals the class (`truth` is then all False). Raises ValueError for n < 1 or an unknown value.
    """
    p = cues.plan(task, seed, n, only=only, unseen=unseen, palette=palette, alignment=alignment)
    stamped = tagged_rows(p.label, p.key, tag)
    where = annotate.tag_mask(corner)
    positive = p.label == 1
    images = np.empty((n, *where.shape, 3), np.uint8)
    twins = images
    truth = np.zeros((n, *where.shape), bool)
    if cue:
        twins = np.empty_like(images)
        plain, odd = np.flatnonzero(~positive), np.flatnonzero(positive)
        images[plain] = twins[plain] = render_levels(p.people.take(plain), p.conditions.take(plain), threads=threads)
        if len(odd):
            twins[odd], images[odd] = cues.twins(p.take(odd), threads)
            truth[odd] = cues.truth(twins[odd], images[odd])
    else:
        images[:] = render_levels(p.people, p.conditions, threads=threads)
        twins = images.copy()
    human = annotate.human_face(p.conditions)
    seen = np.flatnonzero(truth.any(axis=(1, 2)))
    if len(seen):
        human[seen] = annotate.human_cue(truth[seen])
    annotate.stamp_tag(images, stamped, corner)
    annotate.stamp_tag(twins, stamped, corner)
    decoys = {name: getattr(p.conditions, name) for name in cues.DECOY_FIELDS}
    decoys["moles"] = (p.people.mole_size > 0).sum(1)
    return Planted(images, p.label, truth, human, p.kind, p.person, twins, stamped, where, decoys)


def pad_arrays(seed: int, n: int, **options: Any) -> Planted:
    """Bona fide (0) and attack (1) images; options as for `planted_arrays`."""
    return planted_arrays("pad", seed, n, **options)


def synthetic_arrays(seed: int, n: int, **options: Any) -> Planted:
    """Real (0) and synthetic (1) images; options as for `planted_arrays`."""
    return planted_arrays("synthetic", seed, n, **options)


def verification_arrays(
    seed: int,
    identities: int,
    images_per_identity: int,
    *,
    alignment: str = "aligned",
    palette: str = "standard",
    first_identity: int = 0,
    threads: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Images of people: uint8 (identities * images_per_identity, 112, 112, 3), and labels int64, grouped by person.

    Labels run from `first_identity`; another range of the same seed is other people. Raises ValueError for counts below
    1.
    """
    for name, value in (("identities", identities), ("images_per_identity", images_per_identity)):
        if value < 1:
            raise ValueError(f"{name}: got {value}, expected at least 1")
    labels = np.repeat(np.arange(first_identity, first_identity + identities), images_per_identity)
    shot = np.tile(np.arange(images_per_identity), identities)
    key = draws.keys(seed, "verification", labels * 100_003 + shot)
    conditions = sample_nuisance(key, alignment, palette)
    return render_levels(sample_identities(seed, labels, palette), conditions, threads=threads), labels.astype(np.int64)
