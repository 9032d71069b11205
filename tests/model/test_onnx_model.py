"""The model layer on networks of every family: parity, gradients against the torch original, batches, bad files."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from faithface.card import InputCard
from faithface.contract import FaceModel
from faithface.errors import NotApplicable, UsageError
from faithface.hashing import file_hash, model_digest
from faithface.model import open_model
from faithface.model.inspect import inspect_model
from faithface.model.twin import preprocess
from faithface.reasons import ReasonCode
from faithface.tasks import ClassTarget, PairTarget, cosine
from tests.support.networks import KINDS, build, export, pair_batch, sample_batch, tiny

SPATIAL = [kind for kind in KINDS if kind != "linear"]


@pytest.mark.parametrize("kind", KINDS)
def test_outputs_equal_the_torch_original(kind: str, tiny_folder: Path) -> None:
    model = open_model(tiny(kind, "pad", tiny_folder))
    images = torch.rand(5, 3, 32, 32)
    original = build(kind, 2, 32)(preprocess(images, model.card.input))
    assert torch.allclose(model.outputs(images), original, atol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_the_twin_is_differentiable_and_equal(kind: str, tiny_folder: Path) -> None:
    model = open_model(tiny(kind, "pad", tiny_folder))
    images = torch.rand(3, 3, 32, 32)
    target = ClassTarget(torch.tensor([0, 1, 1]))
    pixels = images.clone().requires_grad_(True)
    original = build(kind, 2, 32)(preprocess(pixels, model.card.input))
    target.score(model.card, original).sum().backward()
    assert torch.allclose(model.gradient(images, target), pixels.grad, atol=1e-6)
    assert model.parity <= model.execution_target.tolerance


@pytest.mark.parametrize("kind", ["cnn", "arcface", "vit", "fixed-batch"])
def test_vjp_equals_one_backward_pass_per_vector(kind: str, tiny_folder: Path) -> None:
    model = open_model(tiny(kind, "verification", tiny_folder))
    images = torch.rand(3, 3, 32, 32)
    vectors = torch.randn(3, 4, 16)
    got = model.vjp(images, vectors)
    net = build(kind, 16, 32)
    for n in range(3):
        for m in range(4):
            pixels = images[n : n + 1].clone().requires_grad_(True)
            (net(preprocess(pixels, model.card.input)) * vectors[n, m]).sum().backward()
            assert torch.allclose(got[n, m], pixels.grad[0], atol=1e-5)


@pytest.mark.parametrize("kind", SPATIAL)
def test_activations_have_a_grid_of_at_least_seven(kind: str, tiny_folder: Path) -> None:
    model = open_model(tiny(kind, "pad", tiny_folder))
    batch = sample_batch(model, 3)
    found = model.activations(batch.images, ClassTarget(batch.clean.predicted))
    assert found.values.shape == found.gradients.shape
    assert found.values.shape[2:] == (8, 8)
    assert found.gradients.abs().sum(dim=(1, 2, 3)).min() > 0


def test_activations_and_gradients_equal_hooks_on_the_torch_original(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "verification", tiny_folder))
    batch = pair_batch(model, 2)
    views = batch.views()
    found = model.activations(views.images, views.target)
    net = build("cnn", 16, 32)
    features = net.features(preprocess(views.images, model.card.input)).detach().requires_grad_(True)
    cosine(net.head(features.mean(dim=(2, 3))), views.target.reference).sum().backward()
    assert torch.allclose(found.values, features, atol=1e-5)
    assert torch.allclose(found.gradients, features.grad, atol=1e-6)


def test_the_last_batch_is_remembered_by_content_not_by_address(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    images = torch.rand(2, 3, 32, 32)
    first = model.activations(images, ClassTarget(torch.tensor([0, 0])))
    assert model.activations(images.clone(), ClassTarget(torch.tensor([0, 0]))) is first
    other_target = model.activations(images, ClassTarget(torch.tensor([1, 0])))
    assert not torch.allclose(other_target.gradients, first.gradients)
    images[0] += 0.1
    assert not torch.allclose(model.activations(images, ClassTarget(torch.tensor([0, 0]))).values, first.values)


def test_passes_count_images_also_when_remembered(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    images = torch.rand(5, 3, 32, 32)
    target = ClassTarget(torch.zeros(5, dtype=torch.long))
    before = (model.passes.forward, model.passes.backward)
    for _ in range(2):
        model.activations(images, target)
    model.vjp(images, torch.randn(5, 3, 2))
    model.outputs(images)
    assert (model.passes.forward - before[0], model.passes.backward - before[1]) == (20, 25)


@pytest.mark.parametrize("kind", ["cnn", "fixed-batch", "vit"])
@pytest.mark.parametrize("batch_size", [1, 2, 32])
def test_batch_size_changes_nothing(kind: str, batch_size: int, tiny_folder: Path) -> None:
    card = tiny(kind, "pad", tiny_folder)
    images = torch.rand(5, 3, 32, 32)
    target = ClassTarget(torch.tensor([0, 1, 0, 1, 1]))
    model, reference = open_model(card, batch_size=batch_size), open_model(card, batch_size=5)
    assert torch.allclose(model.outputs(images), reference.outputs(images), atol=1e-5)
    assert torch.allclose(model.gradient(images, target), reference.gradient(images, target), atol=1e-6)
    a, b = model.activations(images, target), reference.activations(images, target)
    assert torch.allclose(a.gradients, b.gradients, atol=1e-6)


def test_a_fixed_batch_file_works_and_says_that_it_is_slow(tiny_folder: Path) -> None:
    model = open_model(tiny("fixed-batch", "pad", tiny_folder))
    assert model.fixed_batch == 1
    assert any("slow" in note for note in model.notes)
    assert model.outputs(torch.rand(3, 3, 32, 32)).shape == (3, 2)


def test_a_baked_in_batch_behind_a_dynamic_axis_is_found(tiny_folder: Path, tmp_path: Path) -> None:
    card = tiny("fixed-batch", "pad", tiny_folder)
    proto = onnx.load(card.path)
    # What a careless edit of an exported file does: the axis is renamed, a Reshape to batch 1 stays.
    proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "N"
    out = proto.graph.output[0]
    shape = onnx.helper.make_tensor("baked", onnx.TensorProto.INT64, [2], [1, 2])
    proto.graph.initializer.append(shape)
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("Reshape", ["before", "baked"], [out.name]))
    out.type.tensor_type.shape.dim[0].dim_param = "N"
    onnx.save(proto, tmp_path / "baked.onnx")
    model = open_model(card.model_copy(update={"file": "baked.onnx", "root": tmp_path}))
    assert model.fixed_batch == 1
    images = torch.rand(3, 3, 32, 32)
    assert torch.allclose(model.outputs(images), open_model(card).outputs(images), atol=1e-6)


@pytest.mark.parametrize("color", ["RGB", "BGR", "GRAY"])
def test_colour_order_and_normalisation_are_the_cards(color: str) -> None:
    channels = 1 if color == "GRAY" else 3
    card = InputCard(size=(2, 2), color=color, mean=(0.1, 0.2, 0.3)[:channels], std=(0.5, 0.6, 0.7)[:channels])
    image = np.random.default_rng(0).random((1, 3, 2, 2)).astype(np.float32)
    r, g, b = image[0]
    planes = {"RGB": [r, g, b], "BGR": [b, g, r], "GRAY": [0.299 * r + 0.587 * g + 0.114 * b]}[color]
    expected = np.stack([(p - m) / s for p, m, s in zip(planes, card.mean, card.std, strict=True)])
    assert np.allclose(preprocess(torch.from_numpy(image), card).numpy()[0], expected, atol=1e-6)


def test_channels_last_files_get_channels_last(tmp_path: Path) -> None:
    class Last(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("cnn", 2, 32)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.inner(x.permute(0, 3, 1, 2))

    export(Last(), (32, 32, 3), tmp_path / "last.onnx")
    card = tiny("cnn", "pad", tmp_path)
    last = card.model_copy(
        update={"file": "last.onnx", "input": card.input.model_copy(update={"layout": "NHWC"})},
    )
    images = torch.rand(2, 3, 32, 32)
    target = ClassTarget(torch.tensor([0, 1]))
    assert torch.allclose(open_model(last).outputs(images), open_model(card).outputs(images), atol=1e-5)
    assert torch.allclose(
        open_model(last).gradient(images, target), open_model(card).gradient(images, target), atol=1e-6
    )


def test_a_named_output_of_several_is_used(tmp_path: Path) -> None:
    class Two(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = build("cnn", 2, 32)

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            out = self.inner(x)
            return out, out * 3 + 1

    card = tiny("cnn", "pad", tmp_path)
    torch.onnx.export(
        Two().eval(),
        (torch.rand(2, 3, 32, 32),),
        tmp_path / "two.onnx",
        input_names=["x"],
        output_names=["first", "second"],
        dynamic_axes={"x": {0: "n"}, "first": {0: "n"}, "second": {0: "n"}},
        dynamo=False,
    )
    second = card.model_copy(update={"file": "two.onnx", "output": card.output.model_copy(update={"name": "second"})})
    images = torch.rand(2, 3, 32, 32)
    model = open_model(second)
    assert torch.allclose(model.outputs(images), open_model(card).outputs(images) * 3 + 1, atol=1e-5)
    target = ClassTarget(torch.tensor([0, 1]))
    assert torch.allclose(model.gradient(images, target), 3 * open_model(card).gradient(images, target), atol=1e-5)
    wrong = card.model_copy(update={"file": "two.onnx", "output": card.output.model_copy(update={"name": "third"})})
    with pytest.raises(UsageError, match="first, second"):
        open_model(wrong)


def test_a_twin_that_differs_is_refused_and_black_box_use_goes_on(
    tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    monkeypatch.setattr(model, "_forward_chunk", lambda images: torch.full((len(images), 2), 7.0))
    twin, parity = model.derived.twin, model.comparison
    assert twin is None
    assert parity.outputs > 1e-4
    assert model.derived.refusal.code is ReasonCode.NO_TWIN
    assert model.card.name in parity.reason
    assert f"{parity.outputs:.2e}" in parity.reason
    with pytest.raises(NotApplicable, match="only black-box"):
        model.gradient(torch.rand(1, 3, 32, 32), ClassTarget(torch.tensor([0])))


def test_an_operator_without_twin_is_refused_with_its_name(tiny_folder: Path, tmp_path: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    proto = onnx.load(card.path)
    out = proto.graph.output[0].name
    proto.graph.node[-1].output[0] = "before"
    proto.graph.node.append(onnx.helper.make_node("QuickGelu", ["before"], [out], domain="com.microsoft"))
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    onnx.save(proto, tmp_path / "odd.onnx")
    model = open_model(card.model_copy(update={"file": "odd.onnx", "root": tmp_path}))
    assert model.outputs(torch.rand(1, 3, 32, 32)).shape == (1, 2)
    with pytest.raises(NotApplicable, match="only black-box"):
        _ = model.twin


def test_an_unknown_layer_lists_candidates(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    with pytest.raises(UsageError, match=r"features\.5"):
        model.activations(torch.rand(1, 3, 32, 32), layer="nonsense")


def test_a_layer_can_be_chosen_by_name(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "pad", tiny_folder))
    names = [layer.name for layer in model.twin.layers()]
    found = model.activations(torch.rand(1, 3, 32, 32), layer=names[0])
    assert found.layer == names[0]
    assert found.values.shape[2:] == (16, 16)


def test_a_network_without_grid_says_so(tiny_folder: Path) -> None:
    model = open_model(tiny("linear", "pad", tiny_folder))
    with pytest.raises(NotApplicable, match="spatial"):
        model.activations(torch.rand(1, 3, 32, 32))


@pytest.mark.parametrize(("content", "word"), [(b"", "ONNX"), (b"not a network at all", "ONNX"), (None, "ONNX")])
def test_a_file_that_is_not_a_network_is_one_clear_line(
    content: bytes | None, word: str, tiny_folder: Path, tmp_path: Path
) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    path = tmp_path / "bad.onnx"
    path.write_bytes(card.path.read_bytes()[:1000] if content is None else content)
    bad = card.model_copy(update={"file": "bad.onnx", "root": tmp_path})
    for action in (lambda: open_model(bad), lambda: inspect_model(path)):
        with pytest.raises(UsageError) as caught:
            action()
        assert word in str(caught.value)
        assert "bad.onnx" in str(caught.value)
        assert "\n" not in str(caught.value)


def test_cuda_asked_for_and_absent_is_an_error(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(UsageError, match="cuda") as caught:
        open_model(tiny("cnn", "pad", tiny_folder), device="cuda")
    assert caught.value.exit_code == 2
    with pytest.raises(UsageError, match="cpu, cuda, cuda-fp16, tensorrt, tensorrt-fp16"):
        open_model(tiny("cnn", "pad", tiny_folder), device="tpu")


def test_a_silent_fallback_to_the_cpu_is_an_error(tiny_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from faithface.model import session

    # What ONNX Runtime does where CUDA libraries do not load: it is asked for CUDA and opens on the CPU.
    monkeypatch.setattr(session, "providers_for", lambda device: ["CUDAExecutionProvider", "CPUExecutionProvider"])
    with pytest.raises(UsageError, match="fell back"):
        session.open_session(tiny("cnn", "pad", tiny_folder).path, "cuda")


@pytest.mark.parametrize(
    ("update", "word"),
    [({"size": (16, 32)}, "height"), ({"color": "GRAY", "mean": (0.5,), "std": (0.5,)}, "channels")],
)
def test_a_card_that_contradicts_its_file_is_refused(update: dict, word: str, tiny_folder: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    wrong = card.model_copy(update={"input": card.input.model_copy(update=update)})
    with pytest.raises(UsageError, match=word):
        open_model(wrong)


def test_a_wrong_number_of_classes_is_refused(tiny_folder: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    wrong = card.model_copy(update={"output": card.output.model_copy(update={"classes": ("a", "b", "c")})})
    with pytest.raises(UsageError, match="2 units"):
        open_model(wrong)


def test_wrong_images_are_refused(tiny_folder: Path) -> None:
    model: FaceModel = open_model(tiny("cnn", "pad", tiny_folder))
    for images in (torch.rand(3, 32, 32), torch.rand(1, 1, 32, 32), torch.rand(0, 3, 32, 32), torch.rand(1, 3, 16, 16)):
        with pytest.raises(UsageError, match="expected N×3×32×32"):
            model.outputs(images)


def test_scores_and_embeddings_belong_to_their_tasks(tiny_folder: Path) -> None:
    pad = open_model(tiny("one-unit", "pad", tiny_folder))
    images = torch.rand(2, 3, 32, 32)
    assert torch.allclose(pad.scores(images).sum(dim=1), torch.ones(2))
    with pytest.raises(NotApplicable):
        pad.embeddings(images)
    verification = open_model(tiny("cnn", "verification", tiny_folder))
    assert verification.embeddings(images).shape == (2, 16)
    with pytest.raises(NotApplicable):
        verification.scores(images)


def test_pair_views_explain_each_face_against_the_other(tiny_folder: Path) -> None:
    model = open_model(tiny("cnn", "verification", tiny_folder))
    batch = pair_batch(model, 2)
    views = batch.views()
    assert isinstance(views.target, PairTarget)
    for i in range(2):
        a, b = model.embeddings(batch.images[i])
        assert torch.allclose(views.target.reference[2 * i], b, atol=1e-5)
        assert torch.allclose(views.target.reference[2 * i + 1], a, atol=1e-5)
        assert torch.allclose(batch.clean.scores[i], cosine(a, b), atol=1e-5)


def test_inspect_drafts_a_card_that_loads(tiny_folder: Path, tmp_path: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    (tmp_path / "my net.onnx").write_bytes(card.path.read_bytes())
    report = inspect_model(tmp_path / "my net.onnx")
    (tmp_path / "card.toml").write_text(report.draft)
    full = inspect_model(tmp_path / "card.toml")
    assert full.parity is not None
    assert full.grid == (8, 8)
    assert "float ?×3×32×32" in full.text()


def test_inspect_lists_the_other_layers_and_never_the_chosen_one_among_them(tiny_folder: Path, tmp_path: Path) -> None:
    card = tiny("cnn", "pad", tiny_folder)
    (tmp_path / card.file).write_bytes(card.path.read_bytes())
    draft = inspect_model(tmp_path / card.file).draft
    candidates = [layer.name for layer in open_model(card).twin.layers()]
    for chosen in ("", *candidates):
        (tmp_path / "card.toml").write_text(f'{draft}\n[explain]\nlayer = "{chosen}"\n')
        report = inspect_model(tmp_path / "card.toml")
        assert report.layer == chosen or not chosen
        assert list(report.layers) == [name for name in candidates if name != report.layer][-4:]
        (line,) = (line for line in report.text().splitlines() if "others: " in line)
        assert report.layer not in line.partition("others: ")[2].split(", ")


@pytest.mark.gpu
@pytest.mark.parametrize("kind", KINDS)
def test_cuda_gives_what_the_cpu_gives(kind: str, tiny_folder: Path) -> None:
    card = tiny(kind, "pad", tiny_folder)
    cpu, gpu = open_model(card), open_model(card, device="cuda")
    images = torch.rand(4, 3, 32, 32)
    target = ClassTarget(torch.tensor([0, 1, 0, 1]))
    assert gpu.session.provider == "CUDAExecutionProvider"
    assert torch.allclose(gpu.outputs(images.cuda()).cpu(), cpu.outputs(images), rtol=1e-4, atol=1e-4)
    assert torch.allclose(gpu.gradient(images.cuda(), target).cpu(), cpu.gradient(images, target), rtol=1e-3, atol=1e-5)


def test_the_digest_covers_weights_that_lie_beside_the_file(tiny_folder: Path, tmp_path: Path) -> None:
    """Two files with the same graph and other weights beside them are two models; a pin tells them apart."""
    card = tiny("cnn", "pad", tiny_folder)
    digests = []
    for scale in (1.0, 2.0):
        proto = onnx.load(card.path)
        for tensor in proto.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(scale), tensor.name))
        path = tmp_path / "net.onnx"
        path.unlink(missing_ok=True)
        (tmp_path / "weights.bin").unlink(missing_ok=True)
        onnx.save(proto, path, save_as_external_data=True, location="weights.bin", size_threshold=0)
        opened = open_model(card.model_copy(update={"root": tmp_path, "file": "net.onnx"}))
        parts = [["", "net.onnx"], ["weights.bin", "weights.bin"]]
        listed = [[name, hashlib.sha256((tmp_path / file).read_bytes()).hexdigest()] for name, file in parts]
        assert opened.sha256 != hashlib.sha256((tmp_path / "net.onnx").read_bytes()).hexdigest()
        assert opened.sha256 == model_digest(path)
        assert [file_hash(tmp_path / file) for _name, file in parts] == [digest for _name, digest in listed]
        digests.append(opened.sha256)
    assert digests[0] != digests[1]
    pinned = card.model_copy(update={"root": tmp_path, "file": "net.onnx", "sha256": digests[0]})
    with pytest.raises(UsageError, match=r"sha256 is .* another file"):
        open_model(pinned)
    assert open_model(pinned.model_copy(update={"sha256": digests[1]})).sha256 == digests[1]
    one = open_model(card)
    assert one.sha256 == hashlib.sha256(card.path.read_bytes()).hexdigest()
