"""Contributions declared on a card: what a user can get wrong, and what is read held against plain arithmetic.

The networks are tiny and written here, on 16×16 images and a 2×2 grid, so that every expected number is computed from
pixels without the code under test.
"""

from __future__ import annotations

import io
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import Tensor, nn

from faithface.card import ContributionsCard, ModelCard, load_card
from faithface.errors import NotApplicable, UsageError
from faithface.model import contributions as mechanism
from faithface.model import open_model
from tests.support.networks import pair_batch, sample_batch, tiny

SIZE, PATCHES = 16, 4
WEIGHTS = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
HEAD = """
[model]
name = "net"
task = "{task}"
file = "net.onnx"
[input]
size = [16, 16]
mean = [0.5]
std = [0.5]
[output]
{output}
[contributions]
output = "contributions"
grid = [2, 2]
sums_to = "{sums_to}"
"""
LOGITS = 'name = "score"\nkind = "logits"\nclasses = ["bona-fide", "attack"]\npositive = "attack"'
LOGIT = LOGITS.replace("logits", "logit")
EMBEDDING = 'name = "score"\nkind = "embedding"'


class Bag(nn.Module):
    """s_p = ⟨w, patch p⟩ + b; logits (−s/2, s/2), s = Σ s_p + bias; ``each`` puts both classes side by side."""

    def __init__(self, bias: float = 0.0, each: bool = False, wrong: bool = False, one: bool = False) -> None:
        super().__init__()
        torch.manual_seed(3)
        self.conv = nn.Conv2d(3, 1, SIZE // 2, SIZE // 2)
        self.bias, self.each, self.wrong, self.one = bias, each, wrong, one

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        s = self.conv(x).flatten(1)
        total = s.sum(1, keepdim=True) + self.bias
        shown = s * 0.5 if self.wrong else s
        if self.each:
            shown = torch.stack([-s / 2, s / 2], dim=2)
        return (total if self.one else torch.cat([-total / 2, total / 2], 1)), shown


class Additive(nn.Module):
    """Unit patch embeddings of 3 numbers, weights .1, .2, .3, .4."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(4)
        self.conv = nn.Conv2d(3, 3, SIZE // 2, SIZE // 2)
        self.register_buffer("roots", WEIGHTS.float().sqrt()[:, None])

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        rows = self.conv(x).reshape(-1, 3, PATCHES).permute(0, 2, 1)
        rows = rows / (rows * rows).sum(2, keepdim=True).sqrt()
        rows = rows * self.roots
        return rows.reshape(-1, 3 * PATCHES), rows


class Product(nn.Module):
    """s = m_0 + 2·m_1·m_3, m_p the mean of patch p: patches 1 and 3 interact. Shares against a black image."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        m = nn.functional.avg_pool2d(x.mean(1, keepdim=True) * 0.5 + 0.5, SIZE // 2).flatten(1)
        both = m[:, 1:2] * m[:, 3:4]
        total = m[:, :1] + 2 * both
        return torch.cat([-total / 2, total / 2], 1), torch.cat([m[:, :1], both, 0 * both, both], 1)


def export(net: nn.Module, path: Path) -> Path:
    buffer = io.BytesIO()
    names = ["score", "contributions"]
    torch.onnx.export(
        net.eval(),
        (torch.rand(2, 3, SIZE, SIZE),),
        buffer,
        input_names=["image"],
        output_names=names,
        dynamic_axes={name: {0: "batch"} for name in ["image", *names]},
        dynamo=False,
        opset_version=17,
    )
    path.write_bytes(buffer.getvalue())
    return path


def card_of(net: nn.Module, folder: Path, output: str, sums_to: str, more: str = "") -> ModelCard:
    export(net, folder / "net.onnx")
    task = "verification" if output == EMBEDDING else "pad"
    path = folder / "net.toml"
    path.write_text(HEAD.format(task=task, output=output, sums_to=sums_to) + more)
    return load_card(path)


def patches_of(images: Tensor) -> Tensor:
    """N×3×16×16 to N×4×3×8×8, row by row, by slicing."""
    half = SIZE // 2
    return torch.stack([images[:, :, y : y + half, x : x + half] for y in (0, half) for x in (0, half)], dim=1)


def bag_terms(net: Bag, images: Tensor) -> Tensor:
    """⟨w, (pixels − .5) / .5⟩ + b per patch, in float64."""
    patches = (patches_of(images).double() - 0.5) / 0.5
    weight, bias = net.conv.weight[0].detach().double(), float(net.conv.bias.detach())
    return (patches * weight).sum(dim=(2, 3, 4)) + bias


def additive_rows(net: Additive, images: Tensor) -> Tensor:
    patches = (patches_of(images).double() - 0.5) / 0.5
    weight, bias = net.conv.weight.detach().double(), net.conv.bias.detach().double()
    rows = torch.einsum("npchw,dchw->npd", patches, weight) + bias
    return rows / rows.norm(dim=2, keepdim=True)


# --- reading


@pytest.mark.parametrize("of", ["positive", "predicted"])
@pytest.mark.parametrize("one", [False, True])
def test_a_logit_difference_is_the_patches_own_numbers_with_the_sign_of_the_class(
    tmp_path: Path, of: Any, one: bool
) -> None:
    net = Bag(bias=0.25, one=one)
    card = card_of(net, tmp_path, LOGIT if one else LOGITS, "logit-difference", "offset = 0.25\n")
    model = open_model(card)
    samples = sample_batch(model, 6)
    assert len(set(samples.clean.predicted.tolist())) == 2 or of == "positive"
    expected = bag_terms(net, samples.images)
    if of == "predicted":
        expected = expected * torch.where(samples.clean.predicted == 1, 1, -1)[:, None]
    got = mechanism.contributions(model, samples, of)
    torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_logits_have_one_contribution_per_class(tmp_path: Path) -> None:
    net = Bag(each=True)
    model = open_model(card_of(net, tmp_path, LOGITS, "logits"))
    samples = sample_batch(model, 6)
    terms = bag_terms(net, samples.images) / 2
    signs = torch.where(samples.clean.predicted == 1, 1, -1)[:, None]
    for of, expected in (("positive", terms), ("predicted", terms * signs)):
        got = mechanism.contributions(model, samples, of)  # type: ignore[arg-type]
        torch.testing.assert_close(got.double(), expected, atol=1e-5, rtol=1e-5)


def test_a_pair_s_contribution_is_the_weighted_cosine_of_the_patches(tmp_path: Path) -> None:
    net = Additive()
    model = open_model(card_of(net, tmp_path, EMBEDDING, "similarity"))
    samples = pair_batch(model, 5)
    a, b = (additive_rows(net, samples.images[:, side]) for side in (0, 1))
    expected = WEIGHTS * (a * b).sum(dim=2)
    got = mechanism.contributions(model, samples)
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)
    torch.testing.assert_close(got.sum(dim=1), samples.clean.scores, atol=1e-6, rtol=1e-5)


def test_maps_sum_to_the_contribution_over_each_patch_in_rows(tmp_path: Path) -> None:
    card = card_of(Bag(), tmp_path, LOGITS, "logit-difference")
    values = torch.tensor([[1.0, -2.0, 3.0, 4.0], [0.0, 0.0, 5.0, 0.0]])
    maps = mechanism.contribution_maps(card, values)
    assert maps.shape == (2, SIZE, SIZE)
    torch.testing.assert_close(patches_of(maps[:, None]).sum(dim=(2, 3, 4)), values)
    assert len(maps[0, :8, 8:].unique()) == 1
    torch.testing.assert_close(mechanism.contribution_maps(card, values[:, None])[:, 0], maps)


def test_batches_do_not_matter(tmp_path: Path) -> None:
    net = Bag()
    card = card_of(net, tmp_path, LOGITS, "logit-difference")
    whole, small = open_model(card), open_model(card, batch_size=2)
    a, b = sample_batch(whole, 5), sample_batch(small, 5)
    torch.testing.assert_close(mechanism.contributions(whole, a), mechanism.contributions(small, b))


def test_the_output_is_read_once_per_batch(tmp_path: Path) -> None:
    model = open_model(card_of(Additive(), tmp_path, EMBEDDING, "similarity"))
    samples = pair_batch(model, 3)
    mechanism.contributions(model, samples)
    before = model.passes.forward
    mechanism.contributions(model, samples)
    assert model.passes.forward == before


# --- less the fill


def test_beyond_a_fill_is_the_term_less_the_fill_s_term(tmp_path: Path) -> None:
    net = Bag()
    model = open_model(card_of(net, tmp_path, LOGITS, "logit-difference"))
    samples = sample_batch(model, 4)
    fills = torch.rand(4, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    expected = bag_terms(net, samples.images) - bag_terms(net, fills[:, 0])
    got = mechanism.contributions_beyond_fill(model, samples, fills)
    torch.testing.assert_close(got[:, 0].double(), expected, atol=1e-5, rtol=1e-5)


def test_beyond_a_fill_on_pairs_alters_one_face_at_a_time(tmp_path: Path) -> None:
    net = Additive()
    model = open_model(card_of(net, tmp_path, EMBEDDING, "similarity"))
    samples = pair_batch(model, 4)
    fills = torch.rand(4, 2, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    a, b = (additive_rows(net, samples.images[:, side]) for side in (0, 1))
    fa, fb = (additive_rows(net, fills[:, side]) for side in (0, 1))
    expected = torch.stack([((a - fa) * b).sum(2), (a * (b - fb)).sum(2)], dim=1) * WEIGHTS
    got = mechanism.contributions_beyond_fill(model, samples, fills)
    torch.testing.assert_close(got.double(), expected, atol=1e-6, rtol=1e-5)
    probe_only = mechanism.contributions_beyond_fill(model, samples, fills[:, :1])
    torch.testing.assert_close(probe_only, got[:, :1])
    # What really happens when one patch of the probe is replaced.
    mixed = samples.images[:, 0].clone()
    mixed[:, :, 8:, :8] = fills[:, 0, :, 8:, :8]
    fall = samples.clean.scores - torch.nn.functional.cosine_similarity(
        model.embeddings(mixed), samples.clean.outputs[:, 1]
    )
    torch.testing.assert_close(got[:, 0, 2], fall, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("of", ["positive", "predicted"])
def test_interacting_patches_get_their_shapley_values_against_the_fill(tmp_path: Path, of: Any) -> None:
    model = open_model(card_of(Product(), tmp_path, LOGITS, "logit-difference", "interacting = [1, 3]\n"))
    samples = sample_batch(model, 4)
    fills = torch.rand(4, 1, 3, SIZE, SIZE, generator=torch.Generator().manual_seed(1))
    mine, theirs = (patches_of(x).double().mean(dim=(2, 3, 4)) for x in (samples.images, fills[:, 0]))
    # The definition over all 4! orders of all patches, the interacting ones and the others alike.
    expected = torch.zeros(4, PATCHES, dtype=torch.float64)
    for order in permutations(range(PATCHES)):
        now = theirs.clone()
        for patch in order:
            before = now[:, 0] + 2 * now[:, 1] * now[:, 3]
            now[:, patch] = mine[:, patch]
            expected[:, patch] += (now[:, 0] + 2 * now[:, 1] * now[:, 3] - before) / 24
    if of == "predicted":
        expected *= torch.where(samples.clean.predicted == 1, 1, -1)[:, None]
    got = mechanism.contributions_beyond_fill(model, samples, fills, of)
    torch.testing.assert_close(got[:, 0].double(), expected, atol=1e-6, rtol=1e-5)


# --- what can be wrong


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("grid = [2, 2]", "grids = [2, 2]"), ["grids", "grid"]),
        (("[contributions]", "[contribution]"), ["contribution", "contributions"]),
        (("grid = [2, 2]", "grid = [3, 2]"), ["height of 16", "3 patches"]),
        (("grid = [2, 2]", "grid = [2, 5]"), ["width of 16", "5 patches"]),
        (("grid = [2, 2]", "grid = [0, 2]"), ["grid", "at least 1"]),
        (("grid = [2, 2]", ""), ["contributions.grid", "missing"]),
        (('output = "contributions"', 'output = ""'), ["contributions.output"]),
        (('output = "contributions"', 'output = "score"'), ["score", "already"]),
        (('"logit-difference"', '"similarity"'), ["similarity", "logits", "logit-difference"]),
        (('"logit-difference"', '"logit"'), ["sums_to", "logit-difference"]),
        (('kind = "logits"', 'kind = "probabilities"'), ["probabilities", "no [contributions]"]),
        (('["bona-fide", "attack"]', '["bona-fide", "attack", "other"]'), ["two classes", "3"]),
        (("grid = [2, 2]", "grid = [2, 2]\ninteracting = [1, 4]"), ["patch 4", "0 to 3"]),
        (("grid = [2, 2]", "grid = [2, 2]\ninteracting = [1, 1]"), ["twice"]),
        (("grid = [2, 2]", "grid = [2, 2]\ninteracting = [1]"), ["names 1", "2 to 10"]),
        (
            ("grid = [2, 2]", "grid = [16, 16]\ninteracting = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"),
            ["names 11", "2 to 10"],
        ),
    ],
)
def test_a_mistake_on_the_card_is_one_line_with_what_is_allowed(
    tmp_path: Path, change: tuple[str, str], expected: list[str]
) -> None:
    text = HEAD.format(task="pad", output=LOGITS, sums_to="logit-difference")
    assert change[0] in text
    export(Bag(), tmp_path / "net.onnx")
    path = tmp_path / "net.toml"
    path.write_text(text.replace(*change))
    with pytest.raises(UsageError) as error:
        load_card(path)
    message = str(error.value)
    assert "\n" not in message
    assert "net.toml" in message
    assert all(part in message for part in expected), message


def test_a_similarity_needs_the_cosine(tmp_path: Path) -> None:
    output = f'{EMBEDDING}\nsimilarity = "euclidean"'
    export(Additive(), tmp_path / "net.onnx")
    (tmp_path / "net.toml").write_text(HEAD.format(task="verification", output=output, sums_to="similarity"))
    with pytest.raises(UsageError, match="cosine"):
        load_card(tmp_path / "net.toml")


def changed(card: ModelCard, **fields: Any) -> ModelCard:
    assert card.contributions is not None
    return card.model_copy(update={"contributions": card.contributions.model_copy(update=fields)})


def test_an_output_that_is_not_there_or_has_other_patches_is_refused_on_opening(tmp_path: Path) -> None:
    card = card_of(Bag(), tmp_path, LOGITS, "logit-difference")
    with pytest.raises(UsageError, match=r"'mechanism'.*contributions"):
        open_model(changed(card, output="mechanism"))
    with pytest.raises(UsageError, match=r"4 patches.*\[4, 4\].*16"):
        open_model(changed(card, grid=(4, 4)))
    declared = ContributionsCard(output="contributions", grid=(2, 2), sums_to="logit-difference")
    plain = tiny("cnn", "pad", tmp_path).model_copy(update={"contributions": declared})
    with pytest.raises(UsageError, match="outputs beside 'output': none"):
        open_model(plain)


def test_an_output_of_another_form_is_refused_when_it_is_read(tmp_path: Path) -> None:
    card = card_of(Bag(each=True), tmp_path, LOGITS, "logit-difference")
    model = open_model(card)
    with pytest.raises(UsageError, match=r"N×4×2.*logit-difference.*N×4"):
        mechanism.contributions(model, sample_batch(model, 2))


@pytest.mark.parametrize(("net", "more"), [(Bag(wrong=True), ""), (Bag(bias=0.25), ""), (Bag(), "offset = 1.0\n")])
def test_contributions_that_do_not_sum_to_the_score_are_no_ground_truth(tmp_path: Path, net: Bag, more: str) -> None:
    model = open_model(card_of(net, tmp_path, LOGITS, "logit-difference", more))
    with pytest.raises(UsageError, match=r"sum to .* but its score is"):
        mechanism.contributions(model, sample_batch(model, 3))


def test_a_model_without_the_section_has_no_contributions(tmp_path: Path) -> None:
    model = open_model(tiny("cnn", "pad", tmp_path))
    with pytest.raises(NotApplicable, match=r"\[contributions\]"):
        mechanism.contributions(model, sample_batch(model, 2))


def test_samples_of_another_task_and_fills_of_another_shape_are_named(tmp_path: Path) -> None:
    model = open_model(card_of(Bag(), tmp_path, LOGITS, "logit-difference"))
    samples = sample_batch(model, 2)
    as_pairs = replace(samples, images=samples.images[:, None].expand(-1, 2, -1, -1, -1))
    with pytest.raises(UsageError, match="single images; got samples that are pairs"):
        mechanism.contributions(model, as_pairs)
    for shape in ((2, 3, 16, 16), (2, 2, 3, 16, 16), (1, 1, 3, 16, 16), (2, 1, 3, 8, 16)):
        with pytest.raises(UsageError, match=f"fills have shape {'×'.join(map(str, shape))}"):
            mechanism.contributions_beyond_fill(model, samples, torch.zeros(shape))
    with pytest.raises(UsageError, match="'positive' or 'predicted'"):
        mechanism.contributions(model, samples, "attack")  # type: ignore[arg-type]


# --- a second output beside the first


def test_the_first_output_and_the_gradients_are_those_of_the_file_without_the_second(tmp_path: Path) -> None:
    card = card_of(Additive(), tmp_path, EMBEDDING, "similarity")
    proto = onnx.load(card.path)
    # An operator that no converter knows, on the way to the second output only.
    proto.graph.node.append(helper.make_node("Erf", ["contributions"], ["bent"]))
    proto.graph.node.append(helper.make_node("NonZero", ["bent"], ["where"]))
    proto.graph.output.append(helper.make_tensor_value_info("where", TensorProto.INT64, None))
    onnx.save(proto, card.path)
    alone = onnx.load(card.path)
    del alone.graph.output[1:]
    onnx.save(alone, tmp_path / "alone.onnx")
    both = open_model(card)
    bare = open_model(card.model_copy(update={"file": "alone.onnx", "contributions": None}))
    images = sample_like(3)
    torch.testing.assert_close(both.outputs(images), bare.outputs(images), atol=0, rtol=0)
    assert both.twin.network.output_names == ["score"]
    cotangents = torch.ones(3, 1, 3 * PATCHES)
    torch.testing.assert_close(both.vjp(images, cotangents), bare.vjp(images, cotangents), atol=1e-7, rtol=1e-6)
    assert [layer.name for layer in both.twin.layers()] == [layer.name for layer in bare.twin.layers()]


def test_a_network_whose_first_output_is_the_contributions_explains_the_one_on_the_card(tmp_path: Path) -> None:
    card = card_of(Bag(), tmp_path, LOGITS, "logit-difference")
    proto = onnx.load(card.path)
    outputs = list(proto.graph.output)[::-1]
    del proto.graph.output[:]
    proto.graph.output.extend(outputs)
    onnx.save(proto, card.path)
    model = open_model(card)
    images = sample_like(2)
    assert model.outputs(images).shape == (2, 2)
    torch.testing.assert_close(model.twin(images), model.outputs(images), atol=1e-5, rtol=1e-5)


def test_a_grid_of_patches_on_the_batch_axis_is_no_layer_for_cams(tmp_path: Path) -> None:
    class Folded(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            torch.manual_seed(5)
            self.inner, self.outer = nn.Conv2d(3, 4, 3, 1, 1), nn.Conv2d(4, 4, 1)

        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            x = x.reshape(-1, 3, 2, 8, 2, 8).permute(0, 2, 4, 1, 3, 5).reshape(-1, 3, 8, 8)
            x = self.inner(x).reshape(-1, 2, 2, 4, 8, 8).permute(0, 3, 1, 4, 2, 5).reshape(-1, 4, 16, 16)
            s = self.outer(x).mean(1).reshape(-1, 2, 8, 2, 8).sum(dim=(2, 4)).reshape(-1, 4)
            total = s.sum(1, keepdim=True)
            return torch.cat([-total / 2, total / 2], 1), s

    model = open_model(card_of(Folded(), tmp_path, LOGITS, "logit-difference"))
    layers = model.twin.layers()
    assert [layer.grid for layer in layers] == [(16, 16)]
    assert model.activations(sample_like(2)).values.shape == (2, 4, 16, 16)


def sample_like(n: int) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((n, 3, SIZE, SIZE), dtype=np.float32))
