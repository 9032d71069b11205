"""A batch as explainers and metrics receive it: pixels, clean scores, seeds.

Place in the flow: made by ``loading``; explainers and metrics read it. May call ``errors``, ``seeds``, ``tasks``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Concatenate, Literal, ParamSpec, TypeVar, cast

import numpy as np

from faithface.contract.cache import Cache
from faithface.contract.dataset import Dataset, Pair, Sample
from faithface.errors import NotApplicable, UsageError
from faithface.lazy import torch
from faithface.reasons import ReasonCode
from faithface.seeds import rng_for, seed_for
from faithface.tasks import ClassTarget, PairTarget, Target, is_saturated

if TYPE_CHECKING:
    from torch import Tensor

P = ParamSpec("P")
T = TypeVar("T")
Which = Literal["all", "genuine", "impostor"]
ClassSide = Literal["all", "positive", "negative"]
# Of a metric for both: the pairs, and of classifiers the samples.
Both = Literal[
    "all+all", "all+positive", "all+negative",
    "genuine+all", "genuine+positive", "genuine+negative",
    "impostor+all", "impostor+positive", "impostor+negative",
]  # fmt: skip


def both(pairs: Which, classes: ClassSide) -> Both:
    """Return what a metric of both tasks is judged on: these pairs, and of classifiers these samples."""
    return cast("Both", f"{pairs}+{classes}")


def judged_by(which: str, task: str) -> str:
    """Return the part that speaks of a task, of two sides joined by ``+``; one alone speaks of both."""
    return which.split("+")[0 if task == "verification" else -1]


@dataclass(frozen=True, eq=False)
class Clean:
    """The model's results on the unaltered images of a batch; computed once and shared by all.

    Attributes:
        outputs: raw outputs, float32 N×K; for pairs N×2×D (embeddings, not normalised).
        scores: float32 N: probability of the predicted class, or the pair's similarity.
        predicted: int64 N: the predicted class; for pairs 1 = accepted, 0 = rejected at ``threshold``.
        threshold: the decision threshold of a verification model on this dataset; None for classifiers.
    """

    outputs: Tensor
    scores: Tensor
    predicted: Tensor
    threshold: float | None = None


@dataclass(frozen=True, eq=False)
class Views:
    """A batch seen as single faces with one scalar target each: how one explainer serves classifiers and pairs.

    Attributes:
        images: float32 M×3×H×W; M = N for classifiers, 2N for pairs (a0, b0, a1, b1, …).
        target: the explained scalar of each image: the logit of the predicted class, or the cosine to the partner's
            unaltered embedding.
        seed_ids: M texts from which seeds are made (sample id, and for pairs the side).
    """

    images: Tensor
    target: Target
    seed_ids: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class Samples:
    """A batch of samples with their pixels: what an explainer and a metric receive.

    Attributes:
        items: N samples, or N pairs.
        images: float32 N×3×H×W, for pairs N×2×3×H×W, RGB in [0, 1], at the model's input size, on the model's device.
        clean: the model's results on them.
        seed: the suite's seed; use :meth:`rng` rather than this.
        dataset: where they come from; None for images given by hand.
        cache: what several metrics or explainers share on this batch (see :meth:`cached`).
    """

    items: tuple[Sample, ...] | tuple[Pair, ...]
    images: Tensor
    clean: Clean
    seed: int = 0
    dataset: Dataset | None = field(default=None, repr=False)
    cache: Cache = field(default_factory=Cache, repr=False)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Sample | Pair]:
        return iter(self.items)

    @property
    def ids(self) -> tuple[str, ...]:
        return tuple(item.id for item in self.items)

    @property
    def are_pairs(self) -> bool:
        return self.images.ndim == 5

    @property
    def threshold(self) -> float | None:
        return self.clean.threshold

    @property
    def genuine(self) -> np.ndarray:
        """bool N: which pairs are genuine (all False for classifiers)."""
        return np.array([getattr(item, "same", False) for item in self.items], dtype=bool)

    def rng(self, index: int, purpose: str) -> np.random.Generator:
        """Return the generator of sample ``index`` for ``purpose``: independent of batch, order and worker."""
        return rng_for(self.seed, self.items[index].id, purpose)

    def seeds(self, purpose: str) -> list[int]:
        """Return one 63-bit seed per sample for ``purpose``."""
        return [seed_for(self.seed, item.id, purpose) for item in self.items]

    def cached(self, function: Callable[Concatenate[Samples, P], T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Return ``function(self, *args, **kwargs)``, computed once for as long as this batch lives."""
        return self.cache.get(self, function, *args, **kwargs)

    def take(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """Return the samples at ``indices`` (any order), remembered, so that a repeated call shares its cache."""
        chosen = tuple(int(i) for i in indices)
        return self if chosen == tuple(range(len(self))) else self.cached(_taken, chosen)

    def where(self, which: Which | ClassSide | Both) -> np.ndarray:
        """Return the indices of the samples of one kind.

        Args:
            which: ``genuine`` or ``impostor`` pairs, which for classifiers means all; samples whose label is the
                dataset's ``positive`` class, or another (``negative``), which for pairs means all; or ``all``. Where
                the label or the dataset's positive class is not known, a sample counts as positive. Two of them
                joined by ``+``: the first for pairs, the second for classifiers.
        """
        side = judged_by(which, "verification" if self.are_pairs else "pad")
        if self.are_pairs and side in ("genuine", "impostor"):
            return np.flatnonzero(self.genuine == (side == "genuine"))
        if not self.are_pairs and side in ("positive", "negative"):
            return np.flatnonzero(self._negative == (side == "negative"))
        return np.arange(len(self))

    @property
    def _negative(self) -> np.ndarray:
        """bool N: which samples are known to be of another class than the dataset's positive one."""
        positive = self.dataset.positive if self.dataset is not None else ""
        labels = [getattr(item, "label", None) for item in self.items]
        return np.array([bool(positive) and label not in (None, positive) for label in labels], dtype=bool)

    def views(self) -> Views:
        """Return the batch as single faces with one scalar target each (see :class:`Views`)."""
        if not self.are_pairs:
            target = ClassTarget(self.clean.predicted, is_saturated(self.clean.scores))
            return Views(self.images, target, self.ids)
        reference = self.clean.outputs.flip(1).flatten(0, 1)
        ids = tuple(f"{item.id}#{side}" for item in self.items for side in "ab")
        return Views(self.images.flatten(0, 1), PairTarget(reference), ids)

    def truth(self, kind: str) -> Tensor:
        """Return a ground truth at the model's input size, float32 in [0, 1]: N×H×W, for pairs N×2×H×W.

        Masks of another size are resized by area, so a value between 0 and 1 is the share that is covered.

        Raises:
            NotApplicable: a sample has no ground truth of this kind.
        """
        size = tuple(self.images.shape[-2:])
        masks = []
        for item in self.items:
            if kind not in item.truth:
                have = ", ".join(sorted(item.truth)) or "none"
                raise NotApplicable(
                    f'sample "{item.id}" has no "{kind}" ground truth (it has: {have})', ReasonCode.NO_GROUND_TRUTH
                )
            mask = torch.as_tensor(np.array(item.truth[kind](), dtype=np.float32))
            expected = 3 if self.are_pairs else 2
            if mask.ndim != expected:
                raise UsageError(
                    f'ground truth "{kind}" of "{item.id}" has {mask.ndim} dimensions; expected '
                    f"{'2×H×W' if self.are_pairs else 'H×W'}"
                )
            if tuple(mask.shape[-2:]) != size:
                flat = mask.reshape(-1, 1, *mask.shape[-2:])
                flat = torch.nn.functional.interpolate(flat, size=size, mode="area")
                mask = flat.reshape(*mask.shape[:-2], *size)
            masks.append(mask)
        return torch.stack(masks).to(self.images.device)


def _taken(samples: Samples, chosen: tuple[int, ...]) -> Samples:
    at = torch.as_tensor(chosen, dtype=torch.long, device=samples.images.device)
    old = samples.clean
    clean = Clean(old.outputs[at], old.scores[at], old.predicted[at], old.threshold)
    items = tuple(samples.items[i] for i in chosen)
    return Samples(items, samples.images[at], clean, samples.seed, samples.dataset)  # type: ignore[arg-type]
