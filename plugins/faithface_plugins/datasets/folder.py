"""``folder:PATH``: a folder with one sub-folder per class becomes a set of classifier samples. No code.

Place in the flow: a builtin dataset. May call ``images``, ``align`` and the contract.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faithface.contract import Dataset, Face, Mask, Sample
from faithface.errors import UsageError
from faithface.tasks import Task
from faithface_plugins.datasets.align import aligned_reader, read_landmarks
from faithface_plugins.datasets.images import list_images, read_image, safe_id


@dataclass(frozen=True)
class Folder(Dataset):
    """Images in class sub-folders: ``PATH/<class>/…/image.png``; the class is the first folder's name.

    Parameters:
        aligned: the faces sit at the same place in every image; ``false`` forbids the fills that need it.
        landmarks: a CSV of five landmarks per image (see ``align``), by which the faces are aligned to the ArcFace
            template.
        size: side of the aligned crops.
        human: a folder with the same tree that holds human-salience masks (greyscale, one PNG of the same stem per
            image).
        positive: the attack or synthetic class, where a reader of the record should know it.

    Sample ids are ``class--stem``; where two files of a class would share one, the inner folders join it.
    """

    aligned: bool = True
    landmarks: str | None = None
    size: int = 112
    human: str | None = None
    positive: str = ""
    root: str = field(default="", metadata={"parameter": False})

    name = "folder"
    task = "pad"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Folder:
        root = Path(argument).expanduser()
        if not root.is_dir():
            raise UsageError(
                f"dataset folder:{argument}: no such folder; expected a folder with one sub-folder per class"
            )
        opened = dataclasses.replace(self, root=str(root))
        classes = opened._class_folders()
        if len(classes) < 2:
            got = f"only {classes[0].name}" if classes else "none"
            raise UsageError(
                f"dataset folder:{argument}: expected at least two class sub-folders with images (such as "
                f"bona-fide and attack), got {got}"
            )
        return opened

    def _class_folders(self) -> list[Path]:
        if not self.root:
            raise UsageError("dataset folder needs a path: write folder:PATH")
        return sorted(
            p for p in Path(self.root).iterdir() if p.is_dir() and not p.name.startswith(".") and list_images(p)
        )

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(folder.name for folder in self._class_folders()) if self.root else ()

    @property
    def revision(self) -> str:  # type: ignore[override]
        return listing_hash(Path(self.root)) if self.root else "1"

    def fits(self, task: Task) -> bool:
        return task != "verification"

    def items(self) -> list[Sample]:
        made: list[Sample] = []
        table = None if self.landmarks is None else read_landmarks(Path(self.landmarks).expanduser())
        for folder in self._class_folders():
            paths = list_images(folder)
            stems = [path.stem for path in paths]
            for path in paths:
                inner = path.relative_to(folder).with_suffix("").as_posix()
                stem = path.stem if stems.count(path.stem) == 1 else inner.replace("/", "_")
                sample_id = f"{safe_id(folder.name)}--{safe_id(stem)}"
                relative = path.relative_to(self.root).as_posix()
                read = aligned_reader(functools.partial(read_image, path), relative, table, self.size)
                face = Face(f"{folder.name}/{inner}", read)
                made.append(Sample(sample_id, face, folder.name, truth=self._truth(folder.name, inner)))
        unique_ids([sample.id for sample in made], f"folder:{self.root}")
        return made

    def truths(self) -> frozenset[str]:
        return frozenset({"human"}) if self.human else frozenset()

    def _truth(self, label: str, inner: str) -> Mapping[str, Mask]:
        if not self.human:
            return {}
        path = Path(self.human).expanduser() / label / f"{inner}.png"
        return {"human": functools.partial(read_mask, path)} if path.is_file() else {}


def read_mask(path: Path) -> np.ndarray:
    """Return a salience mask as float32 H×W in [0, 1] (the mean of the channels of a colour file)."""
    return read_image(path).mean(axis=2)


def listing_hash(root: Path) -> str:
    """Return a revision for a folder: a hash of its images' paths and sizes, cheap and changed by most edits."""
    digest = hashlib.sha256()
    for path in list_images(root):
        digest.update(f"{path.relative_to(root).as_posix()}\0{path.stat().st_size}\n".encode())
    return digest.hexdigest()[:12]


def unique_ids(ids: list[str], what: str) -> None:
    """Raise UsageError if two samples share an id: records and exported maps are kept under it."""
    seen: set[str] = set()
    for sample_id in ids:
        if sample_id in seen:
            raise UsageError(f'dataset {what}: two samples would have the id "{sample_id}"; rename one of the files')
        seen.add(sample_id)
