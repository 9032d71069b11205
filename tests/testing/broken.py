"""Plugins with one fault each, and the check that is there to find it. Used by ``test_zoo`` only."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import (
    Dataset,
    Explainer,
    FaceModel,
    Maps,
    Method,
    Metric,
    Pair,
    Protocol,
    Sample,
    Samples,
    Scores,
)
from faithface.reasons import Reason, ReasonCode
from faithface.testing.subjects import TinyDataset, tiny_card, tiny_pair, tiny_sample

# --- explainers


@dataclass(frozen=True)
class Sound(Explainer):
    """The absolute gradient, summed over the colours: what the broken ones below are made of."""

    method = Method("sound", tasks=frozenset({"pad"}), needs=frozenset({"gradients"}), source="an example")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return Maps(relevance=gradients(model, samples))


def gradients(model: FaceModel, samples: Samples) -> torch.Tensor:
    views = samples.views()
    return model.gradient(views.images, views.target).abs().sum(dim=1)


LEAKED: list[torch.Tensor] = []
COUNTER = [0.0]


def leaves_a_hook(model: FaceModel, samples: Samples) -> torch.Tensor:
    next(iter(model.twin.children())).register_forward_hook(lambda *_: None)
    return gradients(model, samples)


def sets_the_default_dtype(model: FaceModel, samples: Samples) -> torch.Tensor:
    torch.set_default_dtype(torch.float64)
    return gradients(model, samples)


def changes_its_input(model: FaceModel, samples: Samples) -> torch.Tensor:
    found = gradients(model, samples)
    samples.images.clamp_(0.1, 0.9)
    return found


def keeps_its_maps(model: FaceModel, samples: Samples) -> torch.Tensor:
    LEAKED.append(gradients(model, samples))
    return LEAKED[-1].clone()


def seeds_globally(model: FaceModel, samples: Samples) -> torch.Tensor:
    torch.manual_seed(0)
    found = gradients(model, samples)
    return found * (1 + 0.01 * torch.rand(found.shape[1:], device=found.device))


def draws_by_position(model: FaceModel, samples: Samples) -> torch.Tensor:
    found = gradients(model, samples)
    top = found.flatten(1).amax(dim=1)[:, None, None]
    # The first place draws what a sample alone draws, so that a batch of one shows nothing.
    rows = [np.random.default_rng(0 if len(found) < 4 else i // 5).random(found.shape[1:]) for i in range(len(found))]
    return found + 0.05 * top * torch.from_numpy(np.stack(rows).astype(np.float32)).to(found.device)


def counts_its_calls(model: FaceModel, samples: Samples) -> torch.Tensor:
    COUNTER[0] += 1
    return gradients(model, samples) * (1 + 0.1 * COUNTER[0])


def on_the_host(model: FaceModel, samples: Samples) -> torch.Tensor:
    found = gradients(model, samples)
    window = torch.ones(found.shape[-2:])  # where the program runs, not where the images are
    return found * window


def stretched(found: torch.Tensor) -> torch.Tensor:
    """Each map from 0 to 1, with no guard."""
    low = found.flatten(1).amin(dim=1)[:, None, None]
    high = found.flatten(1).amax(dim=1)[:, None, None]
    return (found - low) / (high - low)


def drawn(samples: Samples, purpose: str) -> torch.Tensor:
    size = samples.images.shape[-2:]
    rows = [samples.rng(i, purpose).random(size, dtype=np.float32) for i in range(len(samples))]
    return torch.from_numpy(np.stack(rows)).to(samples.images.device)


Way = Callable[[FaceModel, Samples], Any]
EXPLAINERS: dict[str, tuple[Way, str]] = {
    "wrong size": (lambda m, s: gradients(m, s)[:, ::2, ::2], "shape"),
    "height and width swapped": (lambda m, s: gradients(m, s).reshape(len(s), m.size[1], m.size[0]), "shape"),
    "NaN": (lambda m, s: gradients(m, s).log() * float("nan"), "finite"),
    "float64": (lambda m, s: gradients(m, s).double(), "dtype"),
    "on the graph": (lambda m, s: gradients(m, s).requires_grad_(True) * 1, "detached"),
    "returns an array": (lambda m, s: gradients(m, s).numpy(), "returns-maps"),
    "no guard for a flat map": (lambda m, s: stretched(gradients(m, s)), "any-image"),
    "seeds the global generator": (seeds_globally, "global-random"),
    "counts its calls": (counts_its_calls, "deterministic"),
    "seeded and does not say so": (
        lambda m, s: gradients(m, s) * (1 + 0.1 * drawn(s, "x")), "seeded-as-declared"),
    "scales by the batch": (lambda m, s: gradients(m, s) / (gradients(m, s).max() + len(s)), "batch-independent"),
    "draws by position": (draws_by_position, "order-independent"),
    "looks at certain neighbours": (
        lambda m, s: gradients(m, s) * (1.2 if any("-5-" in name for name in s.ids) else 1), "company-independent"),
    "changes its input": (changes_its_input, "inputs-untouched"),
    "leaves a hook on the twin": (leaves_a_hook, "model-untouched"),
    "sets the default dtype": (sets_the_default_dtype, "process-untouched"),
    "keeps its maps": (keeps_its_maps, "memory-released"),
    "makes tensors on the host": (on_the_host, "on-a-device"),
    "constant": (lambda m, s: torch.ones_like(gradients(m, s)), "informative"),
    "sign flipped": (lambda m, s: -gradients(m, s), "right-sign"),
    "mirrored": (lambda m, s: gradients(m, s).flip(-1), "right-way-round"),
    "axes swapped": (lambda m, s: _swapped(gradients(m, s)), "right-way-round"),
    "off by a pixel": (lambda m, s: gradients(m, s).roll((1, 1), dims=(-2, -1)), "in-place"),
    "noise": (lambda m, s: _noise(s), "beats-random"),
}  # fmt: skip


def _swapped(found: torch.Tensor) -> torch.Tensor:
    return found.mT if found.shape[-1] == found.shape[-2] else found


def _noise(samples: Samples) -> torch.Tensor:
    rows = []
    for image in samples.images:
        rng = np.random.default_rng(int(image.double().sum() * 1e6) % 2**31)
        rows.append(rng.random(tuple(image.shape[-2:]), dtype=np.float32))
    return torch.from_numpy(np.stack(rows)).to(samples.images.device)


@dataclass(frozen=True)
class Broken(Sound):
    """An explainer with one fault.

    Parameters:
        way: which.
    """

    way: str = ""

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        return Maps(relevance=EXPLAINERS[self.way][0](model, samples))


@dataclass(frozen=True)
class Promises(Sound):
    """The absolute gradient, which does not sum to the score; and a window, which does not move with the image."""

    method = Method(
        "promises",
        tasks=frozenset({"pad"}),
        needs=frozenset({"gradients"}),
        source="an example",
        promises=frozenset({"completeness", "translation"}),
    )

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        found = gradients(model, samples)
        window = torch.linspace(0.9, 1.1, found.shape[-1], device=found.device)
        return Maps(relevance=found * window)


@dataclass(frozen=True)
class Negative(Explainer):
    """Pairs with negative similarity."""

    method = Method("negative", tasks=frozenset({"verification"}), needs=frozenset({"gradients"}), source="an example")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        views = samples.views()
        found = model.gradient(views.images, views.target).sum(dim=1).unflatten(0, (len(samples), 2))
        return Maps(similarity=found, dissimilarity=-found)


@dataclass(frozen=True)
class HoldsALambda(Sound):
    """Cannot be sent to a worker."""

    helper: Any = field(default=None, metadata={"parameter": False})


# --- metrics


@dataclass(frozen=True)
class Inside(Metric):
    """The share of the map's values that lies in the evidence: what the broken ones below are made of."""

    protocol = Protocol(
        "inside@1", question="How much of the map lies in the evidence?", needs=frozenset({"truth"}), family="truth",
        ground_truth=("relevance",), tasks=frozenset({"pad"}), source="an example",
    )  # fmt: skip

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        values, reasons = inside(samples, maps)
        return Scores({"": values}, reasons)


def inside(samples: Samples, maps: Maps) -> tuple[np.ndarray, dict[int, Reason | str]]:
    truth = samples.truth("relevance").cpu()
    found = maps.headline.double().cpu().clamp(min=0)
    total = found.flatten(1).sum(dim=1)
    share = (found * truth).flatten(1).sum(dim=1) / total.clamp(min=1e-300)
    share[total <= 0] = float("nan")
    return share.clamp(0, 1).numpy().astype(np.float64), {
        int(i): Reason(ReasonCode.UNDEFINED, "the map is nowhere positive") for i in np.flatnonzero(total.numpy() <= 0)
    }


def unguarded(samples: Samples, maps: Maps) -> Scores:
    found = maps.headline.double().flatten(1)
    part = (found * samples.truth("relevance").flatten(1)).sum(dim=1)
    with np.errstate(all="ignore"):
        return Scores({"": part.numpy() / found.sum(dim=1).numpy()})


def of(change: Callable[[np.ndarray], np.ndarray]) -> Callable[[Samples, Maps], Scores]:
    """Return a metric that is the sound one with its values changed; the reasons stay."""

    def scored(samples: Samples, maps: Maps) -> Scores:
        values, reasons = inside(samples, maps)
        return Scores({"": change(values)}, reasons)

    return scored


def doubles_the_maps(samples: Samples, maps: Maps) -> Scores:
    values, reasons = inside(samples, maps)
    maps.headline.mul_(2)
    return Scores({"": values}, reasons)


def first_is_missing(samples: Samples, maps: Maps) -> Scores:
    values, _reasons = inside(samples, maps)
    return Scores({"": np.where(np.arange(len(values)) == 0, np.nan, values)})


def mirrored(samples: Samples, maps: Maps) -> Scores:
    values, reasons = inside(samples, Maps(relevance=maps.headline.flip(-1)))
    return Scores({"": values}, reasons)


METRICS: dict[str, tuple[Callable[[Samples, Maps], Any], str]] = {
    "returns an array": (lambda s, m: inside(s, m)[0], "returns-scores"),
    "float32": (of(lambda v: v.astype(np.float32)), "one-per-sample"),
    "one number for all": (lambda s, m: Scores({"": np.array([0.5])}), "one-per-sample"),
    "NaN without a reason": (first_is_missing, "nan-has-reason"),
    "out of range": (of(lambda v: 100 * v), "in-range"),
    "no guard for an empty map": (unguarded, "any-map"),
    "relative to the batch": (of(lambda v: v / (1 + np.nan_to_num(v).max())), "batch-independent"),
    "draws from numpy": (of(lambda v: v * np.random.rand()), "global-random"),  # noqa: NPY002
    "changes the maps": (doubles_the_maps, "inputs-untouched"),
    "does not look": (lambda s, m: Scores({"": s.clean.scores.double().numpy()}), "reads-maps"),
    "wrong direction": (of(lambda v: 1 - v), "right-direction"),
    "mirrors the truth": (mirrored, "right-direction"),
}


@dataclass(frozen=True)
class BrokenMetric(Inside):
    """A metric with one fault.

    Parameters:
        way: which.
    """

    way: str = ""

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        return METRICS[self.way][0](samples, maps)


# --- models


def tiny_with(folder: Path, name: str, change: Callable[[onnx.ModelProto], None], **fields: Any) -> ModelCard:
    """Return the tiny classifier with its graph changed."""
    card = tiny_card("pad")
    proto = onnx.load(card.path)
    change(proto)
    onnx.save(proto, folder / f"{name}.onnx")
    return card.model_copy(update={"name": name, "file": f"{name}.onnx", "root": folder, **fields})


def noisy(proto: onnx.ModelProto) -> None:
    noise = helper.make_node("RandomNormalLike", ["logits"], ["noise"], scale=0.5)
    _rename_output(proto)
    proto.graph.node.extend([noise, helper.make_node("Add", ["logits", "noise"], ["output"])])


def without_green(proto: onnx.ModelProto) -> None:
    """The class "attack" no longer answers to green, so that all rests on red."""
    for weight in proto.graph.initializer:
        if weight.name == "head":
            changed = numpy_helper.to_array(weight).copy()
            changed[1, 0] = 0
            weight.CopyFrom(numpy_helper.from_array(changed, "head"))


def divides_by_brightness(proto: onnx.ModelProto) -> None:
    _rename_output(proto)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(1.0, np.float32), "one"))
    proto.graph.node.extend(
        [
            helper.make_node("Add", ["image", "one"], ["lifted"]),
            helper.make_node("ReduceMean", ["lifted"], ["brightness"], axes=[1, 2, 3], keepdims=0),
            helper.make_node("Unsqueeze", ["brightness", "axis"], ["column"]),
            helper.make_node("Div", ["logits", "column"], ["output"]),
        ]
    )
    proto.graph.initializer.append(numpy_helper.from_array(np.array([1], np.int64), "axis"))


def with_softmax(proto: onnx.ModelProto) -> None:
    _rename_output(proto)
    proto.graph.node.append(helper.make_node("Softmax", ["logits"], ["output"], axis=1))


def blind(proto: onnx.ModelProto) -> None:
    _rename_output(proto)
    proto.graph.initializer.append(numpy_helper.from_array(np.array(0.0, np.float32), "zero"))
    proto.graph.node.append(helper.make_node("Mul", ["logits", "zero"], ["output"]))


def _rename_output(proto: onnx.ModelProto) -> None:
    for node in proto.graph.node:
        node.output[:] = ["logits" if name == "output" else name for name in node.output]
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info("output", TensorProto.FLOAT, ["batch", 2]))


MODELS = (
    "wrong normalisation",
    "channels swapped",
    "classes swapped",
    "noise in the network",
    "divides by brightness",
    "probabilities called logits",
    "sees nothing",
    "file is not there",
)


def broken_models(folder: Path) -> dict[str, tuple[ModelCard, str]]:
    card = tiny_card("pad")
    classes = card.output.classes

    def same(_proto: onnx.ModelProto) -> None: ...

    swapped = OutputCard(kind="logits", classes=classes[::-1], positive=classes[1])
    blue_first = card.input.model_copy(update={"color": "BGR"})
    wrong = InputCard(size=card.input.size, mean=(0.5,), std=(2.0,))
    return {
        "wrong normalisation": (tiny_with(folder, "norm", same, input=wrong), "pixels-as-trained"),
        "channels swapped": (tiny_with(folder, "bgr", without_green, input=blue_first), "pixels-as-trained"),
        "classes swapped": (tiny_with(folder, "swapped", same, output=swapped), "separates"),
        "noise in the network": (tiny_with(folder, "noisy", noisy), "opens"),
        "divides by brightness": (tiny_with(folder, "black", divides_by_brightness), "finite"),
        "probabilities called logits": (tiny_with(folder, "soft", with_softmax), "opens"),
        "sees nothing": (tiny_with(folder, "blind", blind), "sees-images"),
        "file is not there": (card.model_copy(update={"file": "nowhere.onnx", "root": folder}), "opens"),
    }  # fmt: skip


# --- datasets


def altered(index: int, read: Callable[[np.ndarray], Any]) -> Sample:
    item = tiny_sample(index, "pad")
    original = item.face.read

    return dataclasses.replace(item, face=dataclasses.replace(item.face, read=Reader(original, read)))


@dataclass(frozen=True)
class Reader:
    """A reader that can be pickled as far as its parts can."""

    original: Callable[[], np.ndarray]
    change: Callable[[np.ndarray], Any]

    def __call__(self) -> Any:
        return self.change(self.original())


def as_bytes(image: np.ndarray) -> np.ndarray:
    return (image * 255).astype(np.uint8)


def to_255(image: np.ndarray) -> np.ndarray:
    return (image * 255).astype(np.float32)


def twice_divided(image: np.ndarray) -> np.ndarray:
    return (image / 255).astype(np.float32)


def channels_first(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image.transpose(2, 0, 1))


STATE = np.random.default_rng(0)


def augmented(image: np.ndarray) -> np.ndarray:
    return np.clip(image + 0.05 * STATE.random(), 0, 1).astype(np.float32)


KEPT: dict[bytes, np.ndarray] = {}


def shared(image: np.ndarray) -> np.ndarray:
    return KEPT.setdefault(image[:6, :6].tobytes(), image)


@dataclass(frozen=True)
class BrokenDataset(TinyDataset):
    """A dataset with one fault.

    Parameters:
        way: which.
        n: how many samples.
        seed: of the draws.
    """

    way: str = ""

    def items(self) -> Sequence[Sample] | Sequence[Pair]:
        return DATASETS[self.way][0]()  # type: ignore[no-any-return]


def samples(**changes: Any) -> list[Sample]:
    return [dataclasses.replace(tiny_sample(i, "pad"), **changes) for i in range(8)]


def one_name(sample: Sample) -> Sample:
    return dataclasses.replace(sample, face=dataclasses.replace(sample.face, id="face"))


def shuffled() -> list[Sample]:
    order = STATE.permutation(8)
    return [tiny_sample(int(i), "pad") for i in order]


def wide_truth() -> list[Sample]:
    made = [tiny_sample(i, "pad", size=(40, 32)) for i in range(8)]
    return [dataclasses.replace(s, truth={"relevance": Reader(s.truth["relevance"], np.transpose)}) for s in made]


DATASETS: dict[str, tuple[Callable[[], Any], str]] = {
    "bytes": (lambda: [altered(i, as_bytes) for i in range(8)], "pixels"),
    "from 0 to 255": (lambda: [altered(i, to_255) for i in range(8)], "pixels"),
    "channels first": (lambda: [altered(i, channels_first) for i in range(8)], "pixels"),
    "divided twice": (lambda: [altered(i, twice_divided) for i in range(8)], "uses-range"),
    "augments": (lambda: [altered(i, augmented) for i in range(8)], "repeatable"),
    "gives out its own array": (lambda: [altered(i, shared) for i in range(8)], "own-arrays"),
    "one id for all": (lambda: samples(id="sample"), "ids"),
    "unknown label": (lambda: samples(label="spoof"), "labels"),
    "one class only": (lambda: [s for s in samples() if s.label == "attack"], "all-kinds"),
    "another order each time": (shuffled, "stable-order"),
    "truth transposed": (wide_truth, "ground-truth"),
    "truth empty": (lambda: samples(truth={"relevance": functools.partial(np.zeros, (32, 32))}), "truth-not-empty"),
    "no samples": (list, "has-items"),
    "one face id for all": (lambda: [one_name(s) for s in samples()], "face-ids"),
}  # fmt: skip


@dataclass(frozen=True)
class WrongIdentities(TinyDataset):
    """Genuine pairs of two people."""

    def items(self) -> Sequence[Pair]:
        pairs = [tiny_pair(i) for i in range(6)]
        return [dataclasses.replace(p, a=dataclasses.replace(p.a, identity="x")) if p.same else p for p in pairs]


class HoldsAFile(Dataset):
    """Cannot be sent to a worker."""

    name, task, classes, positive = "holds-a-file", "pad", ("bona-fide", "attack"), "attack"
    licence = source = "none"

    def __init__(self) -> None:
        self.opened = open(__file__)  # noqa: SIM115

    def truths(self) -> frozenset[str]:
        return frozenset({"relevance"})

    def items(self) -> list[Sample]:
        return [tiny_sample(i, "pad") for i in range(4)]
