"""Why this one and not that one: a probe against a gallery, explained by what separates the best mate from the best
other person.

Place in the flow: behind ``faithface why PROBE --gallery FOLDER``. May call its siblings, ``regions``, ``loading``,
``model``, ``images`` and ``plugins``.

The explained scalar is the similarity to one image minus that to another: the mate's image that is most similar to the
unaltered probe, and the most similar image of anybody else. Both stay the same while the probe's regions are replaced,
so the values answer for these two images, and add up.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from faithface.contract import Dataset, Face, FaceModel, Pair
from faithface.errors import RunError, UsageError, nearest
from faithface.images import list_images, read_image
from faithface.loading import load_samples, read_face
from faithface.regions.fills import make_fills
from faithface.regions.partition import Regions
from faithface.regions.shapley import RegionValues
from faithface.regions.values import region_values
from faithface.tasks import pair_similarity


@dataclass(frozen=True)
class Candidate:
    """A person of the gallery with the image that is most similar to the probe."""

    person: str
    image: str
    similarity: float


@dataclass(frozen=True)
class Ranking:
    """Where the probe stands in the gallery.

    Attributes:
        folder: the gallery's name.
        mate: the person whose image is explained for, and that image.
        other: the best of anybody else.
        candidates: every person with the best image, the most similar first.
        known: whether the mate was named (by the user or the probe's folder); else it is the most similar person.
        images: how many images the gallery has.
    """

    folder: str
    mate: Candidate
    other: Candidate
    candidates: tuple[Candidate, ...]
    known: bool
    images: int

    @property
    def rank(self) -> int:
        """The mate's place among the people, from 1."""
        return 1 + [one.person for one in self.candidates].index(self.mate.person)

    @property
    def score(self) -> float:
        return self.mate.similarity - self.other.similarity


@dataclass(frozen=True)
class GalleryFaces(Dataset):
    """The probe paired with every image of a gallery: one folder per person."""

    probe: Path = Path()
    folder: Path = Path()
    mate: str | None = None

    name = "gallery"
    task = "verification"
    aligned = True

    def items(self) -> tuple[Pair, ...]:
        owner = self.mate or "the probe's"
        own = self.probe.resolve()
        probe = Face("probe", _reader(self.probe), owner)
        return tuple(
            Pair(f"probe--{name}", probe, Face(name, _reader(path), person), person == owner)
            for name, path, person in gallery_images(self.folder)
            if path.resolve() != own
        )


def gallery_images(folder: Path) -> list[tuple[str, Path, str]]:
    """Return (name, path, person) of a gallery's images: a person is the folder in which an image lies.

    Raises:
        UsageError: no folder, or images that lie in no person's folder, or fewer than two people.
    """
    if not folder.is_dir():
        raise UsageError(f"the gallery {folder} is not a folder; expected one with a folder of images per person")
    found = list_images(folder)
    loose = [name for name, _ in found if "/" not in name]
    if loose:
        raise UsageError(
            f"the gallery {folder} has images outside of a person's folder ({loose[0]}); expected one folder per person"
        )
    images = [(name, path, name.rpartition("/")[0]) for name, path in found]
    people = {person for _, _, person in images}
    if len(people) < 2:
        raise UsageError(
            f"the gallery {folder} has images of {len(people)} people; expected at least 2: one mate, and one other"
        )
    return images


def rank(model: FaceModel, data: GalleryFaces) -> Ranking:
    """Embed probe and gallery, and name the mate and the best other.

    Raises:
        UsageError: the named mate is not in the gallery, or has no image but the probe.
        RunError: similarities that are not finite.
    """
    pairs = data.items()
    people = sorted({str(pair.b.identity) for pair in pairs})
    mate = data.mate
    if mate is not None and mate not in people:
        raise UsageError(f'the gallery {data.folder} has no other image of "{mate}"; {nearest(mate, people)}')
    faces = [pairs[0].a, *(pair.b for pair in pairs)]
    parts = []
    for start in range(0, len(faces), 64):
        batch = torch.stack([read_face(face, model.size) for face in faces[start : start + 64]])
        parts.append(model.embeddings(batch.to(model.device)).cpu())
    embedded = torch.cat(parts)
    similarity = pair_similarity(model.card, embedded[1:], embedded[:1].expand(len(pairs), -1)).double().numpy()
    if not np.isfinite(similarity).all():
        raise RunError(f'model "{model.card.name}" gives similarities that are not finite for this gallery')
    best: dict[str, Candidate] = {}
    for pair, value in zip(pairs, similarity, strict=True):
        person = str(pair.b.identity)
        if person not in best or value > best[person].similarity:
            best[person] = Candidate(person, pair.b.id, float(value))
    ordered = sorted(best.values(), key=lambda one: (-one.similarity, one.person))
    chosen = best[mate] if mate is not None else ordered[0]
    other = next((one for one in ordered if one.person != chosen.person), None)
    if other is None:
        raise UsageError(f"the gallery {data.folder} has nobody besides {chosen.person}; expected at least 2 people")
    return Ranking(data.folder.name, chosen, other, tuple(ordered), mate is not None, len(pairs))


def gallery_values(
    model: FaceModel,
    data: GalleryFaces,
    strangers: Dataset | None,
    ranking: Ranking,
    regions: Regions,
    kind: str,
    count: int,
    seed: int,
) -> tuple[RegionValues, tuple[str, ...], tuple[np.ndarray, ...], float]:
    """Return the exact values of similarity to the mate minus similarity to the other, the fills' names, the three
    images H×W×3, and the seconds that it took.

    Args:
        strangers: where strangers are drawn from; None: from the gallery's other people.
        kind: ``stranger``, ``partner`` (the best other's pixels), or ``blur``.
    """
    pairs = {str(pair.b.id): pair for pair in data.items()}
    mate, other = pairs[ranking.mate.image], pairs[ranking.other.image]
    # The partner's pixels are those of the other person: what if the probe had this one's mouth?
    samples = load_samples(model, [other if kind == "partner" else mate], seed, None, data)
    known = ("probe", mate.b.id, other.b.id)
    fills = make_fills(model, samples, kind, count, strangers or data, known)
    references = torch.stack([read_face(pair.b, model.size) for pair in (mate, other)])
    embedded = model.embeddings(references.to(model.device)).cpu()
    start = time.perf_counter()
    (values,) = region_values(model, samples, [fills], regions.labels, _margin(model, embedded))
    seconds = time.perf_counter() - start
    pixels = [samples.images[0, 0].cpu(), *references]
    return values, fills.names, tuple(one.numpy().transpose(1, 2, 0) for one in pixels), seconds


def _margin(model: FaceModel, references: Tensor) -> Callable[[Tensor], Tensor]:
    def scalar(outputs: Tensor) -> Tensor:
        to_mate, to_other = (pair_similarity(model.card, outputs, one[None]) for one in references)
        return to_mate - to_other

    return scalar


def mate_of(probe: Path, folder: Path, mate: str | None) -> str | None:
    """Return whose image the probe is: as given, else the person of the gallery in whose folder it lies."""
    if mate is not None:
        return mate
    try:
        # By name, not by what links lead to: a gallery may be made of links.
        inside = Path(os.path.abspath(probe)).relative_to(os.path.abspath(folder))
    except ValueError:
        return None
    return inside.parent.as_posix() if inside.parent != Path(".") else None


def _reader(path: Path) -> Callable[[], np.ndarray]:
    return lambda: read_image(path)
