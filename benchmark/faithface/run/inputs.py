"""What a number depends on, as digests: the store keeps them with every shard, and a resumed run compares them.

Place in the flow: ``resume`` asks what a shard's numbers depend on now, ``store`` keeps it. May call ``hashing``,
``environment`` and the contract. Reads pixels and masks, runs no explainer, metric or model.

Two mappings from "what" to a digest belong to each shard, cell and metric. The *code* mapping is that of the whole
cell: the model with all its files, the meaning of its card, the code of dataset, explainer, metric and runner, their
parameters and files, package versions. The *data* mapping is that of the shard: its samples with their pixels and,
where the metric reads them, ground truth, an explainer's files, the out-of-set partner; for verification the whole set
too, since the decision threshold and strangers are taken from all of it. The suite's seed and the device are not among
them: a run directory holds one of each.

The names are for people: a resumed run says which of them changed.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, Face, Metric, Pair, Sample
from faithface.errors import FaithfaceError
from faithface.hashing import file_hash
from faithface.run.environment import version_of
from faithface.run.reads import PARTNER, WHOLE

Item = Sample | Pair
Inputs = Mapping[str, str]
K = TypeVar("K")

NUMERICAL = (
    "captum", "numpy", "onnx2pytorch", "onnxruntime", "onnxruntime-gpu", "onnxscript", "openvino", "pillow",
    "scikit-image", "scikit-learn", "scipy", "torch",
)  # fmt: skip
"""Packages through which numbers go. Their major and minor versions count: bug-fix releases keep results."""


def package_versions() -> dict[str, str]:
    """Return the major and minor versions of the packages that can move a number, by ``package NAME``."""
    found = {name: version_of(name) for name in NUMERICAL}
    return {f"package {name}": ".".join(version.split(".")[:2]) for name, version in found.items() if version}


def parameter_files(thing: Any) -> dict[str, str]:
    """Return the digests of the files that an explainer or metric has among its parameters, inner ones included."""
    found: dict[str, str] = {}
    if not is_dataclass(thing):
        return found
    for field in fields(thing):
        value = getattr(thing, field.name, None)
        for one in _each(value):
            if isinstance(one, Explainer | Metric):
                found |= parameter_files(one)
            elif isinstance(one, Path | str) and _is_file(one):
                found[f"file {Path(one).name}"] = file_hash(Path(one))
    return found


def _is_file(text: Path | str) -> bool:
    try:
        return bool(str(text)) and Path(text).is_file()
    except (OSError, ValueError):  # too long, or with NUL: no path
        return False


def gives_files(explainer: Explainer) -> bool:
    """Say whether an explainer, or one inside it, may read files for single samples; calls nothing of it."""
    inner = (one for value in getattr(explainer, "__dict__", {}).values() for one in _each(value))
    return type(explainer).files is not Explainer.files or any(
        gives_files(one) for one in inner if isinstance(one, Explainer)
    )


def file_digests(explainer: Explainer, sample_ids: Sequence[str], beat: Callable[[], Any]) -> list[str]:
    """Return the digest of the files that an explainer reads for some samples; "" if it reads none."""
    paths = list(_files(explainer, sample_ids))
    found = []
    for path in paths:
        beat()
        found.append([path.name, file_hash(path)])
    return [digest(found) if found else ""]


def _each(value: Any) -> Iterable[Any]:
    return value if isinstance(value, tuple | list) else (value,)


def _files(explainer: Explainer, sample_ids: Sequence[str]) -> Iterable[Path]:
    yield from explainer.files(sample_ids)
    for value in getattr(explainer, "__dict__", {}).values():
        for one in _each(value):
            if isinstance(one, Explainer):
                yield from _files(one, sample_ids)


UNREADABLE = "unreadable"
"""In the place of a digest: such a sample is skipped, until it can be read."""


class Read(Protocol):
    """Calls a function that reads pixels, masks or files, wherever plugins run; None: it did not return."""

    def __call__(self, function: Callable[..., list[Any]], /, *arguments: object) -> list[Any] | None: ...


def here(function: Callable[..., list[Any]], /, *arguments: object) -> list[Any] | None:
    """Read in this process."""
    return function(*arguments, beat=lambda: None)


class Items:
    """A dataset with its items, which are asked for once; sent to another process, it asks there."""

    def __init__(self, dataset: Dataset) -> None:
        self.dataset = dataset
        self.all: Sequence[Item] = dataset.items()

    def __reduce__(self) -> Any:
        return Items, (self.dataset,)


def reads_of(data: Inputs) -> frozenset[str]:
    """Return what was read beyond the samples, by the data mapping that was kept."""
    return frozenset(what for what, name in ((WHOLE, ALL), (PARTNER, OTHER_SET)) if name in data)


class Contents:
    """Digests of what a dataset holds; each face and mask is read once, by ``read``.

    A face that offers ``digest`` (a callable that returns a text which changes with its pixels) is not read.

    Attributes:
        wanted: the samples that a run needs; what is missing of them is read in one go.
    """

    def __init__(self, dataset: Dataset, read: Read = here) -> None:
        self.dataset, self.read = dataset, read
        self._held = Items(dataset)
        self.items: dict[str, Item] = {item.id: item for item in self._held.all}
        self.place = {item.id: at for at, item in enumerate(self._held.all)}
        self.wanted: dict[str, None] = {}
        self._faces: dict[str, str] = {}
        self._others: dict[tuple[str, str], str] = {}
        self._truths: dict[str, str] = {}
        self._whole: str | None = None
        self._partner: str | None = None

    def saw(self, digests: Mapping[str, str]) -> None:
        """Take the digests of faces that somebody else has read, by face id."""
        self._faces.update(digests)

    def samples(self, ids: Sequence[str]) -> str:
        """Return the digest of some samples: names, labels, identities, pixels, further faces."""
        if any(map(self._lacks, ids)):
            wanted = [one for one in self.wanted if self._lacks(one)]
            # All that the run needs at once. If that fails, only these, so that one bad file spoils no other digest.
            if not (set(wanted).issuperset(ids) and self._read_faces(wanted, last=False)):
                self._read_faces(ids, last=True)
        return digest([self._sample(self.items[one]) for one in ids])

    def _lacks(self, one: str) -> bool:
        """Say whether a face of a sample has not been read."""
        item = self.items[one]
        return any(f.id not in self._faces for f in item.faces) or any(
            (one, r) not in self._others for r in item.others
        )

    def _read_faces(self, ids: Sequence[str], last: bool) -> bool:
        """Read the faces of samples and say whether that ended well; if not and it was the last try: "unreadable"."""
        faces = list(dict.fromkeys(f.id for one in ids for f in self.items[one].faces if f.id not in self._faces))
        # Further faces (the twin of an attack) may share an id with one that looks otherwise: known by their sample.
        roles = [(one, role) for one in ids for role in self.items[one].others if (one, role) not in self._others]
        found = self.read(face_digests, self._held, [self.place[one] for one in ids], faces, roles)
        if found is None and not last:
            return False
        digests = found or [UNREADABLE] * (len(faces) + len(roles))
        self._faces |= dict(zip(faces, digests, strict=False))
        self._others |= dict(zip(roles, digests[len(faces) :], strict=True))
        return True

    def _sample(self, item: Item) -> list[Any]:
        others = [[role, self._others[item.id, role]] for role in sorted(item.others)]
        return [*_listed(item), *(self._faces[face.id] for face in item.faces), others]

    def truths(self, ids: Sequence[str]) -> str:
        """Return the digest of the ground truth of some samples."""
        if any(one not in self._truths for one in ids):
            wanted = [one for one in self.wanted if one not in self._truths]
            if not (set(wanted).issuperset(ids) and self._read_truths(wanted, last=False)):
                self._read_truths([one for one in ids if one not in self._truths], last=True)
        return digest([self._truths[one] for one in ids])

    def _read_truths(self, ids: Sequence[str], last: bool) -> bool:
        found = self.read(truth_digests, self._held, [self.place[one] for one in ids])
        if found is None and not last:
            return False
        self._truths |= dict(zip(ids, found or [UNREADABLE] * len(ids), strict=True))
        return True

    def whole(self) -> str:
        """Return the digest of all samples."""
        if self._whole is None:
            self.wanted = dict.fromkeys(self.items)
            self._whole = self.samples(list(self.items))
        return self._whole

    def partner(self) -> str:
        """Return the digest of the out-of-set partner's samples; "" without one."""
        if self._partner is None:
            partner = self.dataset.out_of_set()
            self._partner = "" if partner is None else Contents(partner, self.read).whole()
        return self._partner

    def given(self, explainer: Explainer, ids: Sequence[str]) -> str:
        """Return the digest of the files that an explainer reads for some samples; "" if it reads none."""
        if not gives_files(explainer):
            return ""
        found = self.read(file_digests, explainer, list(ids))
        return UNREADABLE if found is None else found[0]

    def of_shard(
        self, ids: Sequence[str], explainer: Explainer, metric: Metric | None, reads: frozenset[str] = frozenset()
    ) -> dict[str, str]:
        """Return the data mapping of a shard: of its maps, or of a metric's values.

        Args:
            reads: what was read beyond the samples when they were computed.
        """
        found = {SAMPLES: self.samples(ids)}
        if self.dataset.task == "verification" or WHOLE in reads:
            found[ALL] = self.whole()
        needs = metric.protocol.needs if metric is not None else frozenset()
        if "truth" in needs or "truth" in explainer.info.needs:
            found[MASKS] = self.truths(ids)
        if "out-of-set" in needs or PARTNER in reads:
            found[OTHER_SET] = self.partner()
        if files := self.given(explainer, ids):
            found["the maps that were given"] = files
        return found


SAMPLES, MASKS = "the images and labels", "the masks"
ALL = "the whole set (decision threshold, strangers)"
OTHER_SET = "the out-of-set partner"


def face_digests(
    held: Items,
    places: Sequence[int],
    faces: Sequence[str],
    roles: Sequence[tuple[str, str]],
    beat: Callable[[], Any],
) -> list[str]:
    """Return the digests of faces of the items at some places: first by the face's id, then by sample and role."""
    by_id: dict[str, Face] = {}
    by_role: dict[tuple[str, str], Face] = {}
    for place in places:
        item = held.all[place]
        by_id |= {face.id: face for face in item.faces if face.id not in by_id}
        by_role |= {(item.id, role): face for role, face in item.others.items()}
    found = []
    for face in (*map(by_id.get, faces), *map(by_role.get, roles)):
        beat()
        found.append(UNREADABLE if face is None else _attempt(lambda face=face: face_digest(face)))  # type: ignore[misc]
    return found


def truth_digests(held: Items, places: Sequence[int], beat: Callable[[], Any]) -> list[str]:
    """Return the digest of the ground truth of each item at some places; ``beat`` is called before each."""
    found = []
    for place in places:
        beat()
        found.append(truth_digest(held.all[place]))
    return found


def truth_digest(item: Item) -> str:
    """Return the digest of all ground truth of an item: what it offers itself, else of the masks that it reads."""
    kinds = sorted(item.truth.items())
    if item.truth_digest is not None:
        return digest([[kind for kind, _ in kinds], _attempt(item.truth_digest)])
    return digest([[kind, _attempt(lambda read=read: array_digest(read()))] for kind, read in kinds])  # type: ignore[misc]


def face_digest(face: Face) -> str:
    """Return the digest of a face's content: what it offers itself, else of the pixels that it reads."""
    offered = getattr(face, "digest", None)
    if offered is not None:
        return str(offered() if callable(offered) else offered)
    return array_digest(face.read())


def array_digest(array: np.ndarray) -> str:
    """Return a digest of an array: its type, shape and values."""
    whole = np.ascontiguousarray(array)
    found = hashlib.blake2b(f"{whole.dtype.str} {whole.shape} ".encode(), digest_size=16)
    found.update(whole.tobytes() if whole.dtype.hasobject else whole.data.cast("B") if whole.size else b"")
    return found.hexdigest()


def digest(value: Any) -> str:
    """Return a digest of JSON values."""
    text = json.dumps(value, ensure_ascii=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


def differing(before: Inputs, now: Inputs) -> list[str]:
    """Return what is not as it was."""
    return [what for what in {**now, **before} if before.get(what) != now.get(what)]


def _listed(item: Item) -> list[Any]:
    faces = [[face.id, face.identity] for face in item.faces]
    if isinstance(item, Pair):
        return [item.id, item.same, item.kind, faces]
    return [item.id, item.label, faces]


def _attempt(read: Any) -> str:
    """Return a digest, or "unreadable": such a sample is skipped, until it can be read."""
    try:
        return str(read())
    except FaithfaceError:
        return UNREADABLE
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException:  # decoders raise whatever they like
        return UNREADABLE


def opening(card: ModelCard, code: Inputs, contents: Contents) -> dict[str, str]:
    """Return what opening a model on a dataset depends on: the group's code and, for a threshold, the whole set."""
    if card.task == "verification":
        return {**code, ALL: contents.whole()}
    return dict(code)
