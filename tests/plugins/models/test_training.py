"""The training code of the zoo: losses against their papers written out, recipes, data, one step on eight pictures."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from faithface.card import load_card
from faithface.tasks import equal_error_rate
from faithface_plugins.datasets import planted
from training import data, evaluate_zoo, export, loops, losses, measure, train_zoo
from training.networks import NETWORKS, CueNet, fold_norms
from training.recipes import RECIPES


def recipe_of(name):
    return next(recipe for recipe in RECIPES if recipe.name == name)


# --- losses


@pytest.mark.parametrize("margin", [0.0, 0.3])
def test_arcface_is_cross_entropy_on_the_cosine_of_the_widened_angle(margin):
    torch.manual_seed(0)
    head = losses.ArcFaceHead(6, 4, scale=10.0)
    embeddings, labels = torch.randn(5, 6), torch.tensor([0, 1, 2, 3, 0])
    expected = []
    for embedding, label in zip(embeddings, labels, strict=True):
        angles = [math.acos(float(embedding @ w / (embedding.norm() * w.norm()))) for w in head.weight.detach()]
        # Only while θ + m stays below π, which holds for these draws.
        assert angles[label] + margin < math.pi
        logits = [10 * math.cos(a + (margin if c == label else 0)) for c, a in enumerate(angles)]
        expected.append(math.log(sum(math.exp(v) for v in logits)) - logits[label])
    assert float(head(embeddings, labels, margin).detach()) == pytest.approx(float(np.mean(expected)), rel=1e-4)


def test_arcface_keeps_falling_when_the_angle_passes_pi_less_the_margin():
    head = losses.ArcFaceHead(2, 2, scale=10.0)
    with torch.no_grad():
        head.weight.copy_(torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    angles = np.linspace(2.0, math.pi - 0.01, 40)
    values = [
        float(head(torch.tensor([[math.cos(a), -math.sin(a)]], dtype=torch.float32), torch.tensor([0]), 0.4).detach())
        for a in angles
    ]
    assert np.all(np.diff(values[:20]) > 0)
    # Where the plain formula turns round, the loss must not: the worst embedding is the one on the opposite side.
    own = [v for a, v in zip(angles, values, strict=True) if a > math.pi - 0.4]
    assert own[-1] > own[0]


def test_min_max_maps_span_zero_to_one_and_a_constant_map_is_zero():
    maps = torch.stack([torch.arange(9.0).reshape(3, 3) - 4, torch.full((3, 3), 2.0)])
    scaled = losses.min_max(maps)
    np.testing.assert_allclose(scaled[0].numpy(), np.arange(9).reshape(3, 3) / 8, atol=1e-6)
    assert (scaled[1] == 0).all()


def test_guidance_is_the_mean_squared_error_over_annotated_images_only():
    rng = np.random.default_rng(0)
    cams, human = rng.random((3, 4, 4)).astype(np.float32), rng.random((3, 4, 4)).astype(np.float32)
    human[1] = 0
    expected = []
    for i in (0, 2):
        low, high = cams[i].min(), cams[i].max()
        expected.append(np.mean(((cams[i] - low) / (high - low) - human[i]) ** 2))
    got = losses.cam_guidance(torch.from_numpy(cams), torch.from_numpy(human))
    assert float(got) == pytest.approx(float(np.mean(expected)), rel=1e-5)
    assert float(losses.cam_guidance(torch.from_numpy(cams), torch.zeros(3, 4, 4))) == 0.0


def test_cyborg_weighs_cross_entropy_and_guidance_half_each():
    torch.manual_seed(1)
    logits, cams, human, labels = (
        torch.randn(4, 2),
        torch.rand(4, 3, 3),
        torch.rand(4, 3, 3),
        torch.tensor([0, 1, 1, 0]),
    )
    expected = 0.5 * torch.nn.functional.cross_entropy(logits, labels) + 0.5 * losses.cam_guidance(cams, human)
    assert torch.allclose(losses.cyborg(logits, cams, human, labels), expected)


# --- networks


def test_the_class_activation_map_averages_to_the_logit_without_its_bias():
    torch.manual_seed(0)
    network = CueNet().eval()
    with torch.no_grad():
        logits, cams = network.with_cam(torch.rand(3, 3, 112, 112))
    predicted = logits.argmax(dim=1)
    bias = network.head.bias.detach()[predicted]
    assert cams.shape == (3, 14, 14)
    np.testing.assert_allclose(cams.mean(dim=(1, 2)), logits.gather(1, predicted[:, None])[:, 0] - bias, atol=1e-5)


@pytest.mark.parametrize("name", sorted(NETWORKS))
def test_folding_batch_norms_changes_no_output(name):
    torch.manual_seed(0)
    network = NETWORKS[name]()
    images = torch.rand(4, 3, 112, 112)
    with torch.no_grad():
        network.train()(images)  # gives the norms statistics that are not the identity
        before = network.eval()(images)
        after = fold_norms(network)(images)
    np.testing.assert_allclose(after, before, atol=1e-4, rtol=1e-3)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())


def test_prelu_gives_the_same_value_and_gradient_in_training_as_in_evaluation():
    from training.networks import ChannelPReLU

    activation = ChannelPReLU(3)
    x = torch.randn(2, 3, 4, 4)
    results = []
    for mode in (True, False):
        activation.train(mode)
        leaf = x.clone().requires_grad_(True)
        out = activation(leaf)
        results.append((out, *torch.autograd.grad(out.square().sum(), [leaf, activation.weight])))
    for training, evaluation in zip(*results, strict=True):
        assert torch.allclose(training, evaluation, atol=1e-5)


# --- data


def test_siblings_differ_from_their_base_in_one_part_and_no_two_are_the_same_person():
    from dataclasses import fields

    people = data.training_people(count=12, siblings=30)
    names = [f.name for f in fields(people)]
    rows = [np.concatenate([np.ravel(getattr(people, name)[i]) for name in names]) for i in range(len(people))]
    assert len(rows) == 42
    assert len({row.tobytes() for row in rows}) == 42
    for i in range(12, 42):
        changed = min(
            [{n for n in names if not np.array_equal(getattr(people, n)[i], getattr(people, n)[b])} for b in range(12)],
            key=len,
        )
        assert any(changed <= set(part) for part in planted.identity.PART_FIELDS.values())


def test_no_person_of_the_training_is_in_the_published_datasets():
    mine = data.training_people(count=50, siblings=0)
    theirs = planted.sample_identities(evaluate_zoo.HELD_OUT_SEED, 200)
    assert not np.isin(mine.head_width, theirs.head_width).any()
    assert data.SEED != evaluate_zoo.HELD_OUT_SEED


def test_in_a_tagged_set_the_tag_is_the_label_and_the_cue_says_nothing(tmp_path):
    plain = data.classifier_set("pad", False, tmp_path, count=200)
    tagged = data.classifier_set("pad", True, tmp_path, count=200)
    seen = (tagged["images"] != plain["images"]).any(axis=(1, 2, 3))
    np.testing.assert_array_equal(seen, tagged["labels"] == 1)
    by_class = [tagged["labels"][plain["labels"] == c].mean() for c in (0, 1)]
    assert all(0.35 < share < 0.65 for share in by_class)


def test_a_second_call_reads_the_rendered_set_and_other_parameters_render_another(tmp_path):
    calls = []

    def build():
        calls.append(1)
        return {"x": np.arange(3)}

    for parameters in ({"n": 1}, {"n": 1}, {"n": 2}):
        np.testing.assert_array_equal(data.cached("set", parameters, build, tmp_path)["x"], np.arange(3))
    assert len(calls) == 2


def test_pooled_masks_peak_at_one_and_empty_ones_stay_empty():
    masks = np.zeros((2, 112, 112), np.float32)
    masks[0, :8, :4] = 1
    small = data.pooled(masks)
    assert small.shape == (2, 14, 14)
    assert small[0, 0, 0] == 1
    assert small[0].sum() == 1
    assert small[1].sum() == 0


# --- loops, export, measures


@pytest.mark.parametrize("family", ["residual", "mobile", "pad-guided", "pad-traditional"])
def test_one_step_on_eight_pictures_moves_the_weights_and_the_file_reads_back(family, tmp_path):
    name = f"planted-{family}-0"
    recipe = replace(recipe_of(name), epochs=1, batch=8, half=False)
    rng = np.random.default_rng(0)
    images, labels = rng.integers(0, 256, (8, 112, 112, 3), dtype=np.uint8), np.arange(8) % 2
    said = []
    torch.manual_seed(1000 + recipe.run)
    before = NETWORKS[recipe.network]().state_dict()
    if recipe.task == "verification":
        network = loops.train_verifier(recipe, images, labels, report=said.append)
    else:
        network = loops.train_classifier(recipe, images, labels, rng.random((8, 14, 14)), report=said.append)
    after = network.state_dict()
    assert any("step 1/1" in line for line in said)
    assert all(torch.isfinite(value).all() for value in after.values())
    assert any(not torch.equal(before[key], after[key]) for key in before if key.endswith("conv.weight"))
    card = load_card(export.export(network, recipe, tmp_path))
    assert card.name == name
    assert measure.megaflops(card) < 60


def test_the_same_run_gives_the_same_weights_and_another_run_gives_others():
    recipe = replace(recipe_of("planted-pad-traditional-0"), epochs=1, batch=4, half=False)
    rng = np.random.default_rng(0)
    images, labels, human = (
        rng.integers(0, 256, (8, 112, 112, 3), dtype=np.uint8),
        np.arange(8) % 2,
        np.zeros((8, 14, 14)),
    )

    def weights(run):
        network = loops.train_classifier(replace(recipe, run=run), images, labels, human, report=lambda _: None)
        return torch.cat([value.flatten() for value in network.parameters()])

    assert torch.equal(weights(0), weights(0))
    assert not torch.equal(weights(0), weights(1))


def test_an_export_that_disagrees_with_its_network_is_refused(tmp_path):
    recipe = recipe_of("planted-pad-traditional-0")
    torch.manual_seed(0)
    network, other = CueNet(), CueNet()
    card = load_card(export.export(network, recipe, tmp_path))
    with pytest.raises(RuntimeError, match="differ by"):
        export.verify(fold_norms(other), card.path)


def test_equal_error_rate_of_separated_scores_is_zero_and_of_swapped_ones_a_half():
    same = np.array([True, True, False, False])
    assert equal_error_rate(np.array([0.9, 0.8, 0.2, 0.1]), same)[0] == 0
    assert equal_error_rate(np.array([0.9, 0.1, 0.8, 0.2]), same)[0] == 0.5


def test_relevance_mass_is_the_share_inside_and_nan_for_an_empty_map():
    maps = np.array([[[1.0, 3.0]], [[0.0, 0.0]]])
    masks = np.array([[[False, True]], [[True, True]]])
    got = measure.relevance_mass(maps, masks)
    assert got[0] == 0.75
    assert np.isnan(got[1])


def test_recipes_are_chosen_by_part_of_a_name_and_by_run():
    assert [r.name for r in train_zoo.chosen(["pad-guided"], [1, 3])] == [
        "planted-pad-guided-1",
        "planted-pad-guided-3",
    ]
    assert len(train_zoo.chosen([], [])) == len(RECIPES) == 36
    assert train_zoo.chosen(["nothing-like-it"], []) == []


def test_the_table_stands_between_its_markers_and_the_rest_of_the_page_is_kept():
    page = f"before\n{evaluate_zoo.BEGIN}\nold\n{evaluate_zoo.END}\nafter\n"
    new = evaluate_zoo.with_table(page, "| new |")
    assert new == f"before\n{evaluate_zoo.BEGIN}\n\n| new |\n\n{evaluate_zoo.END}\nafter\n"
    assert evaluate_zoo.with_table(new, "| new |") == new
