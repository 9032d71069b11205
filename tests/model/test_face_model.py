"""A model that implements the abstract methods only: it has a meter, a policy, a feed and a cache all the same."""

import onnx
import pytest
import torch

from faithface.card import InputCard, ModelCard, OutputCard
from faithface.contract import MADE, BatchingPolicy, FaceModel, Passes
from faithface.errors import NotApplicable, RunError
from faithface.model import open_model
from tests.support.networks import sample_batch, tiny


class Bare(FaceModel):
    card = ModelCard(
        name="bare",
        task="pad",
        file="none",
        input=InputCard(size=(4, 5)),
        output=OutputCard(kind="logits", classes=("a", "b")),
    )
    device = "cpu"

    def outputs(self, images):
        return images.mean(dim=(2, 3))[:, :2]

    def scores(self, images):
        return self.outputs(images).softmax(dim=1)

    def embeddings(self, images):
        raise NotApplicable("a classifier")

    def gradient(self, images, target):
        raise NotApplicable("no twin")

    vjp = activations = gradient

    @property
    def twin(self):
        raise NotApplicable("no twin")


def test_the_meter_belongs_to_one_model_and_only_count_moves_it():
    model, other = Bare(), Bare()
    before = model.passes
    model.count(forward=3)
    model.count(2, 5)
    assert (before, model.passes, other.passes) == (Passes(), Passes(5, 5), Passes())
    assert model.passes - Passes(1, 2) == Passes(4, 3)
    with pytest.raises(AttributeError):
        model.passes.forward += 1
    with pytest.raises(AttributeError):
        model.passes = Passes()


def test_the_cache_belongs_to_one_model():
    model, other = Bare(), Bare()
    assert model.cached(id) == id(model)
    assert (len(model.cache), len(other.cache)) == (1, 0)


def test_the_default_feed_takes_pixels_and_gives_what_outputs_gives():
    model, images = Bare(), torch.rand((3, 3, 4, 5), generator=torch.Generator().manual_seed(0))
    feed = model.feed()
    assert torch.equal(feed.run(feed.prepare(images)), model.outputs(images))
    assert (feed.channels_last, feed.fixed_batch, feed.counts) == (False, None, True)


@pytest.mark.parametrize("kind", ["cnn", "grey"])
def test_an_onnx_files_feed_takes_prepared_rows_and_leaves_the_counting_to_the_caller(kind, tmp_path):
    model = open_model(tiny(kind, "pad", tmp_path, size=16))
    images = sample_batch(model, 5).images
    expected, feed, before = model.outputs(images), model.feed(), model.passes
    torch.testing.assert_close(feed.run(feed.prepare(images)), expected, atol=1e-6, rtol=1e-5)
    assert model.passes == before
    assert not feed.counts


def test_a_batch_is_halved_and_remembered_only_where_memory_ran_out_and_a_smaller_one_is_possible():
    model = Bare()
    assert model.batching == BatchingPolicy(MADE)
    model.use_batching(BatchingPolicy(7, 2))
    assert model.reduce_batch(model.batching, MemoryError()) == model.batching == BatchingPolicy(3, 2)
    with pytest.raises(ZeroDivisionError):
        model.reduce_batch(model.batching, ZeroDivisionError())
    assert model.batching == BatchingPolicy(3, 2)
    with pytest.raises(RunError, match="one image"):
        model.reduce_batch(BatchingPolicy(1), MemoryError())
    model.fixed_batch = 4
    with pytest.raises(RunError, match="4 images, the only batch that its file accepts"):
        model.reduce_batch(BatchingPolicy(4), MemoryError())


def test_other_weights_make_another_model_of_the_same_card_and_policy(tmp_path):
    model = open_model(tiny("cnn", "pad", tmp_path, size=16))
    model.use_batching(BatchingPolicy(5, 2))
    changed = onnx.ModelProto()
    changed.CopyFrom(model.proto)
    for tensor in changed.graph.initializer:
        values = onnx.numpy_helper.to_array(tensor)
        if values.dtype == "float32":
            tensor.CopyFrom(onnx.numpy_helper.from_array(values * 0, tensor.name))
    images = sample_batch(model, 12).images
    other = model.with_weights(changed)
    assert other.batching == model.batching
    assert float(other.outputs(images).std(dim=0).max()) == 0 < float(model.outputs(images).std(dim=0).max())
    assert other.card.output == model.card.output
    with pytest.raises(NotApplicable, match="not an ONNX file"):
        Bare().with_weights(changed)
