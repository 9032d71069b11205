"""What a plugin author writes against: Explainer, Metric, Dataset, their samples, and the model that they see.

Place in the flow: every other module of faithface speaks in these types; this one imports only ``errors``, ``seeds``
and ``tasks``. Nothing here touches a file, a session or a network.

The types in the order in which a run meets them::

    Dataset.items() -> Sample | Pair            light: an id, where the pixels come from, what is known about them
    load_samples(...) -> Samples                a batch: pixels at the model's input size, clean scores, seeds
    Explainer.explain(model, samples) -> Maps   one relevance map per face
    Metric.score(model, samples, maps) -> Scores    one float per sample and named value

Explainers, metrics and datasets are frozen dataclasses: their fields are their parameters, which users set with
``name(parameter=value)`` (``specs.py``). Images are float32, RGB, in [0, 1].
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from torch import Tensor

from faithface.card import ModelCard
from faithface.errors import NotApplicable, UsageError
from faithface.seeds import rng_for, seed_for
from faithface.tasks import Target, Task

Better = Literal["higher", "lower"]
Which = Literal["all", "genuine", "impostor"]
Mask = Callable[[], np.ndarray]

PAIR_MAPS = ("similarity", "dissimilarity")


# --- samples -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Face:
    """One image of a face, read when it is asked for.

    Attributes:
        id: unique within the dataset, stable between runs.
        read: returns float32 H×W×3, RGB, in [0, 1], of any size.
        identity: whose face; None where it is not known.
    """

    id: str
    read: Callable[[], np.ndarray] = field(repr=False, compare=False)
    identity: str | None = None


@dataclass(frozen=True)
class Sample:
    """One image with a class, for classifiers (presentation attacks, synthetic faces).

    Attributes:
        id: unique within the dataset and a safe file name, such as ``attack--0007``.
        face: the image.
        label: the class's name; None where unknown.
        truth: ground truth by kind, each a callable that returns an array at the image's own size:
            ``"relevance"`` bool H×W (the pixels that carry the evidence), ``"human"`` float32 H×W in [0, 1]
            (an annotator's salience), ``"tag"`` bool H×W (a planted shortcut). Empty where none is known.
        others: further faces that a protocol needs, by role, such as the bona fide ``"twin"`` of an attack.
    """

    id: str
    face: Face
    label: str | None = None
    truth: Mapping[str, Mask] = field(default_factory=dict, repr=False, compare=False)
    others: Mapping[str, Face] = field(default_factory=dict, repr=False, compare=False)

    @property
    def faces(self) -> tuple[Face, ...]:
        return (self.face,)


@dataclass(frozen=True)
class Pair:
    """Two faces, for verification: ``a`` is the probe, ``b`` the reference.

    Attributes:
        id: unique within the dataset and a safe file name, such as ``stem_a--stem_b``.
        same: True for a genuine pair, False for an impostor pair.
        truth: ground truth by kind, each a callable that returns bool 2×H×W (for ``a``, ``b``): ``"similarity"``,
            ``"dissimilarity"``. Empty where none is known.
        others: further faces that a protocol needs, by role, such as ``"non-mate"`` for the inpainting game.
        kind: a name for the sort of pair where a set has several (``"part-swap"``), or "".
    """

    id: str
    a: Face
    b: Face
    same: bool
    truth: Mapping[str, Mask] = field(default_factory=dict, repr=False, compare=False)
    others: Mapping[str, Face] = field(default_factory=dict, repr=False, compare=False)
    kind: str = ""

    @property
    def faces(self) -> tuple[Face, ...]:
        return (self.a, self.b)


class Dataset(ABC):
    """A named, ordered, light sequence of samples. Concrete datasets are frozen dataclasses; fields are parameters.

    Attributes:
        name: unique, lower case.
        task: what the samples are for.
        revision: changes whenever a pixel, a label or the order can change; part of every record.
        classes: class names for classifiers; empty for verification.
        positive: the attack or synthetic class; "" for verification.
        aligned: the faces sit at the same place in every image (forbids ``stranger`` and ``partner`` fills if False).
    """

    name: str = ""
    task: Task = "verification"
    revision: str = "1"
    classes: tuple[str, ...] = ()
    positive: str = ""
    aligned: bool = True
    licence: str = ""
    source: str = ""

    @abstractmethod
    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        """Return the samples in their fixed order, without reading pixels. Cheap to call again."""

    def fits(self, task: Task) -> bool:
        """Say whether models of a task can run on these samples (a folder of classes fits both classifier tasks)."""
        return task == self.task

    def out_of_set(self) -> Dataset | None:
        """Return the dataset of unseen kinds that belongs to this one, or None."""
        return None

    def truths(self) -> frozenset[str]:
        """Return the kinds of ground truth that at least some samples have."""
        return frozenset()

    def with_argument(self, argument: str) -> Dataset:
        """Return this dataset opened on what follows the colon in ``name:argument`` (``folder:PATH``)."""
        raise UsageError(f'dataset "{self.name}" takes no argument, got "{argument}"; write {self.name}')


@dataclass(frozen=True)
class Clean:
    """What the model says of the unaltered images of a batch; computed once and shared by all.

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


@dataclass(frozen=True)
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


@dataclass(frozen=True)
class Samples:
    """A batch of samples with their pixels: what an explainer and a metric get.

    Attributes:
        items: N samples, or N pairs.
        images: float32 N×3×H×W, for pairs N×2×3×H×W, RGB in [0, 1], at the model's input size, on the model's device.
        clean: what the model says of them.
        seed: the suite's seed; use :meth:`rng` rather than this.
        dataset: where they come from; None for images given by hand.
        memo: a scratch place for what several metrics or explainers share on this batch (see :meth:`shared`).
    """

    items: tuple[Sample, ...] | tuple[Pair, ...]
    images: Tensor
    clean: Clean
    seed: int = 0
    dataset: Dataset | None = field(default=None, repr=False)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

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

    def shared(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, remembered under ``key`` for as long as this batch lives."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def take(self, indices: Sequence[int] | np.ndarray) -> Samples:
        """Return the samples at ``indices`` (any order), remembered, so that a repeated call shares its memo."""
        chosen = tuple(int(i) for i in indices)
        if chosen == tuple(range(len(self))):
            return self

        def build() -> Samples:
            at = torch.as_tensor(chosen, dtype=torch.long, device=self.images.device)
            clean = Clean(self.clean.outputs[at], self.clean.scores[at], self.clean.predicted[at], self.clean.threshold)
            items = tuple(self.items[i] for i in chosen)
            return Samples(items, self.images[at], clean, self.seed, self.dataset)  # type: ignore[arg-type]

        return self.shared(("take", chosen), build)  # type: ignore[no-any-return]

    def where(self, which: Which) -> np.ndarray:
        """Return the indices of all samples, or of the genuine or the impostor pairs only."""
        if which == "all" or not self.are_pairs:
            return np.arange(len(self))
        return np.flatnonzero(self.genuine == (which == "genuine"))

    def views(self) -> Views:
        """Return the batch as single faces with one scalar target each (see :class:`Views`)."""
        from faithface.tasks import ClassTarget, PairTarget, is_saturated

        if not self.are_pairs:
            target = ClassTarget(self.clean.predicted, is_saturated(self.clean.scores))
            return Views(self.images, target, self.ids)
        reference = self.clean.outputs.flip(1).flatten(0, 1)
        ids = tuple(f"{item.id}#{side}" for item in self.items for side in "ab")
        return Views(self.images.flatten(0, 1), PairTarget(reference), ids)

    def truth(self, kind: str) -> Tensor:
        """Return a ground truth at the model's input size, float32 in [0, 1]: N×H×W, for pairs N×2×H×W.

        Masks of another size are resized by area, so a value between 0 and 1 is a covered share.

        Raises:
            NotApplicable: a sample has no ground truth of this kind.
        """
        size = tuple(self.images.shape[-2:])
        masks = []
        for item in self.items:
            if kind not in item.truth:
                have = ", ".join(sorted(item.truth)) or "none"
                raise NotApplicable(f'sample "{item.id}" has no "{kind}" ground truth (it has: {have})')
            mask = torch.as_tensor(np.asarray(item.truth[kind](), dtype=np.float32))
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


@dataclass(frozen=True)
class Cost:
    """What the maps of a batch cost: wall seconds, and images passed forward and backward through the network."""

    seconds: float
    forward: int
    backward: int


@dataclass(frozen=True)
class Maps:
    """Explanations of a batch: float32 at the model's input size; larger = more.

    Attributes:
        relevance: classifiers: N×H×W; may be signed (negative speaks against the class).
        similarity, dissimilarity: pairs: N×2×H×W (for ``a``, ``b``), both >= 0.
        native: the map before it was resized, where the method has a coarse one: N×h×w (pairs: N×2×h×w, of
            ``similarity``); for measures that are defined on it.
        cost: filled in by the runner.
        note: what was chosen on the way and belongs in the record, such as ``{"layer": "/layer4/Relu"}``.
    """

    relevance: Tensor | None = None
    similarity: Tensor | None = None
    dissimilarity: Tensor | None = None
    native: Tensor | None = None
    cost: Cost | None = None
    note: Mapping[str, Any] = field(default_factory=dict)
    memo: dict[Any, Any] = field(default_factory=dict, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.headline)

    @property
    def are_pairs(self) -> bool:
        return self.relevance is None

    @property
    def headline(self) -> Tensor:
        """The map of a classifier, or the similarity maps of the pairs."""
        first = self.relevance if self.relevance is not None else self.similarity
        if first is None:
            raise UsageError("Maps holds neither relevance nor similarity; give one of them")
        return first

    @staticmethod
    def from_views(signed: Tensor, samples: Samples, native: Tensor | None = None, **note: Any) -> Maps:
        """Build maps from one signed map per view (M×H×W, in the order of :meth:`Samples.views`).

        Classifiers: relevance = the map. Pairs: positive part → similarity, negative part → dissimilarity.
        """
        signed = signed.detach().to(torch.float32)
        if not samples.are_pairs:
            return Maps(relevance=signed, native=native, note=note)
        both = signed.unflatten(0, (len(samples), 2))
        small = None if native is None else native.unflatten(0, (len(samples), 2))
        return Maps(similarity=both.clamp(min=0), dissimilarity=(-both).clamp(min=0), native=small, note=note)

    def named(self) -> dict[str, Tensor]:
        """Return the maps that are there by name: ``relevance``, or ``similarity`` and ``dissimilarity``."""
        return {k: v for k in ("relevance", *PAIR_MAPS) if (v := getattr(self, k)) is not None}

    def shared(self, key: Any, compute: Callable[[], Any]) -> Any:
        """Return ``compute()``, remembered under ``key`` for as long as these maps live."""
        if key not in self.memo:
            self.memo[key] = compute()
        return self.memo[key]

    def take(self, indices: Sequence[int] | np.ndarray) -> Maps:
        """Return the maps at ``indices``, remembered, so that a repeated call shares its memo."""
        chosen = tuple(int(i) for i in indices)
        if chosen == tuple(range(len(self))):
            return self

        def build() -> Maps:
            at = torch.as_tensor(chosen, dtype=torch.long, device=self.headline.device)

            def part(maps: Tensor | None) -> Tensor | None:
                return None if maps is None else maps[at.to(maps.device)]

            return Maps(
                part(self.relevance),
                part(self.similarity),
                part(self.dissimilarity),
                native=part(self.native),
                cost=self.cost,
                note=self.note,
            )

        return self.shared(("take", chosen), build)  # type: ignore[no-any-return]


# --- the model -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Activations:
    """The output of one layer: ``values`` N×C×h×w, ``gradients`` of the target (same shape) or None, ``layer``."""

    values: Tensor
    gradients: Tensor | None
    layer: str


@dataclass
class Passes:
    """How many images went forward and backward through the network so far (a meter, so it is mutable)."""

    forward: int = 0
    backward: int = 0


MADE = 32  # images made at a time where a model does not say better


class FaceModel(ABC):
    """What an explainer or a metric sees of a model: functions of images, never a session.

    Images are float32 N×3×H×W, RGB, in [0, 1], at ``card.input.size``; the card's colour order, normalisation and
    layout are applied inside. Any batch size is accepted and split as needed.

    Attributes:
        card: the model's card.
        device: ``"cpu"`` or ``"cuda"``.
        passes: the meter behind ``cost@1``.
        memo: a scratch place that lives as long as the model.
    """

    card: ModelCard
    device: str
    passes: Passes
    memo: dict[Any, Any]

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the input."""
        return self.card.input.size

    @abstractmethod
    def outputs(self, images: Tensor) -> Tensor:
        """Return the raw outputs N×K, by ONNX Runtime, without gradient."""

    def outputs_of(self, count: int, make: Callable[[slice], Tensor]) -> Tensor:
        """Return the raw outputs count×K of images that are made a few at a time, when the network is ready for them.

        For the altered images of perturbation methods: they are scored while they lie in the cache, never held all at
        once, and on a host with several cores some are made while others are scored.

        Args:
            count: how many images, at least 1.
            make: gets a slice of ``range(count)`` and returns those images, n×3×H×W on the model's device. It is called
                from several threads, in any order and with slices of any length, so it must change nothing, and an
                image must not depend on which others are made with it.
        """
        slices = [slice(start, min(start + MADE, count)) for start in range(0, count, MADE)]
        return torch.cat([self.outputs(make(part)) for part in slices])

    @abstractmethod
    def scores(self, images: Tensor) -> Tensor:
        """Classifiers: class probabilities N×C. Verification: NotApplicable (there are only embeddings)."""

    @abstractmethod
    def embeddings(self, images: Tensor) -> Tensor:
        """Verification: embeddings N×D as the network gives them (not normalised). Classifiers: NotApplicable."""

    @abstractmethod
    def gradient(self, images: Tensor, target: Target) -> Tensor:
        """Return the gradient N×3×H×W of each image's target score with respect to its pixels in [0, 1]."""

    @abstractmethod
    def vjp(self, images: Tensor, cotangents: Tensor) -> Tensor:
        """Return vector-Jacobian products with respect to the pixels.

        Args:
            images: N×3×H×W.
            cotangents: N×M×K: M vectors over the K raw outputs, for each image.

        Returns:
            float32 N×M×3×H×W: entry (n, m) is Σ_k cotangents[n, m, k] · ∂outputs[n, k] / ∂images[n].
        """

    @abstractmethod
    def activations(self, images: Tensor, target: Target | None = None, layer: str | None = None) -> Activations:
        """Return a layer's output, and the gradient of the target with respect to it where a target is given.

        Args:
            layer: a name of the twin; None: the card's ``explain.layer``, else the automatic choice.

        Raises:
            UsageError: the layer does not exist (the candidates are listed).
            NotApplicable: the model has no differentiable twin, or no spatial layer.
        """

    @property
    @abstractmethod
    def twin(self) -> torch.nn.Module:
        """The differentiable torch twin: maps images as above to raw outputs N×K. Raises NotApplicable if refused."""


# --- explainers and metrics ----------------------------------------------------------------------------------------


class Explainer(ABC):
    """A saliency method. Concrete explainers are frozen dataclasses; their fields are their parameters.

    Attributes:
        name: unique, lower case, such as ``grad-cam``.
        version: changes when a map can change.
        tasks: the tasks it can explain.
        needs: what of the model it uses: ``scores`` (forward only), ``gradients``, ``activations``, ``truth``.
        seeded: whether it draws random numbers (always from :meth:`Samples.rng`).
        source: the paper.
        reexplains: False for maps that cannot be computed for altered images (precomputed ones).
    """

    name: str = ""
    version: str = "1"
    tasks: frozenset[Task] = frozenset({"verification", "pad", "synthetic-detection"})
    needs: frozenset[str] = frozenset({"scores"})
    seeded: bool = False
    source: str = ""
    reexplains: bool = True

    @abstractmethod
    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        """Explain a batch: one map per face, float32, finite, at the model's input size."""

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        """Return this explainer opened on what follows the colon in ``name:argument`` (``inverted:rise``)."""
        raise UsageError(f'explainer "{self.name}" takes no argument, got "{argument}"; write {self.name}')

    def bind(self, resolve: Callable[[str], Explainer]) -> Explainer:
        """Return this explainer with names of other explainers among its parameters resolved; default: itself."""
        return self


@dataclass(frozen=True)
class Scores:
    """What a metric says of a batch.

    Attributes:
        values: float64 arrays of N by name; "" is the headline. NaN only with a reason.
        reasons: why the value of a sample (by index) is NaN.
        curves: arrays N×P by name, kept beside the values for figures and validators.
        flags: remarks on samples (by index) that are scored all the same, such as "constant map".
    """

    values: Mapping[str, np.ndarray]
    reasons: Mapping[int, str] = field(default_factory=dict)
    curves: Mapping[str, np.ndarray] = field(default_factory=dict)
    flags: Mapping[int, str] = field(default_factory=dict)


class Metric(ABC):
    """A written protocol. Concrete metrics are frozen dataclasses; fields are parameters; the docstring is the
    protocol.

    Attributes:
        id: name and version, such as ``deletion@1``. A change that can move a number makes a new version.
        better: ``higher`` or ``lower`` (of the headline).
        range: smallest and largest possible value.
        best: the best value.
        tasks: the tasks it can score.
        needs: any of ``model`` (forward passes), ``explainer`` (explains again), ``twin`` (gradients or weights),
            ``family`` (several runs of one model), ``truth`` (ground truth), ``out-of-set`` (a second dataset).
            Empty: maps only.
        truth: the kinds of ground truth it needs, any one of which is enough (with ``truth`` in ``needs``).
        which: the pairs it is judged on.
        value_names: the names of its values; the first, "", is the headline.
        directions: ``better`` of the named values where it differs from the headline's.
        source: the paper.
        forward_passes: what it costs in network passes per sample, in words or a number.
    """

    id: str = ""
    better: Better = "higher"
    range: tuple[float, float] = (0.0, 1.0)
    best: float = 1.0
    tasks: frozenset[Task] = frozenset({"verification", "pad", "synthetic-detection"})
    needs: frozenset[str] = frozenset()
    truth: tuple[str, ...] = ()
    which: Which = "all"
    value_names: tuple[str, ...] = ("",)
    directions: ClassVar[Mapping[str, Better]] = {}
    source: str = ""
    forward_passes: str = "0"

    @abstractmethod
    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        """Return one float per sample and named value. The batch holds only samples chosen by ``which``."""

    def score_family(self, runs: Mapping[str, Maps], samples: Samples) -> Scores:
        """Family metrics: score the same samples' maps from several training runs (by model name)."""
        raise NotApplicable(f'metric "{self.id}" is not a family metric')

    def summarise(self, values: np.ndarray, name: str = "") -> float:
        """Return the board's number from the finite per-sample values (default: the mean; NaN for none)."""
        return float(np.mean(values)) if len(values) else float("nan")

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        """Say before the run starts whether this metric can apply.

        Raises:
            NotApplicable: it cannot; the text gives the reason.
        """
        if card.task not in self.tasks:
            raise NotApplicable(
                f'metric "{self.id}" is for {", ".join(sorted(self.tasks))}; {card.name} is {card.task}'
            )
        if "truth" in self.needs and not (set(self.truth) & dataset.truths()):
            wanted = " or ".join(self.truth)
            raise NotApplicable(f'metric "{self.id}" needs {wanted} ground truth; dataset "{dataset.name}" has none')
        if "out-of-set" in self.needs and dataset.out_of_set() is None:
            raise NotApplicable(f'metric "{self.id}" needs an out-of-set partner; dataset "{dataset.name}" has none')
        if explainer is not None and "explainer" in self.needs and not explainer.reexplains:
            raise NotApplicable(f'metric "{self.id}" explains altered images again; "{explainer.name}" cannot')
