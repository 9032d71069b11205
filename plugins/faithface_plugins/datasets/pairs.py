"""``pairs:PATH/pairs.csv@ROOT``: a CSV of image pairs and a folder become a verification set. No code.

Place in the flow: a builtin dataset. May call ``images``, ``tables``, ``align``, ``content``, ``ids``,
``listing`` and the contract.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import posixpath
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faithface.contract import Dataset, Face, Pair
from faithface.errors import UsageError, nearest
from faithface.files import user_path
from faithface.images import read_image
from faithface.tables import Table, read_table
from faithface_plugins.datasets.align import aligned_reader, read_landmarks
from faithface_plugins.datasets.content import FileDigest, content_revision, landmark_note
from faithface_plugins.datasets.ids import safe_id, unique_ids
from faithface_plugins.datasets.listing import refuse_outside

REQUIRED = ("image_a", "image_b", "same")
OPTIONAL = ("identity_a", "identity_b")
_YES, _NO = {"true", "yes", "genuine", "same"}, {"false", "no", "impostor", "different"}


@dataclass(frozen=True)
class Row:
    """A pair as the CSV lists it, with normalised paths."""

    line: int
    a: str
    b: str
    same: bool
    identities: tuple[str | None, str | None]


@dataclass(frozen=True)
class Pairs(Dataset):
    """Pairs from a CSV with the columns ``image_a,image_b,same`` and, optionally, ``identity_a,identity_b``.

    Image paths are relative to ROOT (default: the CSV's folder); ``same`` is 1/0, 1/-1, true/false, yes/no or
    genuine/impostor. Without identities, a stranger of a pair is any image that no chain of genuine pairs connects with
    either of its two.

    Parameters:
        aligned: the faces are aligned crops; ``false`` forbids the fills that need it.
        landmarks: a CSV of five landmarks per image (see ``align``), by which the faces are aligned to the ArcFace
            template.
        size: side of the aligned crops.
        encoding: of a CSV that is neither UTF-8 nor marked as UTF-16, such as ``latin-1``.
        allow_outside: read images outside ROOT (absolute paths, ``..``, links).

    Sample ids are ``stem_a--stem_b``; where that is taken, the folders are added, and where that is not enough, a part
    of the paths' digest.
    """

    aligned: bool = True
    landmarks: str | None = None
    size: int = 112
    encoding: str | None = None
    allow_outside: bool = False
    csv_path: str = field(default="", metadata={"parameter": False})
    root: str = field(default="", metadata={"parameter": False})

    name = "pairs"
    task = "verification"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Pairs:
        csv_path, root = split_paths(argument)
        return dataclasses.replace(self, csv_path=str(csv_path), root=str(root))

    @property
    def revision(self) -> str:  # type: ignore[override]
        return content_revision(self.items()) if self.csv_path else "1"

    def rows(self) -> list[Row]:
        """Return the pairs of the CSV, each once.

        Raises:
            UsageError: see :func:`read_table`; or a line has no path, an invalid label, an image outside ROOT, or a
                pair that was listed before.
        """
        if not self.csv_path:
            raise UsageError("dataset pairs needs a file: write pairs:PATH/pairs.csv@ROOT")
        path, root = Path(self.csv_path), Path(self.root)
        table = read_table(path, REQUIRED, "pairs CSV", self.encoding)
        _check_columns(path, table)
        made: list[Row] = []
        first: dict[tuple[str, str], Row] = {}
        for line, values in table.rows:
            for column in REQUIRED[:2]:
                if not values[column]:
                    raise UsageError(f"{path}, line {line}: {column} is empty; expected a path relative to {root}")
            a, b = (_relative(root, values[column]) for column in REQUIRED[:2])
            identities = tuple(values.get(column) or None for column in OPTIONAL)
            row = Row(line, a, b, _label(values["same"], path, line), (identities[0], identities[1]))
            for key in ((a, b), (b, a)):
                if key in first:
                    _refuse_repeated(path, first[key], row)
            first[a, b] = row
            made.append(row)
        if not made:
            raise UsageError(f"{path}: no pairs; expected rows under {','.join(REQUIRED)}")
        files = dict.fromkeys(name for row in made for name in (row.a, row.b))
        refuse_outside((root / name for name in files), root, self.allow_outside, f"pairs:{path}@{root}")
        return made

    def items(self) -> list[Pair]:
        rows, root = self.rows(), Path(self.root)
        table = None if self.landmarks is None else read_landmarks(user_path(self.landmarks))
        if table is not None:
            table = {_relative(root, name): points for name, points in table.items()}
        taken: set[str] = set()
        wanted: list[str] = []
        for row in rows:
            pair_id = "--".join(safe_id(Path(name).stem) for name in (row.a, row.b))
            if pair_id in taken:
                pair_id = "--".join(safe_id(str(Path(name).with_suffix(""))) for name in (row.a, row.b))
            taken.add(pair_id)
            wanted.append(pair_id)
        ids = unique_ids(wanted, [f"{row.a}\n{row.b}" for row in rows])
        return [
            Pair(
                pair_id,
                self._face(root, row.a, row.identities[0], table),
                self._face(root, row.b, row.identities[1], table),
                row.same,
            )
            for pair_id, row in zip(ids, rows, strict=True)
        ]

    def _face(self, root: Path, name: str, identity: str | None, table: dict[str, np.ndarray] | None) -> Face:
        read = aligned_reader(functools.partial(read_image, root / name), name, table, self.size)
        return Face(name, read, identity, FileDigest((root / name,), landmark_note(table, name, self.size)))

    def notes(self) -> tuple[str, ...]:
        """Return what a user should know about this list, one line each."""
        lines = []
        first = {(row.a, row.b): row for row in self.rows()}
        turned = [(first[b, a], row) for (a, b), row in first.items() if a != b and (b, a) in first]
        turned = [(earlier, row) for earlier, row in turned if earlier.line < row.line]
        if turned:
            earlier, row = turned[0]
            lines.append(
                f"{len(turned)} pairs are listed in both orders, such as {row.a}, {row.b} in lines {earlier.line} and "
                f"{row.line}; each order is a sample, since only its first image is altered"
            )
        alone = sum(a == b for a, b in first)
        if alone:
            lines.append(f"{alone} pairs are one image with itself")
        return tuple(lines)

    def absent(self) -> tuple[str, ...]:
        """Return one line about missing images, or nothing.

        Raises:
            UsageError: all are missing.
        """
        root = Path(self.root)
        names = list(dict.fromkeys(name for row in self.rows() for name in (row.a, row.b)))
        gone = [name for name in names if not os.path.isfile(root / name)]
        if len(gone) == len(names):
            raise UsageError(f"{self.csv_path}: none of its {len(names)} images is under {root}, such as {gone[0]}")
        if not gone:
            return ()
        return (f"{len(gone)} of {len(names)} images are not under {root}, such as {gone[0]}; a run skips their pairs",)


def split_paths(argument: str) -> tuple[Path, Path]:
    """Return the CSV and the root of ``CSV``, ``CSV@ROOT``, ``"CSV"@"ROOT"``.

    Paths may hold ``@``: of all ways to split the text, the one is used whose parts exist.

    Raises:
        UsageError: no such file or folder, or several readings are possible.
    """
    form = 'write pairs:PATH/pairs.csv@ROOT, or pairs:"PATH/pairs.csv"@"ROOT"'
    cuts = [i for i, ch in enumerate(argument) if ch == "@"]
    readings = [(argument, None), *((argument[:i], argument[i + 1 :]) for i in cuts)]
    found = []
    for csv_text, root_text in readings:
        csv_path = user_path(csv_text)
        root = csv_path.parent if not root_text else user_path(root_text)
        if os.path.isfile(csv_path) and os.path.isdir(root) and (csv_path, root) not in found:
            found.append((csv_path, root))
    if len(found) == 1:
        return found[0]
    if found:
        raise UsageError(f"dataset pairs:{argument} can be read in {len(found)} ways; {form}")
    csv_text, _, root_text = argument.partition("@")
    csv_path = user_path(csv_text)
    if os.path.exists(csv_path) and not os.path.isfile(csv_path):
        raise UsageError(f"dataset pairs:{argument}: {csv_path} is not a regular file; {form}")
    if not os.path.isfile(csv_path):
        raise UsageError(f"dataset pairs:{argument}: {csv_path} is not a file; {form}")
    raise UsageError(f"dataset pairs:{argument}: {user_path(root_text)} is not a folder; {form}")


def _check_columns(path: Path, table: Table) -> None:
    for column in table.columns:
        if column not in REQUIRED + OPTIONAL and column:
            close = nearest(column, OPTIONAL)
            if close.startswith("did"):
                raise UsageError(f"{path}: unknown column '{column}'; {close}")


def _relative(root: Path, name: str) -> str:
    """Return a path of the CSV relative to ROOT, with slashes, without ``./`` and the like, so that every spelling of
    one image is one name.

    Backslashes are Windows' unless they exist. An absolute path becomes a relative one; targets of links are not
    resolved here.
    """
    if "\\" in name and not os.path.exists(root / name):
        name = name.replace("\\", "/")
    name = posixpath.normpath(name)
    if not os.path.isabs(name) and not name.startswith("../"):
        return name
    base = os.path.abspath(root)
    path = os.path.normpath(os.path.join(base, name))
    real = os.path.realpath(root)
    if not Path(path).is_relative_to(base) and Path(path).is_relative_to(real):
        base = real  # the folder is reached through a link, and the image named without it
    try:
        return os.path.relpath(path, base).replace(os.sep, "/")
    except ValueError:  # another drive
        return name


def _label(text: str, path: Path, line: int) -> bool:
    word = text.lower()
    if word in _YES | _NO:
        return word in _YES
    try:
        number = float(word)
    except ValueError:
        number = float("nan")
    if number not in (1, 0, -1):
        raise UsageError(f"{path}, line {line}: same is '{text[:40]}'; expected 1 or 0 (or -1, true, false, yes, no)")
    return number == 1


def _refuse_repeated(path: Path, earlier: Row, row: Row) -> None:
    """Refuse a pair listed again, or swapped with the other label; swapped alone it is another sample."""
    where = f"{path}, line {row.line}: {row.a}, {row.b}"
    if earlier.same != row.same:
        raise UsageError(f"{where} is {_word(row)}, but line {earlier.line} says {_word(earlier)}; correct one of them")
    if (earlier.a, earlier.b) == (row.a, row.b):
        raise UsageError(f"{where} repeats line {earlier.line}; a pair counts once: remove one of the lines")


def _word(row: Row) -> str:
    return "genuine" if row.same else "impostor"
