"""What the datasets of files know about their files' content: a digest for each sample, and the set's revision.

Place in the flow: called by the datasets of files. May call ``files`` of the core and the contract.

By the digest of the content, a resumed run detects that an image was replaced by another of the same name
and size.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from faithface.contract import Face, Pair, Sample
from faithface.files import content_digest, content_digests


@dataclass(frozen=True)
class FileDigest:
    """The digest of what is read from some files: for a single file its sha256. Call it to compute it.

    Attributes:
        paths: the files.
        also: what else decides what is read from them, such as landmarks.
    """

    paths: tuple[Path, ...]
    also: str = ""

    def __call__(self) -> str:
        """Return 64 hex digits.

        Raises:
            UsageError: a file cannot be read.
        """
        return self.of([content_digest(path) for path in self.paths])

    def of(self, digests: Sequence[str]) -> str:
        """Return the digest, given those of the files."""
        if len(digests) == 1 and not self.also:
            return digests[0]
        return text_digest(json.dumps([*digests, self.also]))


def text_digest(text: str) -> str:
    """Return the sha256 of a text, 64 hex digits."""
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def landmark_note(landmarks: Mapping[str, Any] | None, name: str, size: int) -> str:
    """Return what alignment adds to a face's content: its landmarks and the size of the crop; "" without landmarks."""
    if landmarks is None:
        return ""
    return f"{landmarks[name].tolist() if name in landmarks else None} at {size}"


def content_revision(items: Sequence[Sample] | Sequence[Pair]) -> str:
    """Return a revision, 12 hex digits: a hash of ids, labels, identities, and the content of images and masks.

    All files are digested at once. A file that cannot be read counts as absent.
    """
    parts = [part for item in items for _what, part in _parts(item)]
    known = content_digests(path for part in parts if isinstance(part, FileDigest) for path in part.paths)

    def content(part: Callable[[], str] | None) -> str | None:
        if not isinstance(part, FileDigest):
            return part and part()
        found = [known[os.path.abspath(path)] for path in part.paths]
        return part.of([one if isinstance(one, str) else "-" for one in found])

    total = hashlib.sha256()
    for item in items:
        label = item.label if isinstance(item, Sample) else item.same
        line = [item.id, label, [[what, content(part)] for what, part in _parts(item)]]
        total.update(json.dumps(line).encode() + b"\n")
    return total.hexdigest()[:12]


def _parts(item: Sample | Pair) -> list[tuple[list[str | None], Callable[[], str] | None]]:
    """Return what has content: the faces and the truth, each with what it is and its digest."""
    faces: list[Face] = [*item.faces, *(face for _role, face in sorted(item.others.items()))]
    truth: list[str | None] = [*sorted(item.truth)]
    return [*(([face.id, face.identity], face.digest) for face in faces), (truth, item.truth_digest)]
