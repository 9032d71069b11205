"""``lfw``: Labeled Faces in the Wild, through scikit-learn's download or from a local copy.

Place in the flow: a builtin dataset. May call ``images``, ``align``, ``content``, the contract, ``errors``;
scikit-learn only to download.

scikit-learn's own arrays are not used: they hold the whole set in memory at reduced size. Its download leaves the
images and the pair lists on disk, and those are read, one face at a time.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from faithface.contract import Dataset, Face, Pair
from faithface.errors import RunError, UsageError
from faithface.files import user_path
from faithface.images import read_image
from faithface.tables import read_lines
from faithface_plugins.datasets.align import aligned_reader, read_landmarks
from faithface_plugins.datasets.content import FileDigest, content_revision, landmark_note

_LISTS = {"test": "pairsDevTest.txt", "train": "pairsDevTrain.txt", "10-folds": "pairs.txt"}
_SKLEARN = {"test": "test", "train": "train", "10-folds": "10_folds"}
_FOLDERS = ("lfw_funneled", "lfw")

# The part of a 250×250 funneled image that shows the face, as scikit-learn crops it: rows 70..195, columns 78..172.
CROP = (slice(70, 195), slice(78, 172))


@dataclass(frozen=True)
class Lfw(Dataset):
    """LFW pairs: ``10-folds`` are the 6,000 pairs of the standard protocol, ``test`` and ``train`` the development
    lists.

    Parameters:
        data_home: where the data is or goes; default: scikit-learn's (``~/scikit_learn_data``). A local copy is used
            where it holds
            ``lfw_home/lfw_funneled`` (or ``lfw``) and the pair lists, or is that folder itself; otherwise the set is
            downloaded.
        landmarks: a CSV of five landmarks per image (see ``align``); without it the central face region is cut out.
        size: side of the aligned crops.
    """

    subset: Literal["10-folds", "test", "train"] = "10-folds"
    data_home: str | None = None
    landmarks: str | None = None
    size: int = 112

    name = "lfw"
    task = "verification"
    aligned = True
    source = "Huang et al., Labeled Faces in the Wild (2007), funneled"

    @property
    def revision(self) -> str:  # type: ignore[override]
        """``funneled-1`` and a hash of the images' content, where they exist."""
        found = self._found()
        return "funneled-1" if found is None else f"funneled-1-{content_revision(self._pairs(*found))}"

    def items(self) -> Sequence[Pair]:
        found = self._found()
        if found is None:
            self._download()
            home = self._home()
            found = home / _FOLDERS[0], home / _LISTS[self.subset]
        return self._pairs(*found)

    def _found(self) -> tuple[Path, Path] | None:
        """Return the folder of images and the pair list, if they exist."""
        home = self._home()
        images = next((home / name for name in _FOLDERS if (home / name).is_dir()), None)
        listing = home / _LISTS[self.subset]
        return (images, listing) if images is not None and listing.is_file() else None

    def _pairs(self, images: Path, listing: Path) -> list[Pair]:
        table = None if self.landmarks is None else read_landmarks(user_path(self.landmarks))
        return [self._pair(images, row, table) for row in read_pair_list(listing)]

    def _home(self) -> Path:
        from sklearn.datasets import get_data_home

        given = user_path(self.data_home) if self.data_home else None
        if given is not None and any((given / name).is_dir() for name in _FOLDERS):
            return given
        return Path(get_data_home(str(given) if given else None)) / "lfw_home"

    def _download(self) -> None:
        from sklearn.datasets import fetch_lfw_pairs

        try:
            # A tiny resize, because the returned arrays are discarded; only the files are needed.
            fetch_lfw_pairs(
                subset=_SKLEARN[self.subset], data_home=self.data_home, funneled=True, resize=0.05, color=True
            )
        except OSError as error:
            raise RunError(
                f"LFW is not under {self._home()} and could not be downloaded ({error}); download it by hand and "
                "give lfw(data-home=DIR)"
            ) from error

    def _pair(self, images: Path, row: tuple[str, int, str, int], table: dict[str, np.ndarray] | None) -> Pair:
        (name_a, a), (name_b, b) = row[:2], row[2:]
        faces = [self._face(images, name, number, table) for name, number in ((name_a, a), (name_b, b))]
        return Pair(f"{name_a}_{a:04d}--{name_b}_{b:04d}", faces[0], faces[1], name_a == name_b)

    def _face(self, images: Path, name: str, number: int, table: dict[str, np.ndarray] | None) -> Face:
        relative = f"{name}/{name}_{number:04d}.jpg"
        read = functools.partial(read_image, images / relative)
        if table is None:
            return Face(relative, functools.partial(_central, read), name, FileDigest((images / relative,)))
        digest = FileDigest((images / relative,), landmark_note(table, relative, self.size))
        return Face(relative, aligned_reader(read, relative, table, self.size), name, digest)


def _central(read: functools.partial[np.ndarray]) -> np.ndarray:
    image = read()
    if image.shape[:2] != (250, 250):
        raise UsageError(
            f"{read.args[0]} is {image.shape[0]}×{image.shape[1]}; expected LFW's 250×250, or give landmarks=CSV"
        )
    return np.ascontiguousarray(image[CROP])


def read_pair_list(path: Path) -> list[tuple[str, int, str, int]]:
    """Read LFW's pair lists: ``name i j`` for genuine pairs, ``name i name j`` for impostor pairs, after a header of
    counts.

    Raises:
        UsageError: a line has neither three nor four fields.
    """
    rows: list[tuple[str, int, str, int]] = []
    for number, line in read_lines(path, "pair list"):
        fields = line.split("\t") if "\t" in line else line.split()
        if len(fields) <= 2:  # the header: folds and pairs per fold, or pairs
            continue
        try:
            if any("/" in name or name in (".", "..") for name in (fields[0], fields[-2])):
                raise ValueError("a name that is a path")
            if len(fields) == 3:
                rows.append((fields[0], int(fields[1]), fields[0], int(fields[2])))
            else:
                rows.append((fields[0], int(fields[1]), fields[2], int(fields[3])))
        except (ValueError, IndexError):
            raise UsageError(f"{path}, line {number}: '{line[:80]}' is not 'name i j' or 'name i name j'") from None
    if not rows:
        raise UsageError(f"{path}: no pairs")
    return rows
