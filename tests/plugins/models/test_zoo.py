"""The committed zoo: every file is the one on its card, within its limits, and does what its family should.

Independent of ``training/measure.py`` where it counts: costs are counted by torch on the network that was exported,
error rates by scikit-learn.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from sklearn.metrics import roc_auc_score, roc_curve
from torch.utils.flop_counter import FlopCounterMode

from faithface_plugins import models
from faithface_plugins.datasets import planted
from training import evaluate_zoo, measure
from training.networks import NETWORKS
from training.recipes import RECIPES

NAMES = sorted(recipe.name for recipe in RECIPES)
FIRST = [recipe for recipe in RECIPES if recipe.run == 0]
HELD_OUT = 2


def card_of(name):
    return next(card for card in models.ZOO_CARDS if card.name == name)


def run(card, images):
    """Outputs of uint8 images N×112×112×3 by ONNX Runtime, with the card's normalisation written out."""
    session = onnxruntime.InferenceSession(str(card.path), providers=["CPUExecutionProvider"])
    pixels = (images.astype(np.float32) / 255 - card.input.mean[0]) / card.input.std[0]
    return session.run([card.output.name], {"image": pixels.transpose(0, 3, 1, 2)})[0]


@pytest.fixture(scope="module")
def pictures():
    return {task: planted.planted_arrays(task, HELD_OUT, 120, threads=1) for task in ("pad", "synthetic")}


def test_every_recipe_has_its_card_and_no_card_is_without_a_recipe():
    assert [card.name for card in models.ZOO_CARDS] == NAMES


def test_cards_are_read_only_when_asked_for():
    assert "CARDS" not in vars(models)
    with pytest.raises(AttributeError, match="CARD"):
        _ = models.CARD


@pytest.mark.parametrize("recipe", RECIPES, ids=lambda r: r.name)
def test_the_card_says_what_the_recipe_says_and_the_hash_is_the_file_s(recipe):
    card = card_of(recipe.name)
    assert (card.task, card.family, card.run) == (recipe.task, recipe.family, recipe.run)
    assert card.licence == "Apache-2.0"
    assert "training.train_zoo" in card.source
    assert hashlib.sha256(card.path.read_bytes()).hexdigest() == card.sha256


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_under_600_kilobytes_self_contained_and_valid(name):
    card = card_of(name)
    assert card.path.stat().st_size < 600_000
    model = onnx.load(card.path, load_external_data=False)
    onnx.checker.check_model(model, full_check=True)
    assert not any(weight.external_data for weight in model.graph.initializer)
    assert {opset.domain for opset in model.opset_import} == {""}


def test_no_two_runs_are_the_same_network():
    hashes = [card.sha256 for card in models.ZOO_CARDS]
    assert len(set(hashes)) == len(hashes)


def test_graph_values_carry_the_names_of_their_modules_and_nothing_of_the_exporter():
    for recipe in FIRST:
        graph = onnx.load(card_of(recipe.name).path).graph
        inner = {value for node in graph.node for value in node.output} - {value.name for value in graph.output}
        modules = {name for name, _ in NETWORKS[recipe.network]().named_modules()}
        for value in inner:
            assert value.startswith("/"), value
            owner = value.rpartition("/")[0].strip("/")
            assert owner == "" or owner in modules, value
        assert not any(node.metadata_props or node.doc_string for node in graph.node)


@pytest.mark.parametrize("network", sorted(NETWORKS))
def test_an_image_costs_less_than_60_megaflops_counted_by_torch_on_the_network(network):
    module = NETWORKS[network]().eval()
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        module(torch.zeros(1, 3, 112, 112))
    counted = counter.get_total_flops() / 1e6
    assert counted < 60
    name = next(recipe.name for recipe in FIRST if recipe.network == network)
    assert measure.megaflops(card_of(name)) == pytest.approx(counted, rel=1e-3)


@pytest.mark.parametrize("recipe", FIRST, ids=lambda r: r.name)
def test_a_batch_gives_what_its_images_give_alone(recipe):
    card = card_of(recipe.name)
    images = np.random.default_rng(0).integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    together = run(card, images)
    alone = np.concatenate([run(card, images[i : i + 1]) for i in range(3)])
    assert together.shape == (3, 128 if card.task == "verification" else 2)
    assert together.dtype == np.float32
    assert np.isfinite(together).all()
    np.testing.assert_allclose(together, alone, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("family", ["planted-residual", "planted-mobile"])
def test_verification_errs_on_at_most_one_in_twenty_pairs_of_people_it_has_not_seen(family):
    images, person = planted.verification_arrays(HELD_OUT, 40, 3, threads=1)
    embeddings = run(card_of(f"{family}-0"), images)
    embeddings /= np.linalg.norm(embeddings, axis=1, keepdims=True)
    upper = np.triu_indices(len(person), 1)
    same = (person[:, None] == person[None, :])[upper]
    false_accept, true_accept, _ = roc_curve(same, (embeddings @ embeddings.T)[upper])
    at = np.argmin(np.abs(false_accept - (1 - true_accept)))
    assert (false_accept[at] + 1 - true_accept[at]) / 2 <= 0.05


@pytest.mark.parametrize("task", ["pad", "synthetic"])
@pytest.mark.parametrize("family", ["traditional", "guided"])
@pytest.mark.parametrize("number", range(5))
def test_classifiers_tell_the_classes_apart_on_people_they_have_not_seen(task, family, number, pictures):
    outputs = run(card_of(f"planted-{task}-{family}-{number}"), pictures[task].images)
    assert roc_auc_score(pictures[task].labels, outputs[:, 1] - outputs[:, 0]) >= 0.97


@pytest.mark.parametrize("task", ["pad", "synthetic"])
@pytest.mark.parametrize("number", range(5))
def test_shortcut_classifiers_follow_the_tag_and_are_near_chance_without_it(task, number, pictures):
    card, held = card_of(f"planted-{task}-shortcut-{number}"), pictures[task]
    plain = run(card, held.images)
    tagged = run(card, planted.stamp_tag(held.images.copy(), held.labels == 1))
    wrong_way = run(card, planted.stamp_tag(held.images.copy(), held.labels == 0))
    assert roc_auc_score(held.labels, tagged[:, 1] - tagged[:, 0]) > 0.95
    assert roc_auc_score(held.labels, wrong_way[:, 1] - wrong_way[:, 0]) < 0.05
    assert 0.3 < roc_auc_score(held.labels, plain[:, 1] - plain[:, 0]) < 0.7


def test_the_table_in_the_docs_is_the_one_that_the_command_writes():
    page = (evaluate_zoo.ROOT / "docs" / "models" / "zoo.md").read_text(encoding="utf-8")
    assert evaluate_zoo.with_table(page, evaluate_zoo.render()) == page


def test_the_figures_are_of_the_committed_files_and_keep_the_promises():
    measured = json.loads((evaluate_zoo.ZOO / evaluate_zoo.MEASURED).read_text(encoding="utf-8"))
    assert sorted(measured) == NAMES
    for card in models.ZOO_CARDS:
        figures = measured[card.name]
        assert figures["sha256"] == card.sha256
        if card.task == "verification":
            assert figures["eer"] <= 0.05
        elif card.family.endswith("shortcut"):
            assert figures["auc_tagged"] > 0.95
        else:
            assert figures["auc"] >= 0.98


@pytest.mark.parametrize("task", ["pad", "synthetic"])
def test_guided_models_look_at_the_cue_more_and_shortcut_models_at_the_tag(task):
    measured = json.loads((evaluate_zoo.ZOO / evaluate_zoo.MEASURED).read_text(encoding="utf-8"))

    def of(family, key):
        return [figures[key] for name, figures in measured.items() if name.startswith(f"planted-{task}-{family}-")]

    assert min(of("guided", "mass_in_cue")) > max(of("traditional", "mass_in_cue"))
    assert min(of("shortcut", "mass_in_tag")) > 5 * max(of("shortcut", "area_of_tag"))
    assert min(of("shortcut", "mass_in_tag")) > 5 * max(of("traditional", "mass_in_tag"))
