"""From light samples to a batch of pixels with clean scores: the step before every explanation.

Place in the flow: called by ``run`` for each shard, by the Python API and by tests. May call ``contract``, ``tasks``,
``errors``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from faithface.contract import Clean, Dataset, Face, FaceModel, Pair, Sample, Samples
from faithface.errors import UsageError
from faithface.lazy import torch
from faithface.reasons import ReasonCode
from faithface.tasks import class_probabilities, decided, equal_error_threshold, pair_similarity, threshold_on

if TYPE_CHECKING:
    from torch import Tensor


def read_face(face: Face, size: tuple[int, int]) -> Tensor:
    """Read one face as float32 3×H×W, RGB, in [0, 1], resized to ``size`` (bilinear, anti-aliased) where it differs.

    Raises:
        UsageError: what ``face.read`` returned is not an H×W×3 float image in [0, 1].
    """
    pixels = np.asarray(face.read())
    if pixels.ndim != 3 or pixels.shape[2] != 3 or pixels.dtype != np.float32:
        raise UsageError(
            f'face "{face.id}" was read as {pixels.dtype} {pixels.shape}; expected float32 H×W×3 in [0, 1]'
        )
    # Always a copy, because it is clamped in place.
    image = torch.from_numpy(np.array(pixels.transpose(2, 0, 1), order="C"))
    if tuple(image.shape[1:]) != tuple(size):
        image = torch.nn.functional.interpolate(
            image[None], size=tuple(size), mode="bilinear", antialias=True, align_corners=False
        )[0]
    return image.clamp_(0, 1)


def read_faces(items: Iterable[Sample | Pair], size: tuple[int, int]) -> dict[str, Tensor]:
    """Read the faces of some samples, each once: float32 3×H×W by face id (see :func:`read_face`)."""
    faces = {face.id: face for item in items for face in item.faces}
    return {face_id: read_face(face, size) for face_id, face in faces.items()}


def load_samples(
    model: FaceModel,
    items: Sequence[Sample] | Sequence[Pair],
    seed: int = 0,
    threshold: float | None = None,
    dataset: Dataset | None = None,
    pixels: Mapping[str, Tensor] | None = None,
) -> Samples:
    """Read the pixels of some samples and score them clean.

    Args:
        model: gives the input size and the clean scores.
        items: samples or pairs, at least one.
        seed: the suite's seed.
        threshold: the decision threshold of a verification model as a similarity (see :func:`clean_threshold`); None:
            the card's, if it has one.
        dataset: where the items come from; fills that need another face look there.
        pixels: what :func:`read_faces` returned for these items, where they were read ahead; None: read them now.

    Raises:
        UsageError: no items, or items that do not fit the model's task.
    """
    chosen: tuple[Any, ...] = tuple(items)
    if not chosen:
        raise UsageError("no samples to load; expected at least one")
    pairs = isinstance(chosen[0], Pair)
    if pairs != (model.card.task == "verification"):
        got, want = ("pairs", "single images") if pairs else ("single images", "pairs")
        raise UsageError(f'model "{model.card.name}" is for {model.card.task} and needs {want}; got {got}')
    size = model.size
    pixels = read_faces(chosen, size) if pixels is None else pixels
    if not pairs:
        images = torch.stack([pixels[item.face.id] for item in chosen]).to(model.device)
        outputs = model.outputs(images)
        scores, predicted = class_probabilities(model.card, outputs).max(dim=1)
        return Samples(chosen, images, Clean(outputs, scores, predicted), seed, dataset)
    # A face that appears in several pairs of the batch is read and embedded once.
    names = dict.fromkeys(face.id for item in chosen for face in item.faces)
    order = {face_id: i for i, face_id in enumerate(names)}
    single = torch.stack([pixels[face_id] for face_id in names]).to(model.device)
    at = torch.tensor([[order[face.id] for face in item.faces] for item in chosen], device=single.device)
    embedded = model.embeddings(single)
    outputs = embedded[at]
    scores = pair_similarity(model.card, outputs[:, 0], outputs[:, 1])
    threshold = threshold_on(model.card) if threshold is None else threshold
    return Samples(chosen, single[at], Clean(outputs, scores, decided(scores, threshold), threshold), seed, dataset)


def dataset_scores(model: FaceModel, dataset: Dataset, chunk: int = 64) -> tuple[np.ndarray, np.ndarray]:
    """Return the similarity of every pair of a dataset and whether it is genuine; each face is embedded once.

    Memory: one embedding per face, and ``chunk`` images.
    """
    items = dataset.items()
    faces: dict[str, Face] = {}
    for item in items:
        for face in item.faces:
            faces.setdefault(face.id, face)
    names = list(faces)
    parts = []
    for start in range(0, len(names), chunk):
        images = torch.stack([read_face(faces[name], model.size) for name in names[start : start + chunk]])
        parts.append(model.embeddings(images.to(model.device)))
    embedded = torch.cat(parts)
    order = {name: i for i, name in enumerate(names)}
    a = embedded[[order[item.a.id] for item in items]]  # type: ignore[union-attr]
    b = embedded[[order[item.b.id] for item in items]]  # type: ignore[union-attr]
    scores = pair_similarity(model.card, a, b).cpu().numpy()
    return scores, np.array([item.same for item in items], dtype=bool)  # type: ignore[union-attr]


def clean_threshold(model: FaceModel, dataset: Dataset) -> float:
    """Return the decision threshold: the card's, else the equal-error point of the dataset's clean scores.

    Pairs for which the model gives no finite similarity do not count.

    Raises:
        UsageError: too few pairs are left: no genuine or no impostor pair.
    """
    given = threshold_on(model.card)
    if given is not None:
        return given
    scores, same = dataset_scores(model, dataset)
    finite = np.isfinite(scores)
    left = same[finite]
    if not finite.all() and (not left.any() or left.all()):
        raise UsageError(
            f'model "{model.card.name}" returned embeddings that are not finite for {int((~finite).sum())} of '
            f'{len(scores)} pairs of dataset "{dataset.name}"; check the file and the card\'s [input]',
            ReasonCode.MODEL_UNUSABLE,
        )
    return equal_error_threshold(scores[finite], left)
