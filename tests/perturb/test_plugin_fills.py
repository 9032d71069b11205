"""Fills that a plugin brings: in curves, in metrics by name, in ``evaluate``, in records, and what is refused."""

from __future__ import annotations

import dataclasses
import json
import pickle
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

import faithface
from faithface import hashing
from faithface.contract import Cache, FaceModel, Fill, Filling, Removal, Samples
from faithface.errors import NotApplicable, RunError, UsageError
from faithface.hashing import fingerprint_of
from faithface.model import open_model
from faithface.perturb import FILLS, curves, fill_images, inpainted
from faithface.perturb.fills import check_fill
from faithface.perturb.linear import impute_linear
from faithface.plugin_files import VARIABLE, add_plugin_files
from faithface.plugins import Registry, load_registry
from tests.metrics.toy_explainers import Brightness
from tests.perturb.sets import InMemory, class_set, load, pair_set
from tests.support.networks import tiny


@dataclass(frozen=True)
class Blurred(Fill):
    """The builtin ``blur``, written again with scipy."""

    strength: float = 0.08
    filling = Filling("blurred", source="scipy")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        from scipy import ndimage

        sigma = self.strength * min(removal.images.shape[-2:])
        images = removal.images.double().numpy()
        made = [[ndimage.gaussian_filter(c, sigma, mode="reflect") for c in image] for image in images]
        return torch.from_numpy(np.array(made)).float().clamp(0, 1)


@dataclass(frozen=True)
class Imputed(Fill):
    """The builtin ``linear``, as a plugin would write it."""

    filling = Filling("imputed", sees_mask=True, seeded=True, source="ROAD")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        purpose = "linear" + ("-b" if removal.side else "")
        made = [
            impute_linear(image.numpy(), mask.numpy(), removal.samples.rng(row, purpose))
            for image, mask, row in zip(removal.images, removal.removed, removal.rows, strict=True)
        ]
        return torch.from_numpy(np.stack(made))


@dataclass(frozen=True)
class Says(Fill):
    """Returns what it is told to, wherever that is no image."""

    what: str = "nan"
    filling = Filling("says")

    def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
        images = removal.images.clone()
        return {"nan": images / 0 * 0, "bright": images * 255, "double": images.double(), "narrow": images[..., 1:]}[
            self.what
        ]


@pytest.fixture(scope="module")
def classifier(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return open_model(tiny("cnn", "pad", tmp_path_factory.mktemp("fills")))


@pytest.fixture(scope="module")
def verifier(tmp_path_factory: pytest.TempPathFactory) -> FaceModel:
    return open_model(tiny("cnn", "verification", tmp_path_factory.mktemp("fills")))


def curves_of(model: FaceModel, samples: Samples, fill: str | Fill, **how: object) -> dict[str, np.ndarray]:
    fresh = dataclasses.replace(samples, cache=Cache())
    kind = "similarity" if samples.are_pairs else "relevance"
    maps = Brightness().explain(model, fresh)
    return dict(curves(model, fresh, maps, kind, fill, grid=4, points=5, **how).scores)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mine", "builtin"), [(Blurred(), "blur"), (Imputed(), "linear")], ids=["image", "mask"])
@pytest.mark.parametrize("alter", ["probe", "both"])
def test_a_builtin_fill_written_again_as_a_plugin_gives_its_numbers(
    verifier: FaceModel, mine: Fill, builtin: str, alter: str
) -> None:
    samples = load(verifier, pair_set(), threshold=0.5)
    theirs, ours = (curves_of(verifier, samples, fill, alter=alter) for fill in (builtin, mine))
    for direction in ("deletion", "insertion"):
        np.testing.assert_allclose(ours[direction], theirs[direction], atol=1e-6)
    other = curves_of(verifier, samples, "black", alter=alter)
    assert np.abs(other["deletion"] - ours["deletion"]).max() > 1e-3


def test_an_image_fill_is_asked_once_for_each_batch_and_shared(classifier: FaceModel) -> None:
    samples = load(classifier, class_set())
    assert fill_images(classifier, samples, Blurred()) is fill_images(classifier, samples, Blurred())
    assert fill_images(classifier, samples, Blurred(0.2)) is not fill_images(classifier, samples, Blurred())
    np.testing.assert_allclose(
        fill_images(classifier, samples, Blurred()).numpy(), fill_images(classifier, samples, "blur").numpy(), atol=1e-6
    )


def test_pixels_that_are_not_removed_keep_their_values_whatever_the_fill_returns(classifier: FaceModel) -> None:
    @dataclass(frozen=True)
    class White(Fill):
        """All white."""

        filling = Filling("white", sees_mask=True)

        def fill(self, model: FaceModel, removal: Removal) -> torch.Tensor:
            return torch.ones_like(removal.images)

    samples = load(classifier, class_set())
    mask = np.zeros((2, *classifier.size), bool)
    mask[0, 3:9, 2:5] = True
    made = inpainted(classifier, samples, White(), 1, mask).numpy()
    expected = np.stack([np.where(m, 1.0, samples.images[1].numpy()) for m in mask])
    np.testing.assert_array_equal(made, expected.astype(np.float32))


@pytest.mark.parametrize(
    ("what", "words"),
    [
        ("nan", "values that are not finite"),
        ("bright", r"expected \[0, 1\]: clamp them"),
        ("double", "float64 .* expected float32"),
        ("narrow", r"expected float32 \("),
    ],
)
def test_what_is_no_image_is_an_error_that_names_the_fill(classifier: FaceModel, what: str, words: str) -> None:
    samples = load(classifier, class_set())
    with pytest.raises(RunError, match=rf'fill "says.*" returned {words}|fill "says.*" returned .*{words}'):
        fill_images(classifier, samples, Says(what))


def test_a_fill_that_cannot_be_used_is_refused_before_the_run(classifier: FaceModel) -> None:
    @dataclass(frozen=True)
    class ForPairs(Blurred):
        filling = Filling("for-pairs", tasks=frozenset({"verification"}), aligned=True)

    with pytest.raises(NotApplicable, match='fill "for-pairs" is for verification only'):
        check_fill(ForPairs(), class_set(), pairs=False)
    with pytest.raises(NotApplicable, match="needs aligned faces"):
        check_fill(ForPairs(), InMemory(is_aligned=False), pairs=True)
    check_fill(ForPairs(), pair_set(), pairs=True)
    for one in (Imputed(), "linear"):
        with pytest.raises(NotApplicable, match="depends on which pixels are removed"):
            check_fill(one, class_set(), pairs=False, masks=False)
    with pytest.raises(UsageError, match="depends on the mask"):
        fill_images(classifier, load(classifier, class_set()), Imputed())


# --- by name

PLUGIN = """
from dataclasses import dataclass
import torch
import faithface

@dataclass(frozen=True)
class Flat(faithface.Fill):
    '''One grey.'''
    level: float = 0.5
    filling = faithface.Filling("flat", source="a test")

    def fill(self, model, removal):
        return torch.full_like(removal.images, self.level)

@faithface.hookimpl
def faithface_fills():
    return [Flat()]
"""


@pytest.fixture
def plugin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv(VARIABLE, "")
    path = tmp_path / "flat_fill.py"
    path.write_text(PLUGIN)
    yield path
    sys.modules.pop("flat_fill", None)


def registry_of(path: Path, text: str = PLUGIN) -> Registry:
    path.write_text(text)
    sys.modules.pop("flat_fill", None)
    add_plugin_files([path])
    return load_registry()


def test_a_metric_takes_a_fill_by_name_with_its_parameters(plugin: Path) -> None:
    registry = registry_of(plugin)
    found = registry.metric("gap@1(fill=flat(level=0.25),grid=4)")
    assert found.spec == "gap@1(fill=flat(level=0.25),grid=4)"
    assert found.object.fill.level == 0.25  # type: ignore[attr-defined]
    assert found.parts["fill"].entry_point.endswith("flat_fill.py")
    assert registry.metric(found.spec).object == found.object
    assert registry.metric("gap@1(fill=flat(level=0.5))").spec == "gap@1(fill=flat)"
    assert pickle.loads(pickle.dumps(found.object)) == found.object
    assert registry.metric("gap@1").parts == {}
    with pytest.raises(UsageError, match='fill "flatt" is not known; did you mean "flat"'):
        registry.metric("gap@1(fill=flatt)")
    with pytest.raises(UsageError, match='fill "flat" has no parameter "levle"; did you mean "level"'):
        registry.metric("gap@1(fill=flat(levle=1))")
    with pytest.raises(UsageError, match="expected one of: auto, stranger"):
        registry.metric("region-shapley@1(fill=flat)")


def test_a_change_of_the_fill_s_code_is_a_change_of_the_metric_s(plugin: Path) -> None:
    def fingerprint(text: str) -> str:
        for remembered in (hashing._fingerprint, hashing.installed):
            remembered.cache_clear()  # a process reads a module's source once
        found = registry_of(plugin, text).metric("gap@1(fill=flat)")
        return fingerprint_of(found.object, found.provenance.distribution)

    first = fingerprint(PLUGIN)
    assert first == fingerprint(PLUGIN.replace("One grey", "A grey"))
    assert first != fingerprint(PLUGIN.replace("torch.full_like(removal.images, self.level)", "removal.images * 0"))
    plain = load_registry().metric("gap@1")
    assert first != fingerprint_of(plain.object, plain.provenance.distribution)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('"flat"', '"blur"', 'fill "blur" of .* has the name of a builtin fill'),
        ("[Flat()]", "[Flat(0.1)]", "parameters that are not the defaults of Flat"),
        ("level: float = 0.5", "level: float", "give each parameter of Flat a default"),
        ("[Flat()]", "[Flat]", r"return an instance: Flat\(\)"),
    ],
)
def test_a_fill_that_records_could_not_name_is_refused(plugin: Path, old: str, new: str, words: str) -> None:
    text = PLUGIN.replace(old, new)
    if "level: float\n" in text:
        text = text.replace("[Flat()]", "[Flat(0.1)]")
    with pytest.raises(UsageError, match=words):
        registry_of(plugin, text)


def test_evaluate_and_the_record_name_the_fill_and_where_it_came_from(plugin: Path, tmp_path: Path) -> None:
    registry = registry_of(plugin)
    names = ["gap@1(fill=flat,grid=4,points=5)", "gap@1(fill=mean,grid=4,points=5)"]
    result = faithface.evaluate(
        "planted-pad-guided-0", "planted-pad", ["centre-prior"], names, limit=4, registry=registry, out=tmp_path / "run"
    )
    assert not result.failures
    flat, mean = (one for one in result.records[0].record.numbers)
    assert (flat.protocol, mean.protocol) == tuple(names)
    assert flat.number is not None
    assert flat.number != mean.number
    assert flat.parameters["fill"] == "flat"
    assert flat.parts["fill"].entry_point.endswith("flat_fill.py")
    assert flat.parts["fill"].fingerprint == fingerprint_of(registry.fills["flat"].object)
    assert mean.parts == {}
    (path,) = (tmp_path / "run").rglob("centre-prior*.json")
    told = json.loads(path.read_text())["numbers"]
    assert ["parts" in number for number in told] == [True, False]
    by_hand = faithface.evaluate(
        "planted-pad-guided-0",
        "planted-pad",
        ["centre-prior"],
        [dataclasses.replace(registry.metric(names[0]).object, fill=registry.fills["flat"].object)],  # type: ignore[call-arg]
        limit=4,
    )
    assert by_hand.records[0].record.numbers[0].protocol == names[0]
    assert by_hand.records[0].record.numbers[0].number == flat.number


def test_names_of_builtin_fills_are_reserved() -> None:
    from faithface.contract.fill import BUILTIN

    assert set(FILLS) == BUILTIN
