"""Card presets for public networks: the preprocessing facts, so that the user gives only the file.

Place in the flow: read by the command line (``faithface models --presets [NAME]``). Imports ``card`` only. No weights
are shipped or downloaded; licences are those of the weights' authors, and several forbid commercial use.
"""

from __future__ import annotations

from dataclasses import dataclass

from faithface.card import ModelCard


@dataclass(frozen=True)
class Preset:
    """What is known about a public network.

    Attributes:
        name: as its authors call it.
        file: the usual name of its file.
        card: a card; its ``file`` is relative to where the user saves it.
        note: what the card cannot express, such as how the crop is made.
    """

    name: str
    file: str
    card: ModelCard
    note: str


def _verification(name: str, file: str, source: str, color: str = "RGB", **output: object) -> ModelCard:
    pixels = {"size": (112, 112), "color": color, "mean": (0.5,), "std": (0.5,)}
    return ModelCard.model_validate(
        {
            "name": name,
            "task": "verification",
            "file": file,
            "source": source,
            "licence": "see its authors",
            "input": pixels,
            "output": {"kind": "embedding", **output},
        }
    )


def presets() -> dict[str, Preset]:
    """Return the presets by name."""
    # Pixels reach these three networks as 0..255; std = 1/255 undoes the card's scaling to 0..1.
    raw = {"mean": (0.0,), "std": (1 / 255,)}
    sface = _verification(
        "sface", "face_recognition_sface_2021dec.onnx", "OpenCV Zoo, SFace (Zhong et al. 2021)", threshold=0.363
    )
    sface = sface.model_copy(update={"input": sface.input.model_copy(update=raw)})
    minifasnet = ModelCard.model_validate(
        {
            "name": "minifasnet-v2",
            "task": "pad",
            "file": "2.7_80x80_MiniFASNetV2.onnx",
            "source": "minivision-ai Silent-Face-Anti-Spoofing",
            "licence": "Apache-2.0",
            "input": {"size": (80, 80), "color": "BGR", **raw},
            "output": {"kind": "logits", "classes": ("attack-print", "bona-fide", "attack-replay")},
        }
    )
    arcface = "crops: five landmarks to the ArcFace template, 112×112"
    entries = [
        Preset(
            "w600k_r50",
            "w600k_r50.onnx",
            _verification("w600k_r50", "w600k_r50.onnx", "insightface buffalo_l, ResNet-50 trained on WebFace600K"),
            f"{arcface}; 512-d; the file's batch axis is often fixed at 1",
        ),
        Preset(
            "mobilefacenet",
            "w600k_mbf.onnx",
            _verification(
                "mobilefacenet", "w600k_mbf.onnx", "insightface buffalo_s, MobileFaceNet trained on WebFace600K"
            ),
            f"{arcface}; 512-d",
        ),
        Preset(
            "adaface_ir101",
            "adaface_ir101.onnx",
            _verification(
                "adaface_ir101", "adaface_ir101.onnx", "AdaFace (Kim et al. 2022), the user's own export", color="BGR"
            ),
            f"{arcface}; BGR; exports with two outputs give the embedding first, its norm second",
        ),
        Preset(
            "sface", sface.file, sface, f"{arcface}; 128-d; pixels 0..255, RGB; cosine threshold as published by OpenCV"
        ),
        Preset(
            "minifasnet-v2",
            minifasnet.file,
            minifasnet,
            "crops: the detected box enlarged 2.7 times, 80×80, BGR, pixels 0..255; the middle class is bona fide",
        ),
    ]
    return {entry.name: entry for entry in entries}


def preset_text(preset: Preset) -> str:
    """Return the preset's card as TOML, to be saved beside the file."""
    card = preset.card

    def numbers(values: tuple[float, ...]) -> str:
        return "[" + ", ".join(f"{v:.10g}" for v in values) + "]"

    lines = [
        f"# {preset.name}: {preset.note}",
        "[model]",
        f'name = "{card.name.lower()}"',
        f'task = "{card.task}"',
        f'file = "{card.file}"',
        f'licence = "{card.licence}"',
        f'source = "{card.source}"',
        "",
        "[input]",
        f"size = [{card.input.size[0]}, {card.input.size[1]}]",
        f'color = "{card.input.color}"',
        f"mean = {numbers(card.input.mean)}",
        f"std = {numbers(card.input.std)}",
        "",
        "[output]",
        f'kind = "{card.output.kind}"',
    ]
    if card.output.classes:
        lines.append("classes = [" + ", ".join(f'"{name}"' for name in card.output.classes) + "]")
    if card.output.threshold is not None:
        lines.append(f"threshold = {card.output.threshold:g}")
    return "\n".join(lines) + "\n"
