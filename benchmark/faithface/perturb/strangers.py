"""Whose face replaces a face: another identity of the same dataset, drawn by the sample's seed (protocol rule 5).

Place in the flow: behind the fill ``stranger`` in ``fills``. May call ``contract``, ``loading`` and ``errors``. Reads
only the images that it draws.

Where a dataset names identities they are used; and faces that are paired as genuine are one person, named or not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Dataset, Face, FaceModel, Pair, Sample, Samples
from faithface.errors import NotApplicable


@dataclass(frozen=True)
class FaceIndex:
    """All faces of a dataset, in the order of their ids.

    Attributes:
        dataset: whose faces; stored so that the dataset lives as long as its index.
        faces: F faces.
        person: int64 F: faces with equal numbers are known to be of one person.
        labels: F class names; None for pairs and unknown classes.
        number: face id → place in ``faces``.
    """

    dataset: Dataset
    faces: tuple[Face, ...]
    person: np.ndarray
    labels: np.ndarray
    number: dict[str, int]


def face_index(model: FaceModel, dataset: Dataset) -> FaceIndex:
    """Return the index of a dataset, built once per model."""
    return model.cached(_build_index, dataset)


def _build_index(_model: FaceModel, dataset: Dataset) -> FaceIndex:
    return build_index(dataset)


def build_index(dataset: Dataset) -> FaceIndex:
    """Join faces of one identity, and faces of genuine pairs, into persons (union-find)."""
    faces: dict[str, Face] = {}
    labels: dict[str, str | None] = {}
    parent: dict[str, str] = {}

    def root(name: str) -> str:
        parent.setdefault(name, name)
        while parent[name] != name:
            parent[name] = parent[parent[name]]
            name = parent[name]
        return name

    for item in dataset.items():
        for face in item.faces:
            faces.setdefault(face.id, face)
            if isinstance(item, Sample):
                labels[face.id] = item.label
            if face.identity is not None:
                parent[root(f"face {face.id}")] = root(f"identity {face.identity}")
        if isinstance(item, Pair) and item.same:
            parent[root(f"face {item.a.id}")] = root(f"face {item.b.id}")
    ids = sorted(faces)
    numbers: dict[str, int] = {}
    person = np.array([numbers.setdefault(root(f"face {i}"), len(numbers)) for i in ids], dtype=np.int64)
    return FaceIndex(
        dataset,
        tuple(faces[i] for i in ids),
        person,
        np.array([labels.get(i) for i in ids], dtype=object),
        {face_id: place for place, face_id in enumerate(ids)},
    )


def draw_strangers(index: FaceIndex, samples: Samples, sides: int = 1) -> list[tuple[Face, ...]]:
    """Draw, for each sample, one stranger per altered face.

    Pairs: a face of a person who is neither of the two; with ``sides=2`` the second stranger is a third person.
    Classifiers: a face of another class where the dataset has two classes, and of another person where that is known.

    Raises:
        NotApplicable: the dataset holds no such face.
    """
    drawn = []
    for i, item in enumerate(samples):
        rng = samples.rng(i, "stranger")
        known = [index.number[face.id] for face in item.faces if face.id in index.number]
        allowed = np.ones(len(index.faces), dtype=bool)
        allowed[known] = False
        others = allowed & ~np.isin(index.person, index.person[known])
        if isinstance(item, Sample):
            other_class = np.array([label is not None and label != item.label for label in index.labels], dtype=bool)
            choices = [others & other_class, allowed & other_class, others, allowed]
            allowed = next((c for c in choices if c.any()), allowed)
        else:
            allowed = others
        chosen: list[Face] = []
        for _ in range(sides):
            candidates = np.flatnonzero(allowed)
            if not len(candidates):
                raise NotApplicable(
                    f'fill "stranger": dataset "{index.dataset.name}" has no face of another person for sample '
                    f'"{item.id}"; choose another fill, such as fill=blur'
                )
            place = int(candidates[int(rng.integers(len(candidates)))])
            chosen.append(index.faces[place])
            allowed = allowed & (index.person != index.person[place])
        drawn.append(tuple(chosen))
    return drawn
