"""The folder layouts of presentation-attack datasets: CelebA-Spoof, OULU-NPU, Replay-Attack, CASIA-FASD.

Place in the flow: builtin datasets. May call ``images``, ``tables``, ``content``, ``ids``, ``listing``, the contract,
``errors``.

Videos must have been split into frames, each video's frames in a folder of the video's name (``…/1_3_36_1.avi`` →
``…/1_3_36_1/0001.png``). A layout maps a path to a class and a kind of attack; the four differ in nothing
else.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import posixpath
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import numpy as np

from faithface.contract import Dataset, Face, Sample
from faithface.errors import UsageError
from faithface.files import user_path
from faithface.images import SUFFIXES, list_images, read_image
from faithface.tables import read_lines, read_text
from faithface_plugins.datasets.content import FileDigest, content_revision
from faithface_plugins.datasets.ids import clean_name, safe_id, unique_ids
from faithface_plugins.datasets.listing import not_read, refuse_outside

T = TypeVar("T")

BONA_FIDE, ATTACK = "bona-fide", "attack"
CELEBA_SPOOF_CROP = 224  # the side to which its bounding boxes are scaled


def oulu_npu(video: str) -> str | None:
    """``Phone_Session_User_File``: file 1 is bona fide, 2 and 3 are prints, 4 and 5 replays."""
    match = re.fullmatch(r"[1-6]_[1-3]_\d{1,2}_([1-5])", video.rsplit("/", 1)[-1])
    return {"1": "", "2": "print", "3": "print", "4": "replay", "5": "replay"}[match[1]] if match else None


def replay_attack(video: str) -> str | None:
    """``…/real/…`` is bona fide; ``…/attack/{fixed,hand}/attack_{print,mobile,highdef}_…`` names its medium."""
    parts = video.split("/")
    if "real" in parts[:-1]:
        return ""
    match = re.match(r"attack_(print|mobile|highdef)_", parts[-1])
    return match[1] if "attack" in parts[:-1] and match else None


def casia_fasd(video: str) -> str | None:
    """``subject/N``: 1, 2, HR_1 are bona fide; 3, 4, HR_2 warped photo; 5, 6, HR_3 cut photo; 7, 8, HR_4 video."""
    kinds = {"1": "", "2": "", "HR_1": "", "3": "warped-photo", "4": "warped-photo", "HR_2": "warped-photo"}
    kinds |= {"5": "cut-photo", "6": "cut-photo", "HR_3": "cut-photo", "7": "video", "8": "video", "HR_4": "video"}
    return kinds.get(video.rsplit("/", 1)[-1])


_OULU_LINE = re.compile(r"\s*([+-]?\d+)\s*,\s*(\S+)\s*")


@dataclass(frozen=True)
class FramesDataset(Dataset):
    """Frames of videos in folders, labelled by the layout of a published dataset.

    Parameters:
        frames: how many frames of each video, evenly spaced.
        protocol: a list of the videos to use, one per line (paths or names, with or without suffix; OULU-NPU's
            ``+1,name`` form is understood); default: all.
        allow_outside: read images that links in the folder lead to, elsewhere.

    Sample ids are ``class--video_frame``.
    """

    frames: int = 5
    protocol: str | None = None
    allow_outside: bool = False
    root: str = field(default="", metadata={"parameter": False})
    name: str = field(default="", metadata={"parameter": False})
    layout: Callable[[str], str | None] = field(default=oulu_npu, metadata={"parameter": False}, repr=False)

    task = "pad"
    classes = (BONA_FIDE, ATTACK)
    positive = ATTACK
    aligned = False
    source = "the user's own copy"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames is {self.frames}; expected at least 1")

    def with_argument(self, argument: str) -> FramesDataset:
        root = user_path(argument)
        if not os.path.isdir(root):
            raise UsageError(f"dataset {self.name}:{argument}: no such folder")
        return dataclasses.replace(self, root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.root else "1"

    def items(self) -> list[Sample]:
        if not self.root:
            raise UsageError(f"dataset {self.name} needs a folder: write {self.name}:PATH")
        root = Path(self.root)
        wanted = None if self.protocol is None else set(read_protocol(user_path(self.protocol)))
        videos: dict[str, list[Path]] = {}
        listed_images = list_images(root)
        refuse_outside((path for _n, path in listed_images), root, self.allow_outside, f"{self.name}:{self.root}")
        for name, path in listed_images:
            videos.setdefault(name.rpartition("/")[0] or ".", []).append(path)
        ids: list[str] = []
        faces: list[tuple[Face, str]] = []
        for video, paths in videos.items():
            kind = self.layout(video)
            listed = wanted is None or video in wanted or video.rsplit("/", 1)[-1] in wanted
            if kind is None or not listed:
                continue
            label = ATTACK if kind else BONA_FIDE
            for path in spread(paths, self.frames):
                ids.append(f"{label}--{safe_id(video + '_' + path.stem)}")
                read = functools.partial(read_image, path)
                faces.append((Face(clean_name(f"{video}/{path.name}"), read, digest=FileDigest((path,))), label))
        if not faces:
            listed_text = "" if wanted is None else f" and named in {self.protocol}"
            raise UsageError(
                f"dataset {self.name}:{self.root}: no frame folders of this layout{listed_text}; {self.layout.__doc__}"
            )
        return _samples(ids, faces)

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of these files, one line each."""
        return (*not_read(Path(self.root)), *one_class(self.items()))


def read_protocol(path: Path) -> list[str]:
    """Return the video names of a protocol list, without suffixes."""
    names = []
    for _number, line in read_lines(path, "list of videos, one name per line"):
        match = _OULU_LINE.fullmatch(line)
        text = (match[2] if match else line).strip()
        if text:
            names.append(re.sub(r"\.(avi|mov|mp4)$", "", text))
    return names


def spread(paths: Sequence[T], count: int) -> list[T]:
    """Return that many of the paths, evenly spaced, first and last included."""
    at = np.unique(np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int))
    return [paths[i] for i in at]


def _samples(ids: list[str], faces: list[tuple[Face, str]]) -> list[Sample]:
    made = unique_ids(ids, [face.id for face, _label in faces])
    return [Sample(sample_id, face, label) for sample_id, (face, label) in zip(made, faces, strict=True)]


def one_class(samples: list[Sample]) -> tuple[str, ...]:
    """Return one line where all samples are of one class, or nothing."""
    labels = {sample.label for sample in samples}
    return (
        (f"only {labels.pop()} was found: metrics that compare classes cannot be scored",) if len(labels) == 1 else ()
    )


@dataclass(frozen=True)
class CelebaSpoof(Dataset):
    """CelebA-Spoof: ``Data/<split>/<id>/{live,spoof}/*.png|jpg`` with a bounding box beside each image, and ``metas``.

    Parameters:
        labels: the label file relative to the root; if it exists, it decides (its entry 43: 0 live, 1 spoof), otherwise
            the folder.
        split: ``test`` or ``train``.
        crop: crop to the bounding box (``<stem>_BB.txt``: x, y, w, h in an image scaled to 224×224, and a score).
        allow_outside: read images that links or the label file lead to, elsewhere.
    """

    labels: str = "metas/intra_test/test_label.json"
    split: str = "test"
    crop: bool = True
    allow_outside: bool = False
    root: str = field(default="", metadata={"parameter": False})

    name = "celeba-spoof"
    task = "pad"
    classes = (BONA_FIDE, ATTACK)
    positive = ATTACK
    aligned = False
    source = "Zhang et al., CelebA-Spoof (ECCV 2020); the user's own copy"

    def with_argument(self, argument: str) -> CelebaSpoof:
        root = user_path(argument)
        if not os.path.isdir(root / "Data"):
            raise UsageError(
                f"dataset celeba-spoof:{argument}: {root / 'Data'} is not a folder; give the folder that holds Data "
                "and metas"
            )
        return dataclasses.replace(self, root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.root else "1"

    def items(self) -> list[Sample]:
        if not self.root:
            raise UsageError("dataset celeba-spoof needs a folder: write celeba-spoof:PATH")
        root = Path(self.root)
        table = self._label_table(root)
        paths = [root / name for name in table] if table else [path for _name, path in list_images(self._data(root))]
        refuse_outside(paths, root, self.allow_outside, f"celeba-spoof:{self.root}")
        ids: list[str] = []
        faces: list[tuple[Face, str]] = []
        for path in paths:
            relative = path.relative_to(root).as_posix()
            if path.suffix.lower() not in SUFFIXES:
                continue
            spoof = bool(table[relative]) if table else path.parent.name == "spoof"
            label = ATTACK if spoof else BONA_FIDE
            read = functools.partial(_read_boxed if self.crop else read_image, path)
            ids.append(f"{label}--{safe_id(path.parents[1].name + '_' + path.stem)}")
            box = _box_path(path)
            digest = FileDigest((path, box) if self.crop and box.is_file() else (path,))
            faces.append((Face(clean_name(relative), read, digest=digest), label))
        if not faces:
            raise UsageError(f"dataset celeba-spoof:{self.root}: no images under Data/{self.split}")
        return _samples(ids, faces)

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know of these files, one line each."""
        return (*not_read(self._data(Path(self.root))), *one_class(self.items()))

    def _data(self, root: Path) -> Path:
        found = root / "Data" / self.split
        if not found.is_dir():
            raise UsageError(f"dataset celeba-spoof:{self.root}: no such split, {found}; expected test or train")
        return found

    def _label_table(self, root: Path) -> dict[str, int]:
        path = root / self.labels
        if not path.is_file():
            return {}
        try:
            content = json.loads(read_text(path, "label file"))
            table = {posixpath.normpath(name): int(values[43]) for name, values in content.items()}
        except (json.JSONDecodeError, AttributeError, IndexError, TypeError, ValueError, RecursionError) as error:
            raise UsageError(f"{path}: expected a JSON object of 44 numbers per image ({error})") from None
        return {name: value for name, value in table.items() if name.startswith(f"Data/{self.split}/")}


def _box_path(path: Path) -> Path:
    return path.with_name(f"{path.stem}_BB.txt")


def _read_boxed(path: Path) -> np.ndarray:
    image = read_image(path)
    box_path = _box_path(path)
    if not box_path.is_file():
        return image
    try:
        x, y, w, h = (float(v) for v in read_text(box_path, "bounding box").split()[:4])
        if not all(map(np.isfinite, (x, y, w, h))):
            raise ValueError("not finite")
    except ValueError:
        raise UsageError(f"{box_path}: expected 'x y w h score'") from None
    height, width = image.shape[:2]
    sx, sy = width / CELEBA_SPOOF_CROP, height / CELEBA_SPOOF_CROP
    left, top = max(int(x * sx), 0), max(int(y * sy), 0)
    right, bottom = min(int((x + w) * sx), width), min(int((y + h) * sy), height)
    if right <= left or bottom <= top:
        raise UsageError(f"{box_path}: the box {x:g} {y:g} {w:g} {h:g} lies outside the {width}×{height} image")
    return np.ascontiguousarray(image[top:bottom, left:right])


PAD_DATASETS: tuple[Dataset, ...] = (
    CelebaSpoof(),
    FramesDataset(name="oulu-npu", layout=oulu_npu),
    FramesDataset(name="replay-attack", layout=replay_attack),
    FramesDataset(name="casia-fasd", layout=casia_fasd),
)
