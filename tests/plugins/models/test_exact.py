"""The mechanism-exact networks: what they say of themselves is true of the committed files.

Sums, independence of patches and error rates are computed here from ONNX Runtime's outputs alone; Shapley values by
their definition, over all coalitions.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from itertools import combinations
from math import factorial

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from scipy.stats import binom
from sklearn.metrics import roc_auc_score, roc_curve

from faithface.card import load_card
from faithface.model import contributions as mechanism
from faithface.model import open_model
from faithface_plugins import models
from faithface_plugins.datasets import planted
from training import evaluate_exact, evaluate_zoo, export, loops, train_exact, train_zoo
from training.exact_networks import EXACT, GAIN, RULES, TAG_CORNERS, TagRule, tag_shapley, tag_template, tag_value
from training.networks import fold_norms
from training.recipes import EXACT_RECIPES, RECIPES

NAMES = sorted(recipe.name for recipe in EXACT_RECIPES)
TRAINED = [recipe for recipe in EXACT_RECIPES if recipe.epochs]
VERIFIERS = [recipe.name for recipe in TRAINED if recipe.task == "verification"]
BAGS = [recipe.name for recipe in TRAINED if recipe.task != "verification"]
BARS = {"exact-verifier-28": 0.03, "exact-verifier-16": 0.05}
HELD_OUT = 2


def card_of(name):
    return next(card for card in models.EXACT_CARDS if card.name == name)


def run(name, images):
    """Both outputs for uint8 images N×112×112×3 by ONNX Runtime, with the card's normalisation written out."""
    session = onnxruntime.InferenceSession(str(card_of(name).path), providers=["CPUExecutionProvider"])
    pixels = ((images.astype(np.float32) / 255 - 0.5) / 0.5).transpose(0, 3, 1, 2)
    return session.run(None, {"image": pixels})


@pytest.fixture(scope="module")
def people():
    """120 images of 40 people that nothing was trained on."""
    return planted.verification_arrays(HELD_OUT, 40, 3, threads=1)


@pytest.fixture(scope="module")
def thousand():
    """250 planted images per task, as they are, mirrored, in negative and rolled by half: 1000."""
    made = {}
    for task in ("pad", "synthetic"):
        held = planted.planted_arrays(task, HELD_OUT, 250, threads=1)
        images = held.images
        made[task] = (
            np.concatenate([images, images[:, :, ::-1], 255 - images, np.roll(images, 56, axis=2)]),
            held.labels,
        )
    return made


# --- files and cards


def test_every_recipe_has_its_card_and_the_registry_lists_the_zoo_first():
    assert sorted(card.name for card in models.EXACT_CARDS) == NAMES
    assert [card.name for card in models.CARDS] == [c.name for c in (*models.ZOO_CARDS, *models.EXACT_CARDS)]
    assert not set(NAMES) & {recipe.name for recipe in RECIPES}


@pytest.mark.parametrize("name", NAMES)
def test_the_file_is_the_card_s_small_and_has_both_outputs(name):
    card = card_of(name)
    assert hashlib.sha256(card.path.read_bytes()).hexdigest() == card.sha256
    assert card.path.stat().st_size < 600_000
    model = onnx.load(card.path)
    onnx.checker.check_model(model, full_check=True)
    assert [value.name for value in model.graph.output] == [card.output.name, "contributions"]
    assert len({node.name for node in model.graph.node}) == len(model.graph.node)
    assert not any(node.metadata_props or node.doc_string for node in model.graph.node)
    assert "training.train_exact" in card.source


@pytest.mark.parametrize("name", NAMES)
def test_the_twin_is_derived_and_cams_have_a_layer_of_at_least_7(name):
    model = open_model(card_of(name))
    assert model.twin.network.output_names == [model.card.output.name]
    assert min(model.twin.find_layer(model.card.explain.layer).grid) >= 7


# --- exactness


@pytest.mark.parametrize("name", VERIFIERS)
def test_contributions_of_a_thousand_pairs_sum_to_their_cosines(name, people):
    embeddings, rows = (out.astype(np.float64) for out in run(name, people[0]))
    first, second = np.random.default_rng(0).integers(0, len(embeddings), (2, 1000))
    norms = np.linalg.norm(embeddings, axis=1)
    cosines = (embeddings[first] * embeddings[second]).sum(axis=1) / (norms[first] * norms[second])
    each = (rows[first] * rows[second]).sum(axis=2)
    grid = card_of(name).contributions.grid
    assert each.shape == (1000, grid[0] * grid[1])
    assert np.abs(each.sum(axis=1) - cosines).max() < 1e-5
    assert cosines.std() > 0.1


@pytest.mark.parametrize("name", VERIFIERS)
def test_each_patch_is_a_unit_vector_times_the_root_of_a_weight_that_no_image_changes(name, people):
    _, rows = run(name, people[0])
    weights = np.square(rows.astype(np.float64)).sum(axis=2)
    np.testing.assert_allclose(weights, np.broadcast_to(weights[:1], weights.shape), atol=1e-6)
    assert weights[0].sum() == pytest.approx(1, abs=1e-5)
    assert weights.min() > 0


@pytest.mark.parametrize("name", BAGS)
def test_contributions_of_a_thousand_images_sum_to_the_difference_of_the_logits(name, thousand):
    images, _ = thousand["pad" if "pad" in name else "synthetic"]
    logits, each = (out.astype(np.float64) for out in run(name, images))
    assert len(each) == 1000
    assert np.abs(each.sum(axis=1) - (logits[:, 1] - logits[:, 0])).max() < 1e-5
    assert (logits[:, 1] - logits[:, 0]).std() > 0.1


@pytest.mark.parametrize("name", NAMES)
def test_altering_a_patch_changes_no_other_patch_s_terms_at_all(name):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (3, 112, 112, 3), dtype=np.uint8)
    for corner in TAG_CORNERS:
        planted.stamp_tag(images, np.array([True, False, True]), corner)
    declared = card_of(name).contributions
    side = 112 // declared.grid[1]
    _, clean = run(name, images)
    moved = 0
    for patch in range(declared.patches):
        y, x = (side * place for place in divmod(patch, declared.grid[1]))
        altered = images.copy()
        altered[:, y : y + side, x : x + side] = rng.integers(0, 256, (3, side, side, 3), dtype=np.uint8)
        _, after = run(name, altered)
        moved += not np.array_equal(after[:, patch], clean[:, patch])
        others = [p for p in range(declared.patches) if p != patch]
        if patch in declared.interacting:
            others = [p for p in others if p not in declared.interacting]
        np.testing.assert_array_equal(after[:, others], clean[:, others])
    # A tag's detector looks at its own patch; of all others every patch has a term of its own.
    assert moved == {"exact-tag": max(1, len(declared.interacting))}.get(name[:9], declared.patches)


# --- what the networks can do


@pytest.mark.parametrize("name", VERIFIERS)
def test_verifiers_do_as_well_on_other_pairs_as_was_measured(name, people):
    """The bar is for the pairs that ``training.evaluate_exact`` measures; 120 genuine pairs say less than these 600.

    So the errors here, at the equal-error point, must not be more than the measured rate makes of so many pairs.
    """
    images, person = people
    embeddings, _ = run(name, images)
    upper = np.triu_indices(len(person), 1)
    same = (person[:, None] == person[None, :])[upper]
    false_accept, true_accept, _ = roc_curve(same, (embeddings @ embeddings.T)[upper])
    at = np.argmin(np.abs(false_accept - (1 - true_accept)))
    genuine = int(same.sum())
    assert genuine == 120
    rejected = round((1 - true_accept[at]) * genuine)
    measured = json.loads((evaluate_exact.FOLDER / evaluate_zoo.MEASURED).read_text(encoding="utf-8"))[name]["eer"]
    assert binom.sf(rejected - 1, genuine, measured) > 0.01
    assert measured <= BARS[name.rpartition("-")[0]]


@pytest.mark.parametrize("name", BAGS)
def test_bags_of_patches_tell_the_classes_apart(name, thousand):
    images, labels = thousand["pad" if "pad" in name else "synthetic"]
    _, each = run(name, images[:250])
    assert roc_auc_score(labels, each.sum(axis=1)) >= 0.97


@pytest.mark.parametrize("rule", RULES)
def test_tags_are_judged_by_their_rule_on_every_face(rule, thousand):
    images = thousand["pad"][0][:40]
    for one in (False, True):
        for two in (False, True):
            made = evaluate_exact.stamped(images, np.tile([one, two], (len(images), 1)))
            logits, _ = run(f"exact-tag-{rule}-0", made)
            expected = {"one": one, "and": one and two, "or": one or two, "xor": one ^ two}[rule]
            # The match is a float32 sum of 768 products, right to about 1e-6; the rule's slope multiplies that.
            rounding = 1e-6 * TagRule.SHARPNESS * GAIN
            np.testing.assert_allclose(logits[:, 1] - logits[:, 0], 4 if expected else -4, rtol=0, atol=rounding)


# --- Shapley values in closed form


@pytest.mark.parametrize(
    ("rule", "tags", "expected"),
    [
        ("one", (1, 1), (1, 0)),
        ("one", (0, 1), (0, 0)),
        ("and", (1, 1), (0.5, 0.5)),
        ("and", (1, 0), (0, 0)),
        ("or", (1, 1), (0.5, 0.5)),
        ("or", (1, 0), (1, 0)),
        ("or", (0, 1), (0, 1)),
        ("xor", (1, 1), (0, 0)),
        ("xor", (1, 0), (1, 0)),
        ("xor", (0, 0), (0, 0)),
    ],
)
def test_the_shares_of_printed_tags_are_those_of_the_textbook(rule, tags, expected):
    shares = tag_shapley(rule, *(torch.tensor([float(tag)]) for tag in tags))
    assert tuple(float(share) for share in shares) == expected


def brute_force(value, players):
    """Shapley values by definition: ``value(set of players) -> float``."""
    shares = []
    for player in players:
        others = [p for p in players if p != player]
        total = 0.0
        for size in range(len(others) + 1):
            weight = factorial(size) * factorial(len(players) - size - 1) / factorial(len(players))
            for chosen in combinations(others, size):
                total += weight * (value({*chosen, player}) - value(set(chosen)))
        shares.append(total)
    return np.array(shares)


@pytest.mark.parametrize("rule", RULES)
def test_the_closed_form_is_the_definition_for_tags_of_any_strength(rule):
    for one, two in np.random.default_rng(0).random((5, 2)) * 2:

        def value(coalition, one=one, two=two):
            there = (torch.tensor(v if at in coalition else 0.0) for at, v in enumerate((one, two)))
            return float(tag_value(rule, *there))

        got = [float(share) for share in tag_shapley(rule, torch.tensor(one), torch.tensor(two))]
        np.testing.assert_allclose(got, brute_force(value, [0, 1]), atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("fill", ["no tag", "faint tags"])
def test_the_file_s_contributions_are_shapley_values_over_patches(rule, fill, people):
    """Six patches play, both tags' among them, on a face with tags of 90 and 95 % of their contrast."""
    name = f"exact-tag-{rule}-0"
    rng = np.random.default_rng(1)
    plain, background = people[0][:1], people[0][3:4]

    def printed(images, strengths):
        made = images.copy()
        for corner, strength in zip(TAG_CORNERS, strengths, strict=True):
            mask, full = planted.tag_mask(corner), planted.stamp_tag(np.zeros_like(images), np.array([True]), corner)
            grey = full[:, mask].mean(axis=1, keepdims=True)
            made[:, mask] = np.round(grey + strength * (full[:, mask] - grey)).astype(np.uint8)
        return made

    image = printed(plain, (0.9, 0.95))
    filled = background if fill == "no tag" else printed(background, (0.8, 0.87))
    tags = [tag_template(corner)[1] for corner in TAG_CORNERS]
    players = [*tags, *rng.choice(np.setdiff1d(np.arange(49), tags), 4, replace=False)]

    def value(coalition):
        mixed = image.copy()
        for patch in set(players) - coalition:
            y, x = (16 * place for place in divmod(int(patch), 7))
            mixed[:, y : y + 16, x : x + 16] = filled[:, y : y + 16, x : x + 16]
        logits, _ = run(name, mixed)
        return float(logits[0, 1] - logits[0, 0])

    expected = brute_force(value, players)
    model = open_model(card_of(name))
    samples = evaluate_exact.images_of(model, image)
    fills = torch.from_numpy(filled).permute(0, 3, 1, 2)[:, None].float() / 255
    beyond = mechanism.contributions_beyond_fill(model, samples, fills)[0, 0].numpy()
    np.testing.assert_allclose(beyond[players], expected, atol=1e-5)
    assert np.abs(expected).max() > 0.1
    if fill == "no tag":
        # Without a tag in the fill the file's own output says the same.
        _, each = run(name, image)
        np.testing.assert_allclose(each[0][players], expected, atol=1e-5)
        assert np.abs(np.delete(each[0], tags)).max() == 0


# --- training


@pytest.mark.parametrize("name", [recipe.name for recipe in TRAINED])
def test_one_step_on_eight_pictures_moves_the_weights_and_the_file_is_exact_already(name, tmp_path):
    recipe = replace(next(r for r in TRAINED if r.name == name), epochs=1, batch=8)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 112, 112, 3), dtype=np.uint8), np.arange(8) % 2
    torch.manual_seed(1000 + recipe.run)
    before = EXACT[recipe.network]().state_dict()
    said = []
    if recipe.task == "verification":
        network = loops.train_verifier(recipe, images, labels, report=said.append)
    else:
        network = loops.train_classifier(recipe, images, labels, np.zeros((8, 14, 14)), report=said.append)
    assert any("step 1/1" in line for line in said)
    moved = [key for key, value in network.state_dict().items() if not torch.equal(value, before[key])]
    assert {"body.first.conv.weight", "head.weight"} <= set(moved)
    assert ("weight" in moved) == (recipe.task == "verification")
    model = open_model(load_card(export.export(network, recipe, tmp_path)))
    if recipe.task == "verification":
        samples = evaluate_exact.pairs_of(model, images[:4], images[4:], labels[:4] == 1)
    else:
        samples = evaluate_exact.images_of(model, images)
    assert evaluate_exact.sum_error(model, samples) < 1e-5


@pytest.mark.parametrize("network", ["additive-16", "bag-28"])
def test_folding_batch_norms_changes_no_output(network):
    torch.manual_seed(0)
    built = EXACT[network]()
    images = torch.rand(4, 3, 112, 112)
    with torch.no_grad():
        built.train()(images)
        before = built.eval()(images)
        after = fold_norms(built)(images)
    for one, other in zip(after, before, strict=True):
        np.testing.assert_allclose(one, other, atol=1e-4, rtol=1e-3)


def test_a_guided_recipe_needs_a_network_with_a_map():
    recipe = replace(next(r for r in TRAINED if r.task == "pad"), guidance=0.5)
    with pytest.raises(ValueError, match="CueNet"):
        loops.train_classifier(recipe, np.zeros((2, 112, 112, 3), np.uint8), np.arange(2), np.zeros((2, 14, 14)))


def test_the_command_writes_the_tags_as_committed(tmp_path, capsys):
    arguments = ["--only", "exact-tag-xor", "--jobs", "1", "--out", str(tmp_path), "--cache", str(tmp_path)]
    assert train_exact.main(arguments) == 0
    assert (tmp_path / "exact-tag-xor-0.onnx").read_bytes() == card_of("exact-tag-xor-0").path.read_bytes()
    assert load_card(tmp_path / "exact-tag-xor-0.toml").contributions == card_of("exact-tag-xor-0").contributions
    assert train_exact.main(["--only", "nothing-like-it"]) == 2
    assert "exact-verifier-28-0" in capsys.readouterr().out
    assert train_zoo.chosen(["nothing-like-it"], [], EXACT_RECIPES) == []


# --- the page


def test_the_tables_in_the_docs_are_those_that_the_command_writes():
    page = evaluate_exact.PAGE.read_text(encoding="utf-8")
    begin, end = evaluate_exact.BEGIN, evaluate_exact.END
    assert evaluate_zoo.with_table(page, evaluate_exact.render(), begin, end) == page


def test_the_figures_are_of_the_committed_files_and_keep_the_promises():
    measured = json.loads((evaluate_exact.FOLDER / evaluate_zoo.MEASURED).read_text(encoding="utf-8"))
    assert sorted(measured) == NAMES
    for card in models.EXACT_CARDS:
        figures = measured[card.name]
        assert figures["sha256"] == card.sha256
        assert figures["sum_error"] < 1e-5
        assert figures["megaflops"] < 60
        assert figures.get("pairs", figures.get("images")) >= 1000
        # Of two tags each one's share depends on the other: that is what the card declares.
        assert (figures["cross_influence"] == 0) or card.contributions.interacting
        if card.name in VERIFIERS:
            assert figures["eer"] <= BARS[card.family]
        elif card.name in BAGS:
            assert figures["auc"] >= 0.97
        else:
            assert figures["accuracy"] == 1
            assert figures["shapley_error"] < 1e-5
