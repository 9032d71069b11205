"""``faceforensics:PATH``: FaceForensics++ as DeepfakeBench prepares it: cropped frames, and masks of what was altered.

Place in the flow: a builtin dataset. May call ``images``, ``tables``, ``content``, ``ids``, ``listing``,
the contract, ``errors``.

The layout (DeepfakeBench, Yan et al. 2023)::

    original_sequences/<source>/<compression>/frames/<video>/<frame>.png
    manipulated_sequences/<method>/<compression>/frames/<target>_<source>/<frame>.png
    manipulated_sequences/<method>/<compression>/masks/<target>_<source>/<frame>.png
    train.json, val.json, test.json      the split, as FaceForensics++ distributes it: lists of video pairs
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from faithface.contract import Dataset, Face, Sample
from faithface.errors import UsageError, nearest
from faithface.files import user_path
from faithface.images import list_images, read_image
from faithface.tables import read_text
from faithface_plugins.datasets.content import FileDigest, content_revision
from faithface_plugins.datasets.ids import clean_name, safe_id, unique_ids
from faithface_plugins.datasets.listing import class_folders, not_read, read_mask, refuse_outside
from faithface_plugins.datasets.pad_layouts import one_class, spread

REAL, FAKE = "original_sequences", "manipulated_sequences"


@dataclass(frozen=True)
class FaceForensics(Dataset):
    """FaceForensics++ (and DeepFakeDetection) as DeepfakeBench prepares it: frames cropped to the face, real or
    synthetic.

    Parameters:
        compression: ``c23``, ``c40`` or ``raw``; may be omitted where there is only one.
        methods: names of manipulations, joined by ``+``; default: all in the folder.
        split: ``train``, ``val`` or ``test`` by the JSON file of that name; ``all`` uses every video.
        frames: how many frames of each video, evenly spaced.
        aligned: the crops are aligned, as DeepfakeBench makes them.
        allow_outside: read images that links in the folder lead to, elsewhere.

    A manipulated frame with a mask beside it has the ground truth ``relevance``: the pixels whose mask is above one
    half. Sample ids are ``class--source_video_frame``.
    """

    compression: str = ""
    methods: tuple[str, ...] = ()
    split: Literal["all", "train", "val", "test"] = "all"
    frames: int = 5
    aligned: bool = True
    allow_outside: bool = False
    root: str = field(default="", metadata={"parameter": False})

    name = "faceforensics"
    task = "synthetic-detection"
    classes = ("real", "synthetic")
    positive = "synthetic"
    source = "Rössler et al., FaceForensics++ (ICCV 2019), as prepared by DeepfakeBench; the user's own copy"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; expected at least 1")

    def with_argument(self, argument: str) -> FaceForensics:
        root = user_path(argument)
        if not os.path.isdir(root / REAL) and not os.path.isdir(root / FAKE):
            raise UsageError(
                f"dataset faceforensics:{argument}: neither {REAL} nor {FAKE} exists; give the folder that holds them"
            )
        return dataclasses.replace(self, root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.root else "1"

    def truths(self) -> frozenset[str]:
        masks = self.root and any((path / "masks").is_dir() for label, _, path in self._sources() if label != "real")
        return frozenset({"relevance"}) if masks else frozenset()

    def items(self) -> list[Sample]:
        wanted = self._wanted()
        ids: list[str] = []
        names: list[str] = []
        made: list[tuple[str, str, Path, Path]] = []
        for label, source, folder in self._sources():
            videos: dict[str, list[tuple[str, Path]]] = {}
            images = list_images(folder / "frames") if (folder / "frames").is_dir() else []
            refuse_outside((p for _n, p in images), Path(self.root), self.allow_outside, f"faceforensics:{self.root}")
            for name, path in images:
                videos.setdefault(name.rpartition("/")[0], []).append((name, path))
            for video, shots in videos.items():
                if wanted is not None and video.partition("_")[0] not in wanted:
                    continue
                for name, path in spread(shots, self.frames):
                    short = name.removesuffix(path.suffix)
                    ids.append(f"{label}--{safe_id(f'{source}_{short}')}")
                    names.append(f"{label}/{source}/{name}")
                    made.append((label, f"{source}/{name}", path, folder / "masks" / f"{short}.png"))
        if not made:
            raise UsageError(
                f"dataset faceforensics:{self.root}: no frames; expected <source>/<compression>/frames/<video>"
            )
        samples = []
        for sample_id, (label, face_id, path, mask) in zip(unique_ids(ids, names), made, strict=True):
            face = Face(clean_name(face_id), functools.partial(read_image, path), digest=FileDigest((path,)))
            if label != "real" and mask.is_file():
                truth = {"relevance": functools.partial(_altered, mask)}
                samples.append(Sample(sample_id, face, label, truth, truth_digest=FileDigest((mask,))))
            else:
                samples.append(Sample(sample_id, face, label))
        return samples

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about these files, one line each."""
        return (*not_read(Path(self.root)), *one_class(self.items()))

    def _sources(self) -> Iterator[tuple[str, str, Path]]:
        """Yield (class, name, folder of one compression) of each source and method."""
        if not self.root:
            raise UsageError("dataset faceforensics needs a folder: write faceforensics:PATH")
        root = Path(self.root)
        methods = class_folders(root / FAKE) if (root / FAKE).is_dir() else []
        known = [path.name for path in methods]
        for name in self.methods:
            if name not in known:
                raise UsageError(f'dataset faceforensics:{self.root}: no method "{name}"; {nearest(name, known)}')
        real = class_folders(root / REAL) if (root / REAL).is_dir() else []
        for folder in real:
            yield "real", folder.name, self._compressed(folder)
        for folder in methods:
            if not self.methods or folder.name in self.methods:
                yield "synthetic", folder.name, self._compressed(folder)

    def _compressed(self, folder: Path) -> Path:
        there = [path.name for path in class_folders(folder)]
        if self.compression in there:
            return folder / self.compression
        if not self.compression and len(there) == 1:
            return folder / there[0]
        listed = ", ".join(there) or "none"
        if not self.compression:
            raise UsageError(
                f"{folder} holds several compressions ({listed}); write compression=c23 or another of them"
            )
        raise UsageError(f"{folder} has no compression {self.compression}; it holds: {listed}")

    def _wanted(self) -> set[str] | None:
        """Return the video numbers of the split; None for all."""
        if self.split == "all":
            return None
        path = Path(self.root) / f"{self.split}.json"
        try:
            return {str(video) for pair in json.loads(read_text(path, "split")) for video in pair}
        except (ValueError, TypeError, RecursionError) as error:
            raise UsageError(f"{path}: expected a JSON list of pairs of video numbers ({error})") from None


def _altered(path: Path) -> np.ndarray:
    return read_mask(path) > 0.5
