"""``generators:PATH``: a folder of real faces against one folder per generator, as synthetic-face test sets come.

Place in the flow: a builtin dataset. May call ``images``, ``folder`` (ids, masks), the contract, ``errors``.
"""

from __future__ import annotations

import dataclasses
import functools
from dataclasses import dataclass, field
from pathlib import Path

from faithface.contract import Dataset, Face, Sample
from faithface.errors import UsageError
from faithface_plugins.datasets.folder import listing_hash, read_mask, unique_ids
from faithface_plugins.datasets.images import list_images, read_image, safe_id


@dataclass(frozen=True)
class Generators(Dataset):
    """Sub-folders are sources: those named in ``real`` are real, every other one is a generator (FFHQ's numbered inner
    folders are kept).

    Parameters:
        real: names of the real sources, joined by ``+``.
        per_source: at most so many images of each source, in order of name; 0 = all.
        human: a folder with the same tree that holds human-salience masks (one PNG of the same stem per image).

    Sample ids are ``class--source_path``.
    """

    real: tuple[str, ...] = ("real", "ffhq", "celeba-hq", "celebahq", "celebahq-1024", "FFHQ", "CelebA-HQ")
    per_source: int = 0
    human: str | None = None
    root: str = field(default="", metadata={"parameter": False})

    name = "generators"
    task = "synthetic-detection"
    classes = ("real", "synthetic")
    positive = "synthetic"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Generators:
        root = Path(argument).expanduser()
        if not root.is_dir():
            raise UsageError(f"dataset generators:{argument}: no such folder; expected one sub-folder per source")
        return dataclasses.replace(self, root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return listing_hash(Path(self.root)) if self.root else "1"

    def truths(self) -> frozenset[str]:
        return frozenset({"human"}) if self.human else frozenset()

    def items(self) -> list[Sample]:
        if not self.root:
            raise UsageError("dataset generators needs a folder: write generators:PATH")
        sources = sorted(p for p in Path(self.root).iterdir() if p.is_dir() and not p.name.startswith("."))
        made: list[Sample] = []
        for folder in sources:
            label = "real" if folder.name in self.real else "synthetic"
            for path in list_images(folder)[: self.per_source or None]:
                inner = path.relative_to(folder).with_suffix("").as_posix()
                truth = {}
                if self.human:
                    mask = Path(self.human).expanduser() / folder.name / f"{inner}.png"
                    truth = {"human": functools.partial(read_mask, mask)} if mask.is_file() else {}
                face = Face(f"{folder.name}/{inner}", functools.partial(read_image, path))
                made.append(Sample(f"{label}--{safe_id(folder.name + '_' + inner)}", face, label, truth=truth))
        found = {sample.label for sample in made}
        if found != {"real", "synthetic"}:
            names = ", ".join(folder.name for folder in sources) or "none"
            raise UsageError(
                f"dataset generators:{self.root}: expected real and synthetic sources, got folders {names}; "
                "name the real ones: generators:PATH(real=NAME+NAME)"
            )
        unique_ids([sample.id for sample in made], f"generators:{self.root}")
        return made
