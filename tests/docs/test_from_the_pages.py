"""Every metric on one sample, from the formulas of its page and of the common rules (tests/reference/reader.py)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import numpy_helper

from docs.tools.protocol_example import Attacks, Pairs, Summing, open_example
from docs.tools.protocol_figures import on_example
from faithface.contract import Cost, Dataset, Explainer, FaceModel, Maps, Method, Metric, Samples, judged_by
from faithface.loading import clean_threshold, load_samples
from faithface.metrics import METRICS
from faithface.metrics.part_swap import part_masks
from faithface.perturb import fill_images
from tests.reference import reader
from tests.reference.reader import Case

LEARNED = ("Conv", "ConvTranspose", "Gemm", "MatMul")
CURVES = ("gap", "insertion", "deletion")


@dataclass(frozen=True)
class Occluded(Explainer):
    """:func:`tests.reference.reader.occluded`, of the score that the batch asks about."""

    method = Method(name="occluded-cells")

    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        def map_of(i: int, side: int) -> np.ndarray:
            def scores(images: np.ndarray) -> np.ndarray:
                out = model.outputs(torch.from_numpy(images.astype(np.float32))).double().numpy()
                if samples.are_pairs:
                    b = samples.clean.outputs[i, 1 - side].double().numpy()
                    return np.asarray(out @ b / np.linalg.norm(out, axis=1) / np.linalg.norm(b))
                e = np.exp(out - out.max(axis=1, keepdims=True))
                return np.asarray((e / e.sum(axis=1, keepdims=True))[:, int(samples.clean.predicted[i])])

            image = samples.images[i, side] if samples.are_pairs else samples.images[i]
            return reader.occluded(scores, image.numpy())

        sides = (0, 1) if samples.are_pairs else (0,)
        rows = [torch.from_numpy(map_of(i, side)) for i in range(len(samples)) for side in sides]
        return Maps.from_views(torch.stack(rows), samples)


@dataclass(frozen=True)
class World:
    """One of the two examples of the protocol pages, and what a reader sees of it."""

    model: FaceModel
    dataset: Dataset
    threshold: float | None
    outputs: reader.Outputs
    contributions: reader.Outputs

    def samples(self, index: int) -> Samples:
        return load_samples(self.model, [self.dataset.items()[index]], 0, self.threshold, self.dataset)  # type: ignore[arg-type]

    def case(self, item: Any) -> Case:
        faces = {face.id: (face, getattr(one, "label", "")) for one in self.dataset.items() for face in one.faces}
        known = [(name, face.identity, label, pixels(face)) for name, (face, label) in faces.items()]
        if self.model.card.task == "verification":
            kind = "similarity" if item.same else "dissimilarity"
            a, b = pixels(item.a), pixels(item.b)
            assert self.threshold is not None
            return Case(item.id, kind, a, self.outputs, b, 0, self.threshold, item, known)
        image = pixels(item.face)
        chosen = int(self.outputs(image[None])[0].argmax())
        return Case(item.id, "relevance", image, self.outputs, None, chosen, 0.0, item, known)

    def networks(self, levels: int) -> list[reader.Outputs]:
        """The networks of ``randomisation@1``, made from the file by the page's rules; levels = 1: the last one."""
        proto = onnx.load(self.model.card.path)
        held = {t.name for t in proto.graph.initializer}
        behind = {node.output[0]: node.input[0] for node in proto.graph.node if node.op_type == "Identity"}
        inputs = [[behind.get(n, n) for n in node.input] for node in proto.graph.node if node.op_type in LEARNED]
        layers = [[n for n in names if n in held] for names in inputs]
        layers = [names for names in layers if names]
        counts = sorted({int(np.floor(v + 0.5)) for v in np.linspace(1, len(layers), levels)})
        found = []
        for count in counts if levels > 1 else [len(layers)]:
            copy = onnx.ModelProto()
            copy.CopyFrom(proto)
            for tensor in copy.graph.initializer:
                if tensor.name in {name for names in layers[-count:] for name in names}:
                    old = numpy_helper.to_array(tensor).astype(np.float64)
                    rng = reader.generator("", f"randomisation/{tensor.name}")
                    new = rng.normal(old.mean(), old.std(), old.shape).astype(np.float32)
                    tensor.CopyFrom(numpy_helper.from_array(new, tensor.name))
            found.append(network(copy.SerializeToString(), self.model.card.input, 0))
        return found


def pixels(face: Any) -> np.ndarray:
    return np.ascontiguousarray(face.read().transpose(2, 0, 1))


def network(file: str | bytes, card: Any, output: int) -> reader.Outputs:
    """A network as a function of images in [0, 1], by ONNX Runtime and the card's normalisation."""
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    mean, std = (np.array(v, np.float32).reshape(1, -1, 1, 1) for v in (card.mean, card.std))

    def outputs(images: np.ndarray) -> np.ndarray:
        parts = [session.run(None, {"image": ((part - mean) / std).astype(np.float32)})[output] for part in
                 (images[k : k + 64] for k in range(0, len(images), 64))]  # fmt: skip
        return np.concatenate(parts)

    return outputs


@pytest.fixture(scope="module")
def worlds(tmp_path_factory: pytest.TempPathFactory) -> dict[str, World]:
    found = {}
    for task, dataset in (("pad", Attacks()), ("verification", Pairs())):
        model, _ = open_example(task, tmp_path_factory.mktemp(task))
        threshold = clean_threshold(model, dataset) if task == "verification" else None
        files = [network(str(model.card.path), model.card.input, k) for k in (0, 1 if task == "pad" else 0)]
        found[task] = World(model, dataset, threshold, *files)
    return found


# What the reader makes of each protocol: (world, case, metric) -> the headline.
Reading = Callable[[World, Case, Any], float]


def simple(function: Callable[[Case, Any], float]) -> Reading:
    return lambda _world, case, metric: function(case, metric)


def contribution(function: Callable[[np.ndarray, np.ndarray], float]) -> Reading:
    return lambda world, case, _metric: function(*reader.patch_truth(case, world.contributions, 6))


def gap_specific(world: World, case: Case, metric: Any) -> float:
    def kind(item: Any) -> str:
        return f"{item.same} {item.kind}" if hasattr(item, "same") else item.label

    def persons(item: Any) -> set[str]:
        return {face.identity for face in item.faces}

    others = reader.next_on_the_circle(case.item, world.dataset.items(), persons, kind, metric.others)
    return reader.gap_specific(case, [world.case(item) for item in others], metric)


def inpainting_game(_world: World, case: Case, metric: Any) -> float:
    non_mate, inside = pixels(case.item.others["non-mate"]), case.item.truth["inpainted"]()[1] >= 0.5
    return reader.inpainting_game(case, non_mate, inside, metric)


def part_swap(world: World, case: Case, metric: Any) -> float:
    return reader.part_swap(case, part_masks(world.model.size, metric.chosen, world.dataset.aligned_landmarks))


def region_shapley(_world: World, case: Case, metric: Any) -> float:
    widths = 0.08 * min(case.side) * 2.0 ** np.linspace(-1, 1, metric.fills)
    return reader.region_shapley(case, [np.clip(reader.blur(case.image, w), 0, 1) for w in widths], metric.grid)


def optimum_share(_world: World, case: Case, metric: Any) -> float:
    return reader.optimum_share(case, metric.grid)


def out_of_set_shift(world: World, case: Case, _metric: Any) -> float:
    beyond = world.dataset.out_of_set()
    assert beyond is not None
    return reader.out_of_set_shift(case, [world.case(item) for item in beyond.items()])


READINGS: dict[str, Reading] = {
    **{m.id: simple(reader.curve_metric) for m in METRICS if m.id.startswith(CURVES) and m.id != "gap-specific@1"},
    "confidence-drop@1": simple(reader.top_share),
    "retention@1": simple(reader.top_share),
    "average-drop@1": simple(reader.average_drop),
    "average-increase@1": simple(reader.average_increase),
    "road@1": simple(reader.road),
    "entropy@1": simple(reader.entropy),
    "histogram-entropy@1": simple(reader.histogram_entropy),
    "sparseness@1": simple(reader.sparseness),
    "pointing-game@1": simple(reader.pointing_game),
    "relevance-mass@1": simple(reader.relevance_mass),
    "relevance-rank@1": simple(reader.relevance_rank),
    "localisation-auc@1": simple(reader.localisation_auc),
    "contribution-correlation@1": contribution(reader.contribution_correlation),
    "contribution-error@1": contribution(reader.contribution_error),
    "noise-stability@1": simple(reader.noise_stability),
    "geometry@1": simple(reader.geometry),
    "max-sensitivity@1": simple(reader.max_sensitivity),
    "degradation@1": simple(reader.degradation),
    "out-of-set-shift@1": out_of_set_shift,
    "randomisation@1": lambda world, case, metric: reader.randomisation(case, world.networks(metric.steps)),
    "randomised-network@1": lambda world, case, _: reader.randomisation(case, world.networks(1)),
    "disconnected@1": simple(reader.disconnected),
    "own-class@1": simple(reader.own_class),
    "patch-replacement@1": simple(reader.patch_replacement),
    "inpainting-game@1": inpainting_game,
    "region-shapley@1": region_shapley,
    "gap-specific@1": gap_specific,
    "optimum-share@1": optimum_share,
    "part-swap@1": part_swap,
}
# Readings of their own, below.
APART = {"training-stability@1", "completeness@1", "cost@1"}
# What is read on these samples only: the exact second output is the classifier's, and strangers of regions are chosen
# by the network.
ONLY = {"region-shapley@1": ("pad",), "out-of-set-shift@1": ("pad",)}
PLACES = {"pad": (1, 3), "verification": (0, 1)}


def judged(metric: Metric) -> Iterator[tuple[str, int]]:
    """The samples that a metric is read on: two attacks; a genuine pair and an impostor pair."""
    for task, places in PLACES.items():
        if task not in metric.protocol.tasks or task not in ONLY.get(metric.id, (task,)):
            continue
        if "contributions" in metric.protocol.needs and task != "pad":
            continue
        side = judged_by(metric.judged_on, task)  # type: ignore[arg-type]
        for place in places[: 1 if task == "pad" else 2]:
            if task == "pad" or side in ("all", "genuine" if place == 0 else "impostor"):
                yield task, place


def test_every_protocol_is_read() -> None:
    assert set(READINGS) | APART == {metric.id for metric in METRICS}


@pytest.mark.parametrize("metric", [m for m in METRICS if m.id in READINGS], ids=lambda m: m.id)
def test_a_reader_of_the_page_gets_the_same_number(metric: Metric, worlds: dict[str, World]) -> None:
    metric = on_example(metric)
    explainer, read = Occluded(), 0
    for task, place in judged(metric):
        world = worlds[task]
        samples = world.samples(place)
        scores = metric.score(world.model, samples, explainer.explain(world.model, samples), explainer)
        got = scores.values[""]
        if np.isnan(got[0]):
            continue  # no value, by the page's special cases; another sample has one
        expected = READINGS[metric.id](world, world.case(samples.items[0]), metric)
        assert got[0] == pytest.approx(expected, abs=2e-5), (task, place)
        read += 1
    assert read


@pytest.mark.parametrize("name", ["confidence-drop@1", "retention@1"])
def test_the_control_s_shift_is_read_too(name: str, worlds: dict[str, World]) -> None:
    metric = next(m for m in METRICS if m.id == name)
    world = worlds["pad"]
    samples = world.samples(1)
    got = metric.score(world.model, samples, Occluded().explain(world.model, samples)).values["control"]
    expected = reader.top_share_control(world.case(samples.items[0]), metric)
    assert got[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("fill", ["blur", "black", "mean", "rise", "stranger", "partner"])
def test_every_fill_is_read(fill: str, worlds: dict[str, World]) -> None:
    world = worlds["verification"]
    samples = world.samples(0)
    case = world.case(samples.items[0])
    if fill == "mean":
        expected = np.broadcast_to(case.image.mean(axis=(1, 2), keepdims=True), case.image.shape)
    elif fill == "rise":
        impulse = np.zeros((11, 11))
        impulse[5, 5] = 1
        kernel = reader.ndimage.gaussian_filter(impulse, 5)
        mean = np.array(world.model.card.input.mean).reshape(-1, 1, 1)
        centred = case.image - mean
        rows = [reader.ndimage.correlate(c.astype(np.float64), kernel, mode="constant") for c in centred]
        expected = mean + np.stack(rows)
    else:
        expected = reader.fill_of(case, fill)
    np.testing.assert_allclose(fill_images(world.model, samples, fill)[0, 0].numpy(), expected, atol=2e-6)


def test_training_stability_is_read(worlds: dict[str, World]) -> None:
    world = worlds["pad"]
    samples = world.samples(1)
    base = Occluded().explain(world.model, samples).relevance
    assert base is not None
    runs = [base, base.flip(-1), base.abs().sqrt()]
    metric = next(m for m in METRICS if m.id == "training-stability@1")
    got = metric.score_family({f"run-{k}": Maps(relevance=m) for k, m in enumerate(runs)}, samples).values[""]
    assert got[0] == pytest.approx(reader.training_stability([m[0].numpy() for m in runs]), abs=1e-6)


def test_completeness_and_cost_are_read(worlds: dict[str, World]) -> None:
    world = worlds["pad"]
    samples = world.samples(1)
    by_id = {m.id: m for m in METRICS}
    explainer = Summing(0.9)
    maps = explainer.explain(world.model, samples)
    assert maps.relevance is not None
    case = world.case(samples.items[0])
    rise = float(world.outputs(case.image[None])[0, case.chosen])
    expected = abs(float(maps.relevance[0].double().sum()) - rise) / abs(rise)
    got = by_id["completeness@1"].score(world.model, samples, maps, explainer).values[""]
    assert got[0] == pytest.approx(expected, abs=1e-6)
    assert got[0] == pytest.approx(0.1, abs=1e-3)
    spent = Maps(relevance=maps.relevance, cost=Cost(2.5, 37, 0))
    cost = by_id["cost@1"].score(world.model, samples, spent).values
    assert (cost[""][0], cost["forward"][0], cost["backward"][0]) == (2.5, 37, 0)
