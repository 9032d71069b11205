"""The recipes' pages run, word for word, on networks of the same layout with random weights.

The networks are small, and true in what a card must get right: input size, colour order, range of pixels, names, number
and kind of outputs, and the module paths and key prefixes that the pages load from. Nothing is downloaded.
"""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import yaml
from PIL import Image
from torch import Tensor, nn

from faithface.card import load_card
from faithface.cli import main
from faithface.model import open_model
from tests.docs.pages import DOCS, blocks, command_lines
from tests.support.networks import faces

RECIPES = DOCS / "how-to" / "recipes"


class Unit(nn.Sequential):
    """Convolution, batch norm, PReLU: what all these networks are made of."""

    def __init__(self, inputs: int, outputs: int, stride: int = 2, kernel: int = 3, groups: int = 1) -> None:
        padding = 0 if kernel > 3 else 1
        super().__init__(
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs),
            nn.PReLU(outputs),
        )


class Backbone(nn.Module):
    """ArcFace's layout: units down to 7×7, batch norm, flatten, 512 numbers, batch norm."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(Unit(3, 4), Unit(4, 6), Unit(6, 8), Unit(8, 8))
        self.head = nn.Sequential(nn.BatchNorm2d(8), nn.Flatten(), nn.Linear(8 * 49, 512), nn.BatchNorm1d(512))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.body(x))
        return out


class Ada(nn.Module):
    """AdaFace's layout: the normalised embedding, and its norm."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Backbone()

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raw = self.net(x)
        norm = torch.norm(raw, 2, 1, True)
        return raw / norm, norm


class Mini(nn.Module):
    """MiniFASNet's layout: units down to 5×5, a depthwise convolution over the whole map, three logits."""

    def __init__(self, conv6_kernel: tuple[int, int] = (7, 7)) -> None:
        super().__init__()
        self.body = nn.Sequential(Unit(3, 4), Unit(4, 6), Unit(6, 8), Unit(8, 8))
        self.conv_6_dw = Unit(8, 8, 1, conv6_kernel[0], 8)
        self.linear = nn.Linear(8, 16, bias=False)
        self.bn = nn.BatchNorm1d(16)
        self.prob = nn.Linear(16, 3, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        # Pixels reach it as 0 to 255; the first norm of a trained network has learnt that.
        out: Tensor = self.prob(self.bn(self.linear(torch.flatten(self.conv_6_dw(self.body(x)), 1))))
        return out


class Xception(nn.Module):
    """A DeepfakeBench detector's layout: ``features`` of a dictionary, and ``classifier``."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.backbone = nn.Sequential(Unit(3, 4), Unit(4, 6), Unit(6, 8), Unit(8, 8))
        self.last_linear = nn.Linear(8, config["backbone_config"]["num_classes"])

    def features(self, data: dict[str, Tensor]) -> Tensor:
        out: Tensor = self.backbone(data["image"])
        return out

    def classifier(self, features: Tensor) -> Tensor:
        out: Tensor = self.last_linear(features.mean(dim=(2, 3)))
        return out


def write_people(folder: Path, side: int, people: int = 6) -> None:
    """Write two images of each person, all pairs, and a gallery with a folder per person."""
    (folder / "faces").mkdir()
    names = []
    for p, face in enumerate(faces(people, side, seed=3)):
        for k in range(2):
            name = f"p{p}_{k}.png"
            Image.fromarray(np.rint(face.read() * 255 * (1 - 0.1 * k)).astype(np.uint8)).save(folder / "faces" / name)
            home = folder / "gallery" / f"person-{p}"
            home.mkdir(parents=True, exist_ok=True)
            (home / name).write_bytes((folder / "faces" / name).read_bytes())
            names.append(name)
    rows = ["image_a,image_b,same"]
    rows += [f"{a},{b},{int(a[:2] == b[:2])}" for i, a in enumerate(names) for b in names[i + 1 :]]
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")


def write_classes(folder: Path, classes: tuple[str, str], side: int, each: int = 6) -> None:
    for c, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i, face in enumerate(faces(each, side, seed=c)):
            Image.fromarray(np.rint(face.read() * 255).astype(np.uint8)).save(folder / name / f"a{i}.png")


def export_of(page: Path) -> None:
    """Run the page's Python, if it has any."""
    for block in blocks(page):
        if block.language == "python":
            exec(compile(block.text, str(page), "exec"), {"__name__": "__main__"})


SMALL = {
    "report": ["--samples", "2", "--judged", "1", "--fills", "1", "--compare", "0", "--explainer", "hirescam"],
    "why": ["--fills", "1"],
    "shortcuts": ["--limit", "4", "--fills", "1", "--compare", "0"],
}


def run_commands(page: Path, capsys: pytest.CaptureFixture[str]) -> list[str]:
    """Run every command of a page, with fewer samples and fills; return what each printed."""
    said = []
    capsys.readouterr()  # what the export printed is not a card
    lines = page.read_text(encoding="utf-8").splitlines()
    for words in command_lines(page):
        # A redirect is the shell's: the page's own line says where the output goes.
        (line,) = [one for one in lines if one.startswith(f"faithface {words[0]} ") and words[-1] in one][:1] or [""]
        assert main([*words, *SMALL.get(words[0], [])]) == 0, capsys.readouterr().err
        out = capsys.readouterr().out
        if " > " in line:
            Path(line.rpartition(" > ")[2].strip()).write_text(out)
        if "--out" in words:
            made = Path(words[words.index("--out") + 1]).read_text(encoding="utf-8")
            assert made.startswith("<!doctype html>")
            assert "<script" not in made
        said.append(out)
    return said


def module(monkeypatch: pytest.MonkeyPatch, name: str, **members: object) -> None:
    made = types.ModuleType(name)
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)


@pytest.fixture(autouse=True)
def there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    torch.manual_seed(0)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_recipe_is_run_here() -> None:
    run = {"insightface-buffalo.md", "adaface.md", "minifasnet.md", "deepfakebench.md"}
    assert {path.name for path in RECIPES.glob("*.md")} == run


def test_insightface_buffalo(there: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(there, 112)
    torch.onnx.export(
        Backbone().eval(),
        (torch.rand(2, 3, 112, 112),),
        "w600k_r50.onnx",
        input_names=["input.1"],
        output_names=["683"],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        dynamo=True,
        external_data=False,
    )
    said = run_commands(RECIPES / "insightface-buffalo.md", capsys)
    assert "RGB" in said[0]
    assert len(said) == 4
    assert "preprocessings on" in said[1]


def test_adaface(there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_people(there, 112)
    module(monkeypatch, "net", build_model=lambda name: {"ir_101": Ada}[name]())
    trained = Ada().eval()
    state = {f"model.{name}": value for name, value in trained.state_dict().items()}
    torch.save({"state_dict": {**state, "head.kernel": torch.rand(512, 10)}}, "adaface_ir101.ckpt")
    export_of(RECIPES / "adaface.md")
    run_commands(RECIPES / "adaface.md", capsys)
    # The card's path from RGB pixels in 0..1 gives what AdaFace's own path gives: BGR, (x − 0.5) / 0.5.
    model = open_model(load_card(there / "adaface_ir101.toml"))
    image = torch.rand(2, 3, 112, 112)
    with torch.no_grad():
        expected, _ = trained((image.flip(1) - 0.5) / 0.5)
    torch.testing.assert_close(model.embeddings(image), expected, atol=1e-5, rtol=1e-4)
    assert [out.name for out in onnx.load("adaface_ir101.onnx").graph.output] == ["embedding", "norm"]


def test_minifasnet(there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(there / "faces", ("bona-fide", "attack"), 80)
    module(monkeypatch, "src")
    module(monkeypatch, "src.model_lib")
    module(monkeypatch, "src.model_lib.MiniFASNet", MiniFASNetV2=Mini)
    trained = Mini((5, 5)).eval()
    torch.save({f"module.{name}": value for name, value in trained.state_dict().items()}, "2.7_80x80_MiniFASNetV2.pth")
    export_of(RECIPES / "minifasnet.md")
    said = run_commands(RECIPES / "minifasnet.md", capsys)
    assert "of 12 samples" in said[2]  # attacks count, though the card has no class of this name
    model = open_model(load_card(there / "minifasnet-v2.toml"))
    image = torch.rand(2, 3, 80, 80)
    with torch.no_grad():
        expected = trained(image.flip(1) * 255)
    torch.testing.assert_close(model.outputs(image), expected, atol=1e-3, rtol=1e-3)


def test_deepfakebench(there: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    write_classes(there / "frames", ("real", "fake"), 64)
    config = {
        "model_name": "xception",
        "resolution": 64,
        "mean": [0.5, 0.5, 0.5],
        "std": [0.5, 0.5, 0.5],
        "backbone_config": {"num_classes": 2},
    }
    (there / "config" / "detector").mkdir(parents=True)
    (there / "config" / "detector" / "xception.yaml").write_text(yaml.safe_dump(config))
    module(monkeypatch, "detectors", DETECTOR={"xception": Xception})
    trained = Xception(config).eval()
    torch.save(trained.state_dict(), "xception_best.pth")
    export_of(RECIPES / "deepfakebench.md")
    run_commands(RECIPES / "deepfakebench.md", capsys)
    model = open_model(load_card(there / "xception.toml"))
    image = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        expected = trained.classifier(trained.features({"image": image * 2 - 1}))
    torch.testing.assert_close(model.outputs(image), expected, atol=1e-5, rtol=1e-4)
