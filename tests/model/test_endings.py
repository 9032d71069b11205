"""How a network ends: drafts of cards, cards that say otherwise, scalars that are saturated, pairs that are equal."""

from __future__ import annotations

import tomllib
from pathlib import Path

import onnx
import pytest
import torch

from faithface.errors import UsageError
from faithface.model import open_model
from faithface.model.inspect import inspect_model
from faithface.tasks import ClassTarget, PairTarget
from tests.support.graphs import Graph, card_for


def ends_in(*kinds: str, units: int = 2, scale: float = 1.0, name: str = "scores") -> onnx.ModelProto:
    g = Graph()
    x = g.op("Mul", g.head(g.op("Tanh", g.conv(g.x, 3, 6)), 6, units=units), g.const(scale))
    for kind in kinds[:-1]:
        x = g.op(kind, x, **({"axis": 1} if kind == "Softmax" else {}))
    last = kinds[-1] if kinds else "Identity"
    return g.model(g.op(last, x, out=name, **({"axis": 1} if last in ("Softmax", "LogSoftmax") else {})), units=units)


def by_parts() -> onnx.ModelProto:
    """A softmax of a kind that no reader of operators knows: sigmoids of z and −z side by side."""
    g = Graph()
    z = g.head(g.op("Tanh", g.conv(g.x, 3, 6)), 6, units=1)
    return g.model(g.op("Concat", g.op("Sigmoid", z), g.op("Sigmoid", g.op("Neg", z)), axis=1), units=2)


@pytest.mark.parametrize(
    ("proto", "kind"),
    [
        (ends_in("Softmax"), "probabilities"),
        (ends_in("Softmax", "Identity"), "probabilities"),
        (by_parts(), "probabilities"),
        (ends_in("Sigmoid", units=1), "probability"),
        (ends_in(scale=30.0), "logits"),
        (ends_in("LogSoftmax"), "logits"),
        (ends_in(units=1, scale=30.0), "logit"),
    ],
)
def test_the_draft_reads_the_last_operators(proto: onnx.ModelProto, kind: str, tmp_path: Path) -> None:
    onnx.save(proto, tmp_path / "net.onnx")
    draft = inspect_model(tmp_path / "net.onnx").draft
    card = tomllib.loads(draft)
    assert card["output"]["kind"] == kind
    (tmp_path / "card.toml").write_text(draft)
    assert inspect_model(tmp_path / "card.toml").parity is not None
    lines = {line.split(" = ")[0]: line for line in draft.splitlines() if " = " in line}
    for key in ("kind", "size", "layout"):
        assert "# certain:" in lines[key]
    for key in ("task", "color", "mean", "std", "classes", "positive"):
        assert "# guess:" in lines[key]


@pytest.mark.parametrize(
    ("name", "second"), [("live_prob", "bona-fide"), ("spoof_score", "attack"), ("p_fake", "synthetic")]
)
def test_one_unit_is_the_probability_of_the_class_it_is_named_after(name: str, second: str, tmp_path: Path) -> None:
    onnx.save(ends_in("Sigmoid", units=1, name=name), tmp_path / "net.onnx")
    card = tomllib.loads(inspect_model(tmp_path / "net.onnx").draft)
    assert card["output"]["classes"][1] == second
    assert card["output"]["positive"] in ("attack", "synthetic")


@pytest.mark.parametrize(
    ("proto", "kind", "right"),
    [
        (ends_in("Softmax"), "logits", "probabilities"),
        (by_parts(), "logits", "probabilities"),
        (ends_in("Sigmoid", units=1), "logit", "probability"),
        (ends_in(scale=30.0), "probabilities", "logits"),
        (ends_in(units=1, scale=30.0), "probability", "logit"),
    ],
)
def test_a_card_that_names_another_kind_is_refused(
    proto: onnx.ModelProto, kind: str, right: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=f'write kind = "{right}"'):
        open_model(card_for(proto, tmp_path, kind=kind))
    open_model(card_for(proto, tmp_path, kind=right))


@pytest.mark.parametrize("end", ["Softmax", "Sigmoid"])
def test_a_saturated_class_is_explained_before_the_end(end: str, tmp_path: Path) -> None:
    """Where p = 1 in float32, the direction is that of the log-odds; where it is not, the probability's own."""
    units = 2 if end == "Softmax" else 1
    sure = open_model(
        card_for(
            ends_in(end, units=units, scale=2e3), tmp_path, "sure", "probabilities" if units == 2 else "probability"
        )
    )
    plain = open_model(
        card_for(ends_in(units=units, scale=2e3), tmp_path, "plain", "logits" if units == 2 else "logit")
    )
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    classes = sure.scores(images).argmax(dim=1)
    assert (sure.scores(images).max(dim=1).values == 1).all()
    target = ClassTarget(classes, torch.tensor([True, True]))
    odds = plain.gradient(images, ClassTarget(classes))
    if units == 2:
        odds = odds - plain.gradient(images, ClassTarget(1 - classes))
    assert torch.allclose(sure.gradient(images, target), odds, rtol=1e-3, atol=1e-3 * float(odds.abs().max()))
    assert sure.gradient(images, ClassTarget(classes)).abs().max() == 0  # what would be drawn otherwise
    weights = sure.activations(images, target).gradients
    assert weights.abs().sum(dim=(1, 2, 3)).min() > 0


def test_views_mark_only_saturated_samples(tmp_path: Path) -> None:
    from tests.support.networks import sample_batch

    sure = open_model(card_for(ends_in("Softmax", scale=2e3), tmp_path, "sure", "probabilities"))
    calm = open_model(card_for(ends_in("Softmax"), tmp_path, "calm", "probabilities"))
    assert sample_batch(sure, 2).views().target.saturated.all()
    assert not sample_batch(calm, 2).views().target.saturated.any()


@pytest.mark.parametrize("similarity", ["cosine", "euclidean"])
def test_equal_faces_have_an_empty_map_not_a_magnified_rounding(similarity: str, tmp_path: Path) -> None:
    card = card_for(ends_in(units=16), tmp_path)
    card = card.model_copy(update={"output": card.output.model_copy(update={"similarity": similarity})})
    model = open_model(card)
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    embeddings = model.embeddings(images)
    same = PairTarget(embeddings * (1 + 1e-7))
    assert model.gradient(images, same).abs().max() == 0
    assert model.activations(images, same).gradients.abs().max() == 0
    other = PairTarget(embeddings.flip(0))
    assert (model.gradient(images, other).abs().amax(dim=(1, 2, 3)) > 0).all()
