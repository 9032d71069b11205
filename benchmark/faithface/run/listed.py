"""Datasets as the driver knows them: names, labels and what they say of themselves, found where plugins run.

Place in the flow: ``plan`` has each dataset listed (``listing.lister``) before it chooses samples; a :class:`Listed`
then stands for the dataset in the driver, and becomes the dataset itself in every process that it is sent to. May call
the contract and ``errors``.

So the driver calls no method of a dataset, and one that ends or holds up its process at ``items()`` fails its own
cells: its listing holds the reason.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, get_args

from faithface.contract import Dataset, Face, Pair, Sample
from faithface.errors import RunError
from faithface.plugins import Resolved
from faithface.reasons import Reason
from faithface.tasks import Task

TRAITS = (
    "name", "task", "revision", "classes", "positive", "aligned", "aligned_landmarks", "licence", "source",
    "publishable",
)  # fmt: skip
"""What a dataset says of itself: all that its class declares, or a copy of it would say something else."""

KINDS = frozenset({"relevance", "human", "tag", "similarity", "dissimilarity"})
"""All kinds of ground truth."""

Lister = Callable[[Resolved[Dataset]], Resolved[Dataset]]
"""Gives the dataset that a plan works with."""


@dataclass(frozen=True)
class Listing:
    """All that a driver needs of a dataset.

    Attributes:
        traits: its attributes, by name.
        items: its samples, whose faces and masks cannot be read.
        tasks: the tasks that it fits.
        truths: kinds of ground truth.
        notes: what users should know.
        partner: the listing of its out-of-set partner.
    """

    traits: dict[str, Any]
    items: tuple[Sample, ...] | tuple[Pair, ...] = ()
    tasks: frozenset[str] = frozenset()
    truths: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    partner: Listing | None = field(default=None, repr=False)


class Listed(Dataset):
    """A dataset's listing, in the place of the dataset.

    Attributes:
        real: the dataset; None for a partner, which only the other processes open. None of its methods is called.
        problem: why there is no listing; then there are no items.
    """

    def __init__(
        self, real: Dataset | None, restore: tuple[Any, ...], listing: Listing, problem: Reason | None = None
    ) -> None:
        self.real, self._restore, self._listing, self.problem = real, restore, listing, problem
        for name, value in listing.traits.items():
            setattr(self, name, value)

    def __reduce__(self) -> Any:
        return self._restore

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        return self._listing.items

    def fits(self, task: Task) -> bool:
        return task in self._listing.tasks

    def out_of_set(self) -> Dataset | None:
        partner = self._listing.partner
        return None if partner is None else Listed(None, (_partner, (self,)), partner)

    def truths(self) -> frozenset[str]:
        return self._listing.truths

    def notes(self) -> tuple[str, ...]:
        return self._listing.notes


def _partner(dataset: Dataset) -> Dataset | None:
    return dataset.out_of_set()


def real_of(dataset: Dataset) -> Dataset:
    """Return the dataset that a listing stands for, for its class and parameters."""
    return dataset.real if isinstance(dataset, Listed) and dataset.real is not None else dataset


def problem_of(dataset: Dataset) -> Reason | None:
    """Return why a dataset could not be listed; None if it was, or need not be."""
    return dataset.problem if isinstance(dataset, Listed) else None


def list_dataset(dataset: Dataset, beat: Callable[[], Any]) -> Listing:
    """List a dataset; ``beat`` is called between two questions."""
    items: list[Any] = []
    for item in dataset.items():
        beat_every(len(items), beat)
        items.append(_without_content(item))
    beat()
    traits = {name: getattr(dataset, name) for name in TRAITS}
    beat()
    partner = dataset.out_of_set()
    return Listing(
        traits,
        tuple(items),
        frozenset(task for task in get_args(Task) if dataset.fits(task)),
        dataset.truths(),
        dataset.notes(),
        None if partner is None else list_dataset(partner, beat),
    )


def beat_every(number: int, beat: Callable[[], Any], step: int = 4096) -> None:
    if number % step == step - 1:
        beat()


def _without_content(item: Any) -> Any:
    """Return a sample that can be sent anywhere: its faces and masks cannot be read."""
    changes: dict[str, Any] = {"truth_digest": None}
    if item.truth:
        changes["truth"] = dict.fromkeys(item.truth, not_here)
    if item.others:
        changes["others"] = {role: _face(face) for role, face in item.others.items()}
    if isinstance(item, Pair):
        return replace(item, a=_face(item.a), b=_face(item.b), **changes)
    return replace(item, face=_face(item.face), **changes)


def _face(face: Face) -> Face:
    return Face(face.id, not_here, face.identity)


def not_here() -> Any:
    """Stand for reading pixels or masks where plugins do not run."""
    raise RunError("this process lists samples and cannot read them; read them in a worker")


def unknown(dataset: Dataset) -> Listing:
    """Return what is known of a dataset without asking it: what stands plainly on its class or object.

    It fits its task, has every kind of ground truth and a partner, so that its cells are planned and fail with its
    reason.
    """
    traits: dict[str, Any] = {}
    for name in TRAITS:
        value = inspect.getattr_static(dataset, name, None)
        traits[name] = value if isinstance(value, str | bool | tuple) else getattr(Dataset, name)
    return Listing(traits, tasks=frozenset({traits["task"]}), truths=KINDS, partner=Listing(traits))
