"""Write a trained network as the zoo ships it: an ``.onnx`` file, verified, and its card.

Place in the flow: called by ``train_zoo.py`` after ``loops.py``; calls torch's exporter, onnx and ONNX Runtime, and
``faithface`` only to read the card back.

The graph: input ``image`` (normalised as the card says, batch dynamic), output ``embedding`` or ``logits``, and of a
mechanism-exact network (``exact_networks.py``) ``contributions`` as a second output; every value
is named after the module that made it, such as ``/features.3/relu``, so that a layer has a name that can be read.
"""

from __future__ import annotations

import copy
import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn

from faithface.card import load_card
from training.exact_networks import Declared
from training.networks import MEAN, SIZE, STD, fold_norms
from training.recipes import Recipe

OPSET = 18
CONTRIBUTIONS = "contributions"
TOLERANCE = 1e-4
CLASSES = {"pad": ("bona-fide", "attack"), "synthetic-detection": ("real", "synthetic")}
SOURCE = "trained on planted faces by `python -m training.train_zoo` of the faithface repository"
EXACT_SOURCE = "made by `python -m training.train_exact` of the faithface repository"
LICENCE = "Apache-2.0"


def export(network: nn.Module, recipe: Recipe, folder: Path) -> Path:
    """Write ``<name>.onnx`` and ``<name>.toml`` into ``folder`` and return the card's path.

    Raises:
        RuntimeError: ONNX Runtime and torch disagree by more than ``TOLERANCE`` on some batch size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = fold_norms(copy.deepcopy(network)).to(memory_format=torch.contiguous_format)  # type: ignore[call-overload]
    output = "embedding" if recipe.task == "verification" else "logits"
    declared: Declared | None = getattr(network, "declared", None)
    program = torch.onnx.export(
        network,
        (torch.zeros(2, 3, SIZE, SIZE),),
        dynamo=True,
        opset_version=OPSET,
        input_names=["image"],
        output_names=[output] if declared is None else [output, CONTRIBUTIONS],
        dynamic_shapes=({0: torch.export.Dim("batch")},),
        verbose=False,
    )
    assert program is not None
    model = program.model_proto
    rename_values(model)
    onnx.checker.check_model(model, full_check=True)
    path = folder / f"{recipe.name}.onnx"
    onnx.save(model, path)
    verify(network, path)
    card = folder / f"{recipe.name}.toml"
    card.write_text(
        card_text(recipe, output, hashlib.sha256(path.read_bytes()).hexdigest(), declared), encoding="utf-8"
    )
    load_card(card)
    return card


def rename_values(model: onnx.ModelProto) -> None:
    """Name nodes and values after the module that made them, and drop the exporter's notes (paths, stack traces)."""
    graph = model.graph
    fixed = {v.name for v in (*graph.input, *graph.output)} | {w.name for w in graph.initializer}
    names: dict[str, str] = {}
    used: set[str] = set()
    for node in graph.node:
        scope = _module_of(node)
        kind = node.op_type.lower()
        stem = f"/{scope}/{kind}" if scope else f"/{kind}"
        for old in node.output:
            if old in fixed or not old:
                continue
            new, again = stem, 1
            while new in names.values():
                again += 1
                new = f"{stem}_{again}"
            names[old] = new
        node.name = stem if len(node.output) != 1 else names.get(node.output[0], stem)
        # The node of a graph output keeps the output's name for its value and may meet another's name here.
        while node.name in used:
            node.name += "_out"
        used.add(node.name)
        del node.metadata_props[:]
        node.doc_string = ""
    for node in graph.node:
        for values in (node.input, node.output):
            for at, old in enumerate(values):
                values[at] = names.get(old, old)
    for value in graph.value_info:
        value.name = names.get(value.name, value.name)
    for item in (*graph.value_info, *graph.input, *graph.output, *graph.initializer):
        del item.metadata_props[:]
        item.doc_string = ""
    del graph.metadata_props[:]
    del model.metadata_props[:]
    del model.functions[:]
    graph.name = "faithface-zoo"


def _module_of(node: onnx.NodeProto) -> str:
    """Return the dotted path of the module that a node comes from, "" where the exporter does not say."""
    for entry in node.metadata_props:
        if entry.key == "pkg.torch.onnx.name_scopes":
            scopes = [s for s in entry.value.strip("[]").replace("'", "").replace('"', "").split(", ") if s]
            parts = scopes[-2].split(".") if len(scopes) > 1 else []
            # "stem.conv" and "stem.act" are the insides of one unit: the operator's own name says which.
            return ".".join(parts[:-1] if parts and parts[-1] in ("conv", "act", "relu") else parts)
    return ""


def verify(network: nn.Module, path: Path) -> None:
    """Hold the file against the network on batches of 1 and 5 random images."""
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    generator = torch.Generator().manual_seed(0)
    for batch in (1, 5):
        image = torch.rand(batch, 3, SIZE, SIZE, generator=generator) * 2 - 1
        with torch.no_grad():
            outputs = network(image)
        expected = [out.numpy() for out in (outputs if isinstance(outputs, tuple) else (outputs,))]
        for one, other in zip(session.run(None, {"image": image.numpy()}), expected, strict=True):
            worst = float(np.abs(one - other).max()) if one.shape == other.shape else float("inf")
            if worst > TOLERANCE:
                raise RuntimeError(
                    f"{path}: ONNX Runtime and torch differ by {worst:.2e} at batch {batch}; allowed: {TOLERANCE:.0e}"
                )


def card_text(recipe: Recipe, output: str, sha256: str, declared: Declared | None = None) -> str:
    """Return the model card as TOML."""
    lines = [
        "[model]",
        f'name = "{recipe.name}"',
        f'task = "{recipe.task}"',
        f'file = "{recipe.name}.onnx"',
        f'family = "{recipe.family}"',
        f"run = {recipe.run}",
        f'licence = "{LICENCE}"',
        f'source = "{SOURCE if declared is None else EXACT_SOURCE}"',
        f'sha256 = "{sha256}"',
        "",
        "[input]",
        f"size = [{SIZE}, {SIZE}]",
        'color = "RGB"',
        f"mean = [{MEAN}]",
        f"std = [{STD}]",
        "",
        "[output]",
        f'name = "{output}"',
    ]
    if recipe.task == "verification":
        lines += ['kind = "embedding"', 'similarity = "cosine"']
    else:
        classes = CLASSES[recipe.task]
        lines += ['kind = "logits"', f'classes = ["{classes[0]}", "{classes[1]}"]', f'positive = "{classes[1]}"']
    if declared is not None:
        if declared.layer:
            lines += ["", "[explain]", f'layer = "{declared.layer}"']
        lines += ["", "[contributions]", f'output = "{CONTRIBUTIONS}"', f"grid = {list(declared.grid)}"]
        lines += [f'sums_to = "{declared.sums_to}"']
        lines += [f"offset = {declared.offset}"] if declared.offset else []
        lines += [f"interacting = {list(declared.interacting)}"] if declared.interacting else []
    return "\n".join(lines) + "\n"
