"""What is explained: faces, samples with a class, pairs, and the datasets that hold them.

Place in the flow: plugin authors subclass :class:`Dataset`; ``loading`` turns its items into pixels. May call
``errors`` and ``tasks``.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from faithface.errors import UsageError
from faithface.tasks import Task

Mask = Callable[[], np.ndarray]


@dataclass(frozen=True)
class Face:
    """One image of a face, read on demand.

    Attributes:
        id: unique within the dataset, stable between runs.
        read: returns float32 H×W×3, RGB, in [0, 1], of any size.
        identity: whose face; None where it is not known.
        digest: returns hex digits that change whenever what ``read`` returns can change: of a file, its sha256
            (``faithface.files.content_digest``); of a rendered face, a hash of its parameters. Cheap to call again.
            Raises UsageError where ``read`` would. None: not known; then only the dataset's ``revision`` shows a
            change.
    """

    id: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    identity: str | None = None
    digest: Callable[[], str] | None = field(default=None, repr=False, compare=False)


@dataclass(frozen=True)
class Sample:
    """One image with a class, for classifiers (presentation attacks, synthetic faces).

    Attributes:
        id: unique within the dataset and a safe file name, such as ``attack--0007``.
        face: the image.
        label: the class's name; None where unknown.
        truth: ground truth by kind, each a callable that returns an array at the image's own size:
            ``"relevance"`` bool H×W (the pixels that carry the evidence), ``"human"`` float32 H×W in [0, 1]
            (an annotator's salience), ``"tag"`` bool H×W (a planted shortcut). Empty where none is known.
        others: further faces that a protocol needs, by role, such as the bona fide ``"twin"`` of an attack.
        truth_digest: as ``Face.digest``, for all of ``truth``; None: not known, or ``truth`` is empty.
    """

    id: str
    face: Face
    label: str | None = None
    truth: Mapping[str, Mask] = field(default_factory=dict, repr=False, compare=False)
    others: Mapping[str, Face] = field(default_factory=dict, repr=False, compare=False)
    truth_digest: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    @property
    def faces(self) -> tuple[Face, ...]:
        return (self.face,)

    def digest(self) -> str | None:
        """Return a digest of everything in the sample that a number depends on; see :func:`item_digest`."""
        return item_digest(self, self.label)


@dataclass(frozen=True)
class Pair:
    """Two faces, for verification: ``a`` is the probe, ``b`` the reference.

    Attributes:
        id: unique within the dataset and a safe file name, such as ``stem_a--stem_b``.
        same: True for a genuine pair, False for an impostor pair.
        truth: ground truth by kind, each a callable that returns bool 2×H×W (for ``a``, ``b``): ``"similarity"``,
            ``"dissimilarity"``. Empty where none is known.
        others: further faces that a protocol needs, by role, such as ``"non-mate"`` for the inpainting game.
        kind: a name for the sort of pair where a set has several (``"part-swap"``), or "".
        truth_digest: as ``Face.digest``, for all of ``truth``; None: not known, or ``truth`` is empty.
    """

    id: str
    a: Face
    b: Face
    same: bool
    truth: Mapping[str, Mask] = field(default_factory=dict, repr=False, compare=False)
    others: Mapping[str, Face] = field(default_factory=dict, repr=False, compare=False)
    kind: str = ""
    truth_digest: Callable[[], str] | None = field(default=None, repr=False, compare=False)

    @property
    def faces(self) -> tuple[Face, ...]:
        return (self.a, self.b)

    def digest(self) -> str | None:
        """Return a digest of everything in the pair that a number depends on; see :func:`item_digest`."""
        return item_digest(self, self.same, self.kind)


def item_digest(item: Sample | Pair, *labels: str | bool | None) -> str | None:
    """Return 64 hex digits that change whenever a pixel, label, identity or ground truth of a sample can change.

    Args:
        item: the sample or pair.
        labels: its class, or whether it is genuine, and its kind.

    Returns:
        None where a face or the truth has no digest of its own.

    Raises:
        UsageError: a file behind the sample cannot be read.
    """
    faces = [*((str(i), face) for i, face in enumerate(item.faces)), *sorted(item.others.items())]
    if any(face.digest is None for _role, face in faces) or (item.truth and item.truth_digest is None):
        return None
    parts = [
        item.id,
        *labels,
        *((role, face.id, face.identity, face.digest and face.digest()) for role, face in faces),
        sorted(item.truth),
        item.truth_digest and item.truth_digest(),
    ]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


class Dataset(ABC):
    """A named, ordered, light sequence of samples. Concrete datasets are frozen dataclasses; fields are parameters.

    Attributes:
        name: unique, lower case.
        task: what the samples are for.
        revision: changes whenever a pixel, a label or the order can change; part of every record. Sets of files derive
            it from their files' content.
        classes: class names for classifiers; empty for verification.
        positive: the attack or synthetic class; "" for verification.
        aligned: the faces are at the same place in every image (forbids ``stranger`` and ``partner`` fills if False).
        aligned_landmarks: where that place is: five (x, y) as shares of the image's width and height (left eye, right
            eye, nose tip, left and right corner of the mouth, as the viewer sees them). Empty: that of the usual crops
            of this size (112×112: ArcFace, 150×150: dlib).
    """

    name: str = ""
    task: Task = "verification"
    revision: str = "1"
    classes: tuple[str, ...] = ()
    positive: str = ""
    aligned: bool = True
    aligned_landmarks: tuple[tuple[float, float], ...] = ()
    licence: str = ""
    source: str = ""

    @abstractmethod
    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        """Return the samples in their fixed order, without reading pixels. Cheap to call again."""

    def fits(self, task: Task) -> bool:
        """Say whether models of a task can run on these samples (a folder of classes fits both classifier tasks)."""
        return task == self.task

    def out_of_set(self) -> Dataset | None:
        """Return the dataset of unseen kinds that belongs to this one, or None."""
        return None

    def truths(self) -> frozenset[str]:
        """Return the kinds of ground truth that at least some samples have."""
        return frozenset()

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about this data, one line each, for people to read; nothing by default.

        A run prints them, and ``faithface datasets NAME`` does: files that were not used and why, pairs listed in
        both orders, a class without samples. Reads no pixels.

        Raises:
            UsageError: as :meth:`items`.
        """
        return ()

    def absent(self) -> tuple[str, ...]:
        """Return one line about listed files that are missing, for people to read; nothing by default.

        ``faithface datasets NAME`` prints it. A run does not: it reads the files and names each that it skips.

        Raises:
            UsageError: all of the files are missing.
        """
        return ()

    def with_argument(self, argument: str) -> Dataset:
        """Return this dataset opened on what follows the colon in ``name:argument`` (``folder:PATH``)."""
        raise UsageError(f'dataset "{self.name}" takes no argument, got "{argument}"; write {self.name}')
