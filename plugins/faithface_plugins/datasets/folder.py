"""``folder:PATH``: a folder with one sub-folder per class becomes a set of classifier samples. No code.

Place in the flow: a builtin dataset. May call ``images``, ``align``, ``content``, ``ids``, ``listing`` and the
contract.
"""

from __future__ import annotations

import dataclasses
import functools
import os
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from faithface.contract import Dataset, Face, Sample
from faithface.errors import UsageError
from faithface.files import user_path
from faithface.images import list_images, read_image
from faithface.tasks import Task
from faithface_plugins.datasets.align import aligned_reader, read_landmarks
from faithface_plugins.datasets.content import FileDigest, content_revision, landmark_note
from faithface_plugins.datasets.ids import clean_name, safe_id, unique_ids
from faithface_plugins.datasets.listing import class_folders, human_masks, not_read, refuse_outside

_FFPP = {"original_sequences", "manipulated_sequences"}


@dataclass(frozen=True)
class Folder(Dataset):
    """Images in class sub-folders: ``PATH/<class>/…/image.png``; the class is the first folder's name.

    Parameters:
        aligned: the faces are at the same place in every image; ``false`` forbids the fills that need it.
        landmarks: a CSV of five landmarks per image (see ``align``), by which the faces are aligned to the ArcFace
            template.
        size: side of the aligned crops.
        human: a folder with the same tree that holds human-salience masks (greyscale, one PNG of the same stem per
            image).
        positive: the attack or synthetic class, for the record.
        allow_outside: read images that links in the folder lead to, elsewhere.

    Sample ids are ``class--stem``; where two files of a class would share one, the inner folders are added, and where
    that is not enough, a part of the path's digest.
    """

    aligned: bool = True
    landmarks: str | None = None
    size: int = 112
    human: str | None = None
    positive: str = ""
    allow_outside: bool = False
    root: str = field(default="", metadata={"parameter": False})

    name = "folder"
    task = "pad"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Folder:
        root = user_path(argument)
        if not os.path.isdir(root):
            raise UsageError(
                f"dataset folder:{argument}: no such folder; expected a folder with one sub-folder per class"
            )
        opened = dataclasses.replace(self, root=str(root))
        classes = opened._listing()
        if set(classes) >= _FFPP:
            raise UsageError(
                f"dataset folder:{argument} holds FaceForensics++ with its masks; write faceforensics:{argument}"
            )
        if not classes:
            raise UsageError(
                f"dataset folder:{argument}: expected class sub-folders with images (such as bona-fide and attack), "
                "got none"
            )
        return opened

    def _listing(self) -> dict[str, list[tuple[str, Path]]]:
        """Return the images of each class that has some: (path relative to the class's folder, path)."""
        if not self.root:
            raise UsageError("dataset folder needs a path: write folder:PATH")
        listed = {folder.name: list_images(folder) for folder in class_folders(Path(self.root))}
        return {label: images for label, images in listed.items() if images}

    @property
    def classes(self) -> tuple[str, ...]:  # type: ignore[override]
        return tuple(map(clean_name, self._listing())) if self.root else ()

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.root else "1"

    def fits(self, task: Task) -> bool:
        return task != "verification"

    def items(self) -> list[Sample]:
        table = None if self.landmarks is None else read_landmarks(user_path(self.landmarks))
        ids: list[str] = []
        names: list[str] = []
        faces: list[tuple[Face, str]] = []
        listing = self._listing()
        for folder, images in listing.items():
            refuse_outside((path for _name, path in images), Path(self.root), self.allow_outside, f"folder:{self.root}")
            inner = [name.removesuffix(path.suffix) for name, path in images]
            stems, inners = Counter(path.stem for _name, path in images), Counter(inner)
            label = clean_name(folder)
            for (name, path), short in zip(images, inner, strict=True):
                stem = path.stem if stems[path.stem] == 1 else short.replace("/", "_")
                ids.append(f"{safe_id(folder)}--{safe_id(stem)}")
                names.append(f"{folder}/{name}")
                read = aligned_reader(functools.partial(read_image, path), f"{label}/{name}", table, self.size)
                # The suffix distinguishes a.jpg from a.png; it is part of the id only where it is needed.
                face_id = f"{label}/{clean_name(short if inners[short] == 1 else name)}"
                digest = FileDigest((path,), landmark_note(table, f"{label}/{name}", self.size))
                faces.append((Face(face_id, read, digest=digest), label))
        masks = [human_masks(self.human, name.rpartition(".")[0]) for name in names]
        return [
            Sample(sample_id, face, label, truth=truth, truth_digest=digest)
            for sample_id, (face, label), (truth, digest) in zip(unique_ids(ids, names), faces, masks, strict=True)
        ]

    def truths(self) -> frozenset[str]:
        return frozenset({"human"}) if self.human else frozenset()

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about these files, one line each."""
        if not self.root:
            raise UsageError("dataset folder needs a path: write folder:PATH")
        root = Path(self.root)
        lines = list(not_read(root))
        loose = sum("/" not in name for name, _path in list_images(root))
        if loose:
            lines.append(f"{loose} images lie directly in {root} and belong to no class; they are not used")
        if len(self.classes) == 1:
            lines.append(f"only one class, {self.classes[0]}: metrics that compare classes cannot be scored")
        return tuple(lines)
