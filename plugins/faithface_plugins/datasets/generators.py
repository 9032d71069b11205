"""``generators:PATH``: a folder of real faces against one folder per generator, as synthetic-face test sets come.

Place in the flow: a builtin dataset. May call ``images``, ``content``, ``ids``, ``listing``, the contract,
``errors``.
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
from faithface_plugins.datasets.content import FileDigest, content_revision
from faithface_plugins.datasets.ids import clean_name, safe_id, unique_ids
from faithface_plugins.datasets.listing import class_folders, human_masks, not_read, refuse_outside


@dataclass(frozen=True)
class Generators(Dataset):
    """Sub-folders are sources: those named in ``real`` are real, every other one is a generator (FFHQ's numbered inner
    folders are kept).

    Parameters:
        real: names of the real sources, joined by ``+``.
        per_source: at most so many images of each source, in order of name; 0 = all.
        human: a folder with the same tree that holds human-salience masks (one PNG of the same stem per image).
        allow_outside: read images that links in the folder lead to, elsewhere.

    Sample ids are ``class--source_path``.
    """

    real: tuple[str, ...] = ("real", "ffhq", "celeba-hq", "celebahq", "celebahq-1024", "FFHQ", "CelebA-HQ")
    per_source: int = 0
    human: str | None = None
    allow_outside: bool = False
    root: str = field(default="", metadata={"parameter": False})

    name = "generators"
    task = "synthetic-detection"
    classes = ("real", "synthetic")
    positive = "synthetic"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Generators:
        root = user_path(argument)
        if not os.path.isdir(root):
            raise UsageError(f"dataset generators:{argument}: no such folder; expected one sub-folder per source")
        return dataclasses.replace(self, root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.root else "1"

    def truths(self) -> frozenset[str]:
        return frozenset({"human"}) if self.human else frozenset()

    def items(self) -> list[Sample]:
        if not self.root:
            raise UsageError("dataset generators needs a folder: write generators:PATH")
        sources = class_folders(Path(self.root))
        ids: list[str] = []
        names: list[str] = []
        made: list[tuple[Face, str]] = []
        for folder in sources:
            label = "real" if folder.name in self.real else "synthetic"
            images = list_images(folder)[: self.per_source or None]
            refuse_outside(
                (path for _name, path in images), Path(self.root), self.allow_outside, f"generators:{self.root}"
            )
            inners = Counter(name.removesuffix(path.suffix) for name, path in images)
            for name, path in images:
                inner = name.removesuffix(path.suffix)
                ids.append(f"{label}--{safe_id(f'{folder.name}_{inner}')}")
                names.append(f"{folder.name}/{name}")
                face_id = clean_name(f"{folder.name}/{inner if inners[inner] == 1 else name}")
                face = Face(face_id, functools.partial(read_image, path), digest=FileDigest((path,)))
                made.append((face, label))
        masks = [human_masks(self.human, name.rpartition(".")[0]) for name in names]
        samples = [
            Sample(sample_id, face, label, truth=truth, truth_digest=digest)
            for sample_id, (face, label), (truth, digest) in zip(unique_ids(ids, names), made, masks, strict=True)
        ]
        found = {sample.label for sample in samples}
        if found != {"real", "synthetic"}:
            listed = ", ".join(folder.name for folder in sources) or "none"
            raise UsageError(
                f"dataset generators:{self.root}: expected real and synthetic sources, got folders {listed}; "
                "name the real ones: generators:PATH(real=NAME+NAME)"
            )
        return samples

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about these files, one line each."""
        return not_read(Path(self.root))
