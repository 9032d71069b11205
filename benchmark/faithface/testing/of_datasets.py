"""The checks of datasets.

Place in the flow: ``check_dataset`` is what plugin authors call, through ``faithface.testing``. Reads a few samples
of the
dataset, twice. May call ``findings`` and the core.
"""

from __future__ import annotations

import pickle
import random
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from faithface.contract import Dataset, Pair, Sample
from faithface.errors import UsageError
from faithface.specs import parameters
from faithface.testing.findings import (
    Check,
    CheckFailed,
    CheckSkipped,
    Report,
    Severity,
    expect,
    mentions,
    require,
    run_checks,
)

SAFE = re.compile(r"[^/\\\x00-\x1f]{1,200}")
HEX = re.compile(r"[0-9a-f]{16,128}")


@dataclass
class Trial:
    """A dataset, and how many of its samples are read."""

    dataset: Dataset
    limit: int = 6

    @cached_property
    def items(self) -> Sequence[Any]:
        return self.dataset.items()

    @cached_property
    def some(self) -> list[Any]:
        """A few samples, spread over the dataset, of every class or kind."""
        count = len(self.items)
        places = {round(i * (count - 1) / max(1, self.limit - 1)) for i in range(min(self.limit, count))}
        kinds: dict[Any, int] = {}
        for place, item in enumerate(self.items):
            kinds.setdefault(kind_of(item), place)
        return [self.items[i] for i in sorted(places | set(kinds.values()))]


def kind_of(item: Any) -> Any:
    return item.same if isinstance(item, Pair) else item.label


def documented(trial: Trial) -> str | None:
    thing = trial.dataset
    words = (type(thing).__dict__.get("__doc__") or "").strip()
    if not words or words.startswith(f"{type(thing).__name__}("):
        raise CheckFailed(f"{type(thing).__name__} has no docstring; the first line is shown in `faithface datasets`")
    if missing := [name for name in parameters(thing) if not mentions(words, name)]:
        raise CheckFailed(f"the docstring does not explain the parameter {', '.join(missing)}; write `name: meaning`")
    return None


def licensed(trial: Trial) -> str | None:
    empty = [key for key in ("licence", "source") if not getattr(trial.dataset, key)]
    require(not empty, f"empty: {', '.join(empty)}")
    return None


def pickles(trial: Trial) -> str | None:
    try:
        again = pickle.loads(pickle.dumps(trial.dataset))
    except Exception as error:
        raise CheckFailed(f"cannot be sent to a worker process: {type(error).__name__}: {error}") from None
    ids = [item.id for item in again.items()]
    require(ids == [item.id for item in trial.items], "a copy made by pickle has other samples")
    return None


def has_items(trial: Trial) -> str | None:
    require(len(trial.items), "items() is empty; expected at least one sample")
    want = Pair if trial.dataset.task == "verification" else Sample
    for item in trial.some:
        require(
            isinstance(item, want), f"items() holds {type(item).__name__}; {trial.dataset.task} needs {want.__name__}"
        )
    return None


def stable_order(trial: Trial) -> str | None:
    random.seed(1)
    again = [item.id for item in trial.dataset.items()]
    require(again == [item.id for item in trial.items], "two calls of items() give other samples, or another order")
    return None


def unique_ids(trial: Trial) -> str | None:
    twice = [name for name, count in Counter(item.id for item in trial.items).items() if count > 1]
    require(not twice, f'{len(twice)} sample ids are given twice, such as "{twice[0]}"' if twice else "")
    bad = [item.id for item in trial.items if not SAFE.fullmatch(item.id) or item.id.startswith(".")]
    require(not bad, f'the id "{bad[0]}" is no safe file name' if bad else "")
    return None


def faces_by_id(trial: Trial) -> str | None:
    """One face id stands for one image."""
    seen: dict[str, np.ndarray] = {}
    for item in trial.some:
        for face in item.faces:
            pixels = np.asarray(face.read())
            before = seen.setdefault(face.id, pixels)
            same = before.shape == pixels.shape and np.array_equal(before, pixels)
            require(same, f'two different images have the face id "{face.id}"')
    return None


def pixels(trial: Trial) -> str | None:
    for item in trial.some:
        for face in item.faces:
            image = face.read()
            require(
                isinstance(image, np.ndarray), f'"{face.id}" was read as {type(image).__name__}; expected a numpy array'
            )
            require(
                image.ndim == 3 and image.shape[2] == 3 and image.dtype == np.float32,
                f'"{face.id}" was read as {image.dtype} {image.shape}; expected float32 H×W×3',
            )
            require(np.isfinite(image).all(), f'"{face.id}" holds NaN or infinity')
            low, high = float(image.min()), float(image.max())
            require(low >= 0 and high <= 1, f'"{face.id}" has values from {low:.4g} to {high:.4g}; expected [0, 1]')
    return None


def uses_range(trial: Trial) -> str | None:
    """Values that are all tiny were divided by 255 twice; images of one value show nothing."""
    faces = [face.read() for item in trial.some for face in item.faces]
    top = max(float(image.max()) for image in faces)
    require(top > 0.02, f"the brightest of all pixels is {top:.3g}: were they divided by 255 twice?")
    flat = sum(float(np.ptp(image)) < 1e-6 for image in faces)
    require(not flat, f"{flat} of {len(faces)} images have one value everywhere")
    return None


def repeatable(trial: Trial) -> str | None:
    for item in trial.some:
        for face in item.faces:
            first = np.array(face.read())
            require(np.array_equal(first, face.read()), f'"{face.id}" reads as other pixels the second time')
    return None


def own_arrays(trial: Trial) -> str | None:
    for item in trial.some[:2]:
        for face in item.faces:
            first = face.read()
            kept = first.copy()
            if first.flags.writeable:
                first[...] = 0
            require(
                np.array_equal(face.read(), kept),
                f'"{face.id}": changing what read() returned changes what it returns next',
            )
    return None


def labels(trial: Trial) -> str | None:
    data = trial.dataset
    if data.task == "verification":
        bad = [item.id for item in trial.items if not isinstance(item.same, bool)]
        require(not bad, f'pair "{bad[0]}": same is neither True nor False' if bad else "")
        return None
    require(len(data.classes) >= 2, f"classes are {data.classes}; expected at least two names")
    require(data.positive in data.classes, f'positive is "{data.positive}"; expected one of {", ".join(data.classes)}')
    bad = [item for item in trial.items if item.label is not None and item.label not in data.classes]
    require(
        not bad, f'"{bad[0].id}" has the label "{bad[0].label}"; classes are {", ".join(data.classes)}' if bad else ""
    )
    return None


def all_kinds(trial: Trial) -> str | None:
    kinds = Counter(kind_of(item) for item in trial.items)
    if trial.dataset.task == "verification":
        require(
            kinds[True] and kinds[False], f"{kinds[True]} genuine and {kinds[False]} impostor pairs; both are needed"
        )
        return None
    missing = [name for name in trial.dataset.classes if not kinds[name]]
    require(not missing, f"no sample of the class {', '.join(missing)}")
    return None


def identities(trial: Trial) -> str | None:
    if trial.dataset.task != "verification":
        raise CheckSkipped("single images")
    for pair in trial.items:
        a, b = pair.a.identity, pair.b.identity
        if a is None or b is None:
            continue
        require((a == b) == pair.same, f'pair "{pair.id}" has same={pair.same}, but the identities {a} and {b}')
    return None


def ground_truth(trial: Trial) -> str | None:
    told = trial.dataset.truths()
    found: set[str] = set()
    for item in trial.some:
        image = np.asarray(item.faces[0].read())
        for kind, read in item.truth.items():
            found.add(kind)
            mask = np.asarray(read())
            want = (2, *image.shape[:2]) if isinstance(item, Pair) else image.shape[:2]
            require(mask.shape == want, f'truth "{kind}" of "{item.id}" has the shape {mask.shape}; expected {want}')
            require(np.isfinite(mask.astype(float)).all(), f'truth "{kind}" of "{item.id}" is not finite')
            low, high = float(mask.min()), float(mask.max())
            require(
                low >= 0 and high <= 1,
                f'truth "{kind}" of "{item.id}" has values from {low:g} to {high:g}; expected [0, 1]',
            )
    require(found <= told, f"items have the ground truth {sorted(found - told)}, which truths() does not name")
    if not told:
        raise CheckSkipped("no ground truth")
    return None


def truth_is_somewhere(trial: Trial) -> str | None:
    sizes: dict[str, list[float]] = {}
    for item in trial.some:
        for kind, read in item.truth.items():
            sizes.setdefault(kind, []).append(float(np.asarray(read()).astype(float).mean()))
    if not sizes:
        raise CheckSkipped("no ground truth")
    for kind, shares in sizes.items():
        require(max(shares) > 0, f'truth "{kind}" is empty in all {len(shares)} samples that were read')
        require(min(shares) < 1, f'truth "{kind}" covers the whole image in all {len(shares)} samples that were read')
    return None


def digests(trial: Trial) -> str | None:
    """Reported: whether a changed image is noticed when a run is resumed."""
    without = 0
    for item in trial.some:
        for face in item.faces:
            if face.digest is None:
                without += 1
                continue
            found = face.digest()
            require(
                isinstance(found, str) and HEX.fullmatch(found),
                f'the digest of "{face.id}" is {found!r}; expected hex digits',
            )
            require(found == face.digest(), f'two digests of "{face.id}" differ')
    require(not without, f"{without} faces have no digest: only `revision` tells that an image was replaced")
    different = {face.digest() for item in trial.some for face in item.faces if face.digest}
    faces = {face.id for item in trial.some for face in item.faces}
    require(len(different) > 1 or len(faces) < 2, "all faces have the same digest")
    return None


CHECKS: tuple[Check[Trial], ...] = (
    Check(
        "documented",
        "Has the class a docstring that explains its parameters?",
        "write it",
        documented,
        Severity.WARNING,
    ),
    Check(
        "licensed",
        "Are licence and source named?",
        "say who may use the images, and where they come from",
        licensed,
        Severity.WARNING,
    ),
    Check(
        "has-items",
        "Are there samples, of the task's kind?",
        "return Sample for classifiers, Pair for verification",
        has_items,
    ),
    Check(
        "stable-order",
        "Are the samples the same, in the same order, in each call?",
        "sort what the file system lists; draw with a fixed seed of your own",
        stable_order,
        after=("has-items",),
    ),
    Check(
        "pickles",
        "Can it be sent to a worker process?",
        "hold paths and numbers, not open files or lambdas",
        pickles,
        after=("has-items", "stable-order"),
    ),
    Check(
        "ids",
        "Are sample ids unique, and safe file names?",
        "make ids of file names or numbers",
        unique_ids,
        after=("has-items",),
    ),
    Check(
        "pixels",
        "Is every image float32 H×W×3 in [0, 1]?",
        "faithface.images.read_image reads files so",
        pixels,
        after=("has-items",),
    ),
    Check(
        "uses-range",
        "Do images use the range of values?",
        "divide by 255 once",
        uses_range,
        after=("has-items", "pixels"),
    ),
    Check(
        "repeatable",
        "Does an image read the same twice?",
        "no random cropping or augmentation in read()",
        repeatable,
        after=("has-items", "pixels"),
    ),
    Check(
        "face-ids",
        "Does one face id stand for one image?",
        "make face ids of file names; faces are read once per id",
        faces_by_id,
        after=("has-items", "pixels", "repeatable"),
    ),
    Check(
        "own-arrays",
        "Does each read return an array of its own?",
        "return a copy",
        own_arrays,
        after=("has-items", "pixels", "repeatable"),
    ),
    Check(
        "labels",
        "Are labels among the classes, and the positive class too?",
        "correct classes, positive or the labels",
        labels,
        after=("has-items",),
    ),
    Check(
        "all-kinds",
        "Are there samples of every class, or genuine and impostor pairs?",
        "metrics need both",
        all_kinds,
        after=("has-items", "labels"),
    ),
    Check(
        "identities",
        "Do identities agree with genuine and impostor?",
        "correct identity or same",
        identities,
        after=("has-items",),
    ),
    Check(
        "ground-truth",
        "Has ground truth the image's size, values in [0, 1], and a kind that truths() names?",
        "return H×W (pairs: 2×H×W), height first",
        ground_truth,
        after=("has-items", "pixels"),
    ),
    Check(
        "truth-not-empty",
        "Is ground truth somewhere, and not everywhere?",
        "look at a picture of it",
        truth_is_somewhere,
        after=("has-items", "ground-truth"),
    ),
    Check(
        "digests",
        "Is a changed image noticed?",
        "give each Face a digest: functools.partial(faithface.files.content_digest, path)",
        digests,
        Severity.WARNING,
        after=("has-items",),
    ),
)


def check_dataset(
    dataset: Dataset,
    *,
    limit: int = 6,
    expected_failures: Mapping[str, str] | None = None,
    only: Sequence[str] | None = None,
) -> Report:
    """Read some samples of a dataset and hold them against the contract.

    Args:
        dataset: as it would be registered; one that needs a path is opened on it before (``with_argument``).
        limit: how many samples are read, at the least one of each class.
        expected_failures: as of :func:`~faithface.testing.check_explainer`.
        only: likewise.

    Raises:
        UsageError: the dataset needs a path.
    """
    if type(dataset).with_argument is not Dataset.with_argument:
        try:
            dataset.items()
        except UsageError as error:
            raise UsageError(f'dataset "{dataset.name}" needs a path: {error}') from None
    chosen = [check for check in CHECKS if only is None or check.name in only]
    found = run_checks(chosen, Trial(dataset, limit))
    return Report("dataset", dataset.name, expect(found, expected_failures or {}, [c.name for c in CHECKS]))
