"""Describe a model file: what ``faithface inspect`` prints. For a bare ``.onnx`` it drafts the card that is to be
completed (``draft.py``).

Place in the flow: called by the command line. May call ``card``, ``session``, ``onnx_model``, ``draft``, ``errors``.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from faithface.card import ModelCard, load_card
from faithface.errors import FaithfaceError, NotApplicable, UsageError
from faithface.hashing import model_digest
from faithface.model.draft import draft_card
from faithface.model.onnx_model import OnnxModel
from faithface.model.providers import working
from faithface.model.session import Port, Session, load_proto

OTHERS = 4  # candidates named beside the layer that is chosen


@dataclass(frozen=True)
class Report:
    """What was found in a model file.

    Attributes:
        path: the ``.onnx`` file.
        opset: version of the default operator set.
        inputs, outputs: the graph's ports.
        batch: ``dynamic``, or ``fixed at N`` with its consequence.
        providers: execution providers of this ONNX Runtime that load on this machine.
        parity: largest relative difference between the twin and ONNX Runtime; None where there is no twin or no card.
        gradient: error of the twin's gradients against differences of ONNX Runtime's outputs (see ``parity.py``); None
            where there is no twin, or the network is flat.
        layer: the chosen CAM layer, "" for none.
        grid: its height and width.
        layers: names of the last candidates besides it.
        notes: problems and advice, one line each.
        draft: a card to complete; "" where one was given.
    """

    path: str
    opset: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    batch: str
    providers: tuple[str, ...]
    sha256: str = ""
    parity: float | None = None
    gradient: float | None = None
    layer: str = ""
    grid: tuple[int, int] | None = None
    layers: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    draft: str = field(default="", repr=False)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def text(self) -> str:
        """Return the report as lines for a terminal."""
        lines = [f"file       {self.path}", f"sha256     {self.sha256}", f"opset      {self.opset}"]
        lines += [f"input      {_port(port)}" for port in self.inputs]
        lines += [f"output     {_port(port)}" for port in self.outputs]
        lines += [f"batch      {self.batch}", f"providers  {', '.join(self.providers)}"]
        if not self.draft:
            parity = "none" if self.parity is None else f"outputs equal to {self.parity:.1e} (relative)"
            if self.gradient is not None:
                parity += f"; gradients to {max(self.gradient, 1e-3):.1%} of differences"
            lines.append(f"twin       {parity}")
            grid = f" ({self.grid[0]}×{self.grid[1]})" if self.grid else ""
            lines.append(f"layer      {self.layer or 'none'}{grid}")
            if self.layers:
                lines.append(f"           others: {', '.join(self.layers)}")
        lines += [f"note       {note}" for note in self.notes]
        if self.draft:
            lines += ["", "# A card to complete; save it beside the file as a .toml:", self.draft]
        return "\n".join(lines)


def _port(port: Port) -> str:
    shape = "×".join("?" if d is None else str(d) for d in port.shape)
    return f"{port.name}  {port.dtype.removeprefix('tensor(').removesuffix(')')} {shape}"


def inspect_model(path: str | Path, device: str = "cpu", allow_outside: bool = False) -> Report:
    """Inspect a card (``.toml``) with its network, or a bare ``.onnx`` file.

    Raises:
        UsageError: the file is neither, or it cannot be opened.
    """
    path = Path(path)
    if path.suffix.lower() == ".toml":
        return _inspect_card(load_card(path, allow_outside), device)
    if path.suffix.lower() == ".onnx":
        return _inspect_bare(path, device)
    raise UsageError(f"{path}: expected a model card (.toml) or a network (.onnx)")


def _inspect_card(card: ModelCard, device: str) -> Report:
    model = OnnxModel(card, device, batch_size=4)
    layer, grid = "", None
    names: tuple[str, ...] = ()
    try:
        twin, reason = model.twin, ""
    except NotApplicable as error:
        twin, reason = None, str(error)
    notes = [*model.notes, *([reason] if reason else [])]
    if twin is not None:
        try:
            found = twin.find_layer(card.explain.layer)
            layer, grid = found.name, found.grid
        except FaithfaceError as error:
            notes.append(str(error))
        names = tuple(other.name for other in twin.layers() if other.name != layer)[-OTHERS:]
    batch = f"fixed at {model.fixed_batch}" if model.fixed_batch else "dynamic, rows independent"
    return Report(
        str(card.path),
        _opset(model.proto),
        tuple(model.session.inputs),
        tuple(model.session.outputs),
        batch,
        working(),
        sha256=model.sha256,
        parity=None if twin is None else model.comparison.outputs,
        gradient=None if twin is None else model.comparison.gradient,
        layer=layer,
        grid=grid,
        layers=names,
        notes=tuple(notes),
    )


def _inspect_bare(path: Path, device: str) -> Report:
    proto = load_proto(path)
    session = Session(path, device=device, what=str(path))
    notes = []
    if session.fixed_batch:
        notes.append("a fixed batch axis is slow; export the network again with a dynamic one")
    if len(session.outputs) > 1:
        notes.append("several outputs: name the one that is meant as output.name in the card")
    batch = f"fixed at {session.fixed_batch}" if session.fixed_batch else "dynamic"
    return Report(
        str(path),
        _opset(proto),
        tuple(session.inputs),
        tuple(session.outputs),
        batch,
        working(),
        sha256=model_digest(path),
        notes=tuple(notes),
        draft=draft_card(path, proto, session),
    )


def _opset(proto: Any) -> int:
    return next((entry.version for entry in proto.opset_import if entry.domain in ("", "ai.onnx")), 0)
