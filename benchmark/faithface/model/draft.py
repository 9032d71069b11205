"""Draft a model card from a bare ``.onnx`` file: what the file states, and guesses, marked as such.

Place in the flow: called by ``inspect.py``. May call ``session`` (ports), ``beginnings``, ``endings``, ``graph``; runs
the network on a few images to see the range of its outputs.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from faithface.errors import RunError
from faithface.model.beginnings import Scaling, leading_scaling
from faithface.model.endings import Ending, ending, looks_like_probabilities, output_kind
from faithface.model.session import Session

MOST_CLASSES = 16  # a network with more outputs than this is assumed to give embeddings
# Words in names of outputs and in metadata that show for which class a score is high.
POSITIVE_WORDS = ("spoof", "attack", "fake", "synthetic", "deepfake", "morph")
_NEGATIVE = ("live", "bona", "real", "genuine", "pristine")
_SYNTHETIC = ("fake", "synthetic", "deepfake", "gan", "diffusion")


@dataclass(frozen=True)
class Fact:
    """A line of a card: key, value in TOML, and how it is known. ``certain``: it is in the file."""

    key: str
    value: str
    certain: bool
    why: str

    def line(self) -> str:
        return f"{self.key} = {self.value}   # {'certain' if self.certain else 'guess'}: {self.why}"


def draft_card(path: Path, proto: onnx.ModelProto, session: Session) -> str:
    """Return a card in TOML; each line that is not free text says ``certain`` or ``guess``, and why."""
    shape = session.inputs[0].shape
    _, *rest = shape
    last = rest[-1] in (1, 3) and rest[0] not in (1, 3)
    channels, height, width = (rest[2], rest[0], rest[1]) if last else rest
    port = next(entry for entry in session.outputs if entry.name == session.output)
    size = (height or 112, width or 112)
    outputs = probe_outputs(session, size, channels or 3, last)
    units = outputs.shape[1] if outputs is not None else (port.shape[-1] if port.shape else None)
    end = ending(proto.graph, session.output)
    head = [f'name = "{_name(path)}"', _task(path, proto, session, end, units).line(), f'file = "{path.name}"']
    head += ['licence = ""   # yours to fill in', 'source = ""   # yours to fill in']
    known = bool(height and width)
    inside = leading_scaling(proto.graph)
    turned = "; the graph turns the channels round, as one trained on RGB does that takes BGR" * bool(
        inside is not None and inside.turned
    )
    body = [
        Fact("size", f"[{size[0]}, {size[1]}]", known, "the input's shape" if known else "the file does not fix it"),
        Fact("color", '"GRAY"', True, "one channel")
        if channels == 1
        else Fact("color", '"RGB"', False, f"RGB or BGR{turned}; try `faithface inspect CARD --dataset D`"),
        Fact(
            "layout", f'"{"NHWC" if last else "NCHW"}"', bool(channels), "where the channels are in the input's shape"
        ),
        *_normalisation(inside),
    ]
    out = [
        f'name = "{port.name}"   # {"certain: the only output" if len(session.outputs) == 1 else "guess: the first"}'
    ]
    out += [fact.line() for fact in _output(proto, session, end, units, outputs)]
    return "\n".join(["[model]", *head, "", "[input]", *(f.line() for f in body), "", "[output]", *out]) + "\n"


def _normalisation(inside: Scaling | None) -> list[Fact]:
    """Return mean and std: usual ones, or those that leave alone what the graph normalises itself."""
    if inside is None or inside.takes is None:
        also = "" if inside is None else f"; the graph begins with {inside}"
        usual = f"on pixels in 0..1, in the order of color; try --dataset{also}"
        return [Fact("mean", "[0.5]", False, usual), Fact("std", "[0.5]", False, "as mean")]
    why = f"the graph begins with {inside}: it takes 0..{inside.takes:g} and normalises itself"
    std = "[1.0]" if inside.takes == 1 else "[0.00392156862745098]"
    return [Fact("mean", "[0.0]", False, why), Fact("std", std, False, f"pixels times {inside.takes:g}")]


def probe_outputs(session: Session, size: tuple[int, int], channels: int, last: bool) -> np.ndarray | None:
    """Return outputs N×K of a few images over the usual ranges of input values; None where the network does not run."""
    rng = np.random.default_rng(0)
    rows = session.fixed_batch or 1
    shape = (rows, *size, channels) if last else (rows, channels, *size)
    found = []
    for low, high in ((0.0, 1.0), (-1.0, 1.0), (-2.0, 2.0), (0.0, 255.0)):
        for _ in range(2):
            try:
                got = session.run(rng.uniform(low, high, shape).astype(np.float32))
            except RunError:
                return None
            found.append(got.reshape(rows, -1))
    return np.concatenate(found)


def _name(path: Path) -> str:
    return "".join(ch if ch.isalnum() or ch in "._-" else "-" for ch in path.stem.lower()).strip("-._") or "model"


def _words(path: Path | None, proto: onnx.ModelProto, session: Session) -> str:
    told = [session.output, *(f"{e.key} {e.value}" for e in proto.metadata_props)]
    return " ".join([*(() if path is None else (path.stem,)), *told]).lower()


def _is_embedding(end: Ending, units: int | None) -> bool:
    return end.normalised or (not end.operator and (units is None or units > MOST_CLASSES))


def _task(path: Path, proto: onnx.ModelProto, session: Session, end: Ending, units: int | None) -> Fact:
    if _is_embedding(end, units):
        why = "the output is divided by its norm" if end.normalised else f"{units} outputs"
        return Fact("task", '"verification"', False, f"{why}; else pad or synthetic-detection")
    synthetic = any(word in _words(path, proto, session) for word in _SYNTHETIC)
    why = "names in the file" if synthetic else f"{units} output{'s' if units != 1 else ''}"
    other = "pad" if synthetic else "synthetic-detection"
    return Fact(
        "task", '"synthetic-detection"' if synthetic else '"pad"', False, f"{why}; else {other} or verification"
    )


def _output(
    proto: onnx.ModelProto, session: Session, end: Ending, units: int | None, outputs: np.ndarray | None
) -> list[Fact]:
    if _is_embedding(end, units):
        return [Fact("kind", '"embedding"', end.normalised, f"{units} outputs; classifiers have few")]
    said = output_kind(end, units)
    if said is not None:
        kind = Fact("kind", f'"{said}"', True, f"the graph ends in {end.operator}")
    elif outputs is not None and looks_like_probabilities(outputs):
        kind = Fact("kind", '"probabilities"', True, "on every image tried, outputs are in [0, 1] and sum to 1")
    else:
        usual = "logit" if units == 1 else "logits"
        kind = (
            Fact("kind", f'"{usual}"', True, "outputs leave [0, 1]")
            if _leaves_unit(outputs)
            else Fact("kind", f'"{usual}"', False, "the graph ends without Softmax or Sigmoid")
        )
    words = _words(None, proto, session)
    synthetic = any(word in words for word in _SYNTHETIC)
    first, second = ("real", "synthetic") if synthetic else ("bona-fide", "attack")
    if units == 1:
        # [other, the class whose probability it is].
        for hints, order in ((POSITIVE_WORDS, (first, second)), (_NEGATIVE, (second, first))):
            if any(word in words for word in hints):
                why = f"output '{session.output}' is named after the second, whose score it is"
                return [kind, _classes(order, False, why), Fact("positive", f'"{second}"', False, "by its name")]
        why = "a high output may mean either; the second is the class whose score it is. Swap them if needed"
        return [kind, _classes((second, first), False, why), Fact("positive", f'"{second}"', False, "by its name")]
    names = (first, second) if units == 2 else tuple(f"class-{i}" for i in range(units or 2))
    positive = second if units == 2 else names[-1]
    why = "the order of the outputs is nowhere in the file"
    return [
        kind,
        _classes(names, False, why),
        Fact("positive", f'"{positive}"', False, "the attack or synthetic class"),
    ]


def _leaves_unit(outputs: np.ndarray | None) -> bool:
    return outputs is not None and bool((outputs < -1e-3).any() or (outputs > 1 + 1e-3).any())


def _classes(names: tuple[str, ...], certain: bool, why: str) -> Fact:
    return Fact("classes", "[" + ", ".join(f'"{name}"' for name in names) + "]", certain, why)
