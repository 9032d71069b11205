"""``pairs:PATH/pairs.csv@ROOT``: a CSV of image pairs and a folder become a verification set. No code.

Place in the flow: a builtin dataset. May call ``images``, ``align``, ``folder`` (for ids and revisions) and the
contract.
"""

from __future__ import annotations

import csv
import dataclasses
import functools
import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from faithface.contract import Dataset, Face, Pair
from faithface.errors import UsageError, nearest
from faithface_plugins.datasets.align import aligned_reader, read_landmarks
from faithface_plugins.datasets.folder import listing_hash, unique_ids
from faithface_plugins.datasets.images import read_image, safe_id

REQUIRED = ("image_a", "image_b", "same")
OPTIONAL = ("identity_a", "identity_b")
_YES, _NO = {"1", "true", "yes"}, {"0", "false", "no"}


@dataclass(frozen=True)
class Pairs(Dataset):
    """Pairs from a CSV with the columns ``image_a,image_b,same`` and, optionally, ``identity_a,identity_b``.

    Image paths are relative to ROOT (default: the CSV's folder); ``same`` is 1/0, true/false or yes/no. Without
    identities, a stranger of a pair is any image that no chain of genuine pairs connects with either of its two.

    Parameters:
        aligned: the faces are aligned crops; ``false`` forbids the fills that need it.
        landmarks: a CSV of five landmarks per image (see ``align``), by which the faces are aligned to the ArcFace
            template.
        size: side of the aligned crops.

    Sample ids are ``stem_a--stem_b``; where that is taken, the folders join it.
    """

    aligned: bool = True
    landmarks: str | None = None
    size: int = 112
    csv_path: str = field(default="", metadata={"parameter": False})
    root: str = field(default="", metadata={"parameter": False})

    name = "pairs"
    task = "verification"
    source = "the user's own images"

    def with_argument(self, argument: str) -> Pairs:
        csv_text, _, root_text = argument.partition("@")
        csv_path = Path(csv_text).expanduser()
        if not csv_path.is_file():
            raise UsageError(f"dataset pairs:{argument}: {csv_path} is not a file; write pairs:PATH/pairs.csv@ROOT")
        root = Path(root_text).expanduser() if root_text else csv_path.parent
        if not root.is_dir():
            raise UsageError(f"dataset pairs:{argument}: {root} is not a folder; write pairs:PATH/pairs.csv@ROOT")
        opened = dataclasses.replace(self, csv_path=str(csv_path), root=str(root))
        if not opened._rows():
            raise UsageError(f"{csv_path}: no pairs; expected rows under {','.join(REQUIRED)}")
        return opened

    @property
    def revision(self) -> str:  # type: ignore[override]
        if not self.csv_path:
            return "1"
        content = hashlib.sha256(Path(self.csv_path).read_bytes()).hexdigest()[:12]
        return f"{content}-{listing_hash(Path(self.root))}"

    def _rows(self) -> list[tuple[int, dict[str, str]]]:
        """Return (line number, row) for each pair, after checking the header."""
        if not self.csv_path:
            raise UsageError("dataset pairs needs a file: write pairs:PATH/pairs.csv@ROOT")
        path = Path(self.csv_path)
        try:
            text = path.read_text(encoding="utf-8-sig")
        except UnicodeDecodeError:
            raise UsageError(f"{path} is not a text file; expected a CSV with {','.join(REQUIRED)}") from None
        reader = csv.DictReader(text.splitlines(), skipinitialspace=True)
        columns = [c.strip() for c in reader.fieldnames or []]
        for column in REQUIRED:
            if column not in columns:
                got = ",".join(columns) or "an empty file"
                raise UsageError(f"{path}: column '{column}' is missing; expected {','.join(REQUIRED)}, got {got}")
        for column in columns:
            if column not in REQUIRED + OPTIONAL and column:
                close = nearest(column, OPTIONAL)
                if close.startswith("did"):
                    raise UsageError(f"{path}: unknown column '{column}'; {close}")
        reader.fieldnames = columns
        return [(reader.line_num, {k: (v or "").strip() for k, v in row.items() if k}) for row in reader]

    def items(self) -> list[Pair]:
        path, root = Path(self.csv_path), Path(self.root)
        ids: set[str] = set()
        made: list[Pair] = []
        table = None if self.landmarks is None else read_landmarks(Path(self.landmarks).expanduser())
        for line, row in self._rows():
            same = row["same"].lower()
            if same not in _YES | _NO:
                raise UsageError(f"{path}, line {line}: same is '{row['same']}'; expected 1 or 0")
            for column in ("image_a", "image_b"):
                if not row[column]:
                    raise UsageError(f"{path}, line {line}: {column} is empty; expected a path relative to {root}")
            faces = [
                Face(row[c], self._reader(root, row[c], table), row.get(identity) or None)
                for c, identity in zip(("image_a", "image_b"), OPTIONAL, strict=True)
            ]
            pair_id = "--".join(safe_id(Path(face.id).stem) for face in faces)
            if pair_id in ids:
                pair_id = "--".join(safe_id(str(Path(face.id).with_suffix(""))) for face in faces)
            ids.add(pair_id)
            made.append(Pair(pair_id, faces[0], faces[1], same in _YES))
        unique_ids([pair.id for pair in made], f"pairs:{self.csv_path}")
        return made

    def _reader(self, root: Path, name: str, table: dict[str, np.ndarray] | None) -> Callable[[], np.ndarray]:
        return aligned_reader(functools.partial(read_image, root / name), name, table, self.size)
