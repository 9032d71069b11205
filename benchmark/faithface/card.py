"""The model card: what faithface must know of an ``.onnx`` file to run, explain and cite it.

Place in the flow: below the contract; imports only pydantic, ``files``, ``toml_files``, ``limits`` and ``errors``.
:func:`load_card` reads a card from a TOML file beside the ``.onnx`` file; every mistake is one line with the file, the
key and what is allowed. Whether a card fits its network is checked when the model is opened (``model/onnx_model.py``).
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from faithface.errors import UsageError, nearest
from faithface.files import check_file, is_inside, shorten
from faithface.limits import MAX_INPUT_SIDE, MAX_MODEL_BYTES
from faithface.toml_files import read_toml

MIN_STD = 1e-6  # below it, one step of an 8-bit pixel becomes more than float16 holds
OutputKind = Literal["embedding", "logits", "probabilities", "logit", "probability"]
MOST_INTERACTING = 10  # their Shapley values take 2 to the power of this many passes per image


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class InputCard(_Strict):
    """How pixels become the network's input: x = (pixel in [0, 1] − mean) / std, per channel in the order of ``color``.

    Attributes:
        size: height, width.
        color: channel order the network wants; GRAY = 0.299 R + 0.587 G + 0.114 B.
        layout: NCHW, or NHWC (TensorFlow exports).
        mean, std: one number per channel, or one for all.
    """

    size: tuple[int, int]
    color: Literal["RGB", "BGR", "GRAY"] = "RGB"
    layout: Literal["NCHW", "NHWC"] = "NCHW"
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)

    @property
    def channels(self) -> int:
        return 1 if self.color == "GRAY" else 3

    @field_validator("size")
    @classmethod
    def _positive_size(cls, value: tuple[int, int]) -> tuple[int, int]:
        if min(value) < 1 or max(value) > MAX_INPUT_SIDE:
            raise ValueError(f"height and width must be at least 1 and at most {MAX_INPUT_SIDE}")
        return value

    @model_validator(mode="after")
    def _per_channel(self) -> InputCard:
        for key in ("mean", "std"):
            given = getattr(self, key)
            if len(given) not in (1, self.channels):
                raise ValueError(f"{key} has {len(given)} numbers; expected 1 or {self.channels} for {self.color}")
            if not all(math.isfinite(number) for number in given):
                raise ValueError(f"{key} is {list(given)}; expected finite numbers")
        if any(abs(s) < MIN_STD for s in self.std):
            raise ValueError(f"std must not be 0, nor below {MIN_STD:g}")
        return self


class OutputCard(_Strict):
    """Which graph output is meant and what it is.

    Attributes:
        name: graph output; "" = the first.
        kind: ``embedding`` for verification; for classifiers ``logits`` or ``probabilities`` (one unit per class) or
            ``logit`` or ``probability`` (one unit: [other, the class whose probability it is]).
        classes: names in output order.
        positive: the attack or synthetic class.
        similarity: how embeddings are compared.
        threshold: the decision threshold; for ``euclidean`` a distance. None: the equal-error point of the clean
            scores.
    """

    name: str = ""
    kind: OutputKind
    classes: tuple[str, ...] = ()
    positive: str = ""
    similarity: Literal["cosine", "euclidean"] = "cosine"
    threshold: float | None = Field(default=None, allow_inf_nan=False)

    @model_validator(mode="after")
    def _consistent(self) -> OutputCard:
        if self.kind == "embedding":
            if self.classes or self.positive:
                raise ValueError("an embedding has no classes: omit classes and positive")
            return self
        if len(self.classes) < 2:
            raise ValueError(f"kind {self.kind} needs at least two class names in classes, got {len(self.classes)}")
        if self.kind in ("logit", "probability") and len(self.classes) != 2:
            raise ValueError(f"a one-unit output ({self.kind}) has exactly two classes, got {len(self.classes)}")
        if self.positive and self.positive not in self.classes:
            raise ValueError(f"positive '{self.positive}' is not among classes {list(self.classes)}")
        return self


class ExplainCard(_Strict):
    """Choices for explainers: ``layer`` for CAMs; "" = the last activation whose spatial extent is at least 7."""

    layer: str = ""


class ContributionsCard(_Strict):
    """For a network that gives its own mechanism: a further graph output with what each patch of the image contributes.

    Attributes:
        output: name of the graph output. Classifiers: N×P, or N×P×C where ``sums_to`` is ``logits``. Verification:
            N×P×D, one weighted embedding per patch; the contribution of a patch to a pair is the dot product of its
            rows in both images. P = rows · columns, row by row.
        grid: rows and columns of patches; the image divides into them evenly.
        sums_to: what the contributions sum to, once ``offset`` is added: the cosine ``similarity`` of a pair, the
            ``logit-difference`` (positive class minus the other), or ``logits`` (each class its own).
        offset: the score where all contributions are 0.
        interacting: indices of patches whose contributions depend on each other. Empty: a patch's contribution depends
            on its own pixels only.
    """

    output: str = Field(min_length=1)
    grid: tuple[int, int]
    sums_to: Literal["similarity", "logit-difference", "logits"]
    offset: float = 0.0
    interacting: tuple[int, ...] = ()

    @property
    def patches(self) -> int:
        """Number of patches, P."""
        return self.grid[0] * self.grid[1]

    @model_validator(mode="after")
    def _patches_exist(self) -> ContributionsCard:
        if min(self.grid) < 1:
            raise ValueError(f"grid is {list(self.grid)}; rows and columns must be at least 1")
        wrong = [p for p in self.interacting if not 0 <= p < self.patches]
        if wrong:
            raise ValueError(f"interacting names patch {wrong[0]}; patches are 0 to {self.patches - 1}")
        if len(set(self.interacting)) != len(self.interacting):
            raise ValueError(f"interacting names a patch twice: {list(self.interacting)}")
        if len(self.interacting) == 1 or len(self.interacting) > MOST_INTERACTING:
            raise ValueError(
                f"interacting names {len(self.interacting)} patches; expected none, or 2 to {MOST_INTERACTING}"
            )
        return self


class ModelCard(_Strict):
    """One model: what it is, where it comes from, how to feed it and how to read it.

    Attributes:
        name: unique, lower case.
        task: ``verification``, ``pad`` or ``synthetic-detection``.
        file: the ``.onnx`` file; relative paths are relative to the card.
        family: models that differ only in training run share a family; "" = the name.
        run: which training run of the family.
        contributions: a further output with the network's own mechanism; None where it gives none.
        root: the folder that ``file`` is relative to; filled in by the loader.
    """

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9._+-]*$")
    task: Literal["verification", "pad", "synthetic-detection"]
    file: str
    family: str = ""
    run: int = 0
    licence: str = ""
    source: str = ""
    sha256: str = ""
    input: InputCard
    output: OutputCard
    explain: ExplainCard = ExplainCard()
    contributions: ContributionsCard | None = None
    root: Path = Field(default=Path("."), exclude=True)

    @property
    def path(self) -> Path:
        """The model file's absolute path."""
        return (self.root / self.file).resolve()

    @model_validator(mode="after")
    def _task_fits(self) -> ModelCard:
        if (self.task == "verification") != (self.output.kind == "embedding"):
            raise ValueError(
                f"task {self.task} does not fit output kind {self.output.kind}: verification needs an embedding, "
                "pad and synthetic-detection need classes"
            )
        return self

    @model_validator(mode="after")
    def _contributions_fit(self) -> ModelCard:
        declared = self.contributions
        if declared is None:
            return self
        for key, pixels, parts in zip(("height", "width"), self.input.size, declared.grid, strict=True):
            if pixels % parts:
                raise ValueError(
                    f"contributions.grid: the {key} of {pixels} pixels does not divide into {parts} patches"
                )
        allowed = {
            "embedding": ("similarity",),
            "logits": ("logit-difference", "logits"),
            "logit": ("logit-difference",),
        }
        fitting = allowed.get(self.output.kind, ())
        if declared.sums_to not in fitting:
            raise ValueError(
                f"contributions.sums_to is '{declared.sums_to}', which output kind {self.output.kind} does not have; "
                f"expected {' or '.join(fitting) or 'no [contributions]'}"
            )
        if declared.sums_to == "similarity" and (self.output.similarity != "cosine" or declared.interacting):
            raise ValueError("contributions to a similarity need similarity = 'cosine' and no interacting patches")
        if declared.sums_to == "logit-difference" and len(self.output.classes) != 2:
            raise ValueError(
                f"contributions.sums_to 'logit-difference' needs two classes, got {len(self.output.classes)}"
            )
        if declared.output == self.output.name:
            raise ValueError(f"contributions.output is '{declared.output}', which is already the model's output")
        return self


_SECTIONS: dict[str, Any] = {
    "model": ModelCard,
    "input": InputCard,
    "output": OutputCard,
    "explain": ExplainCard,
    "contributions": ContributionsCard,
}
_MODEL_KEYS = ("name", "task", "file", "family", "run", "licence", "source", "sha256")


def load_card(path: str | Path, allow_outside: bool = False) -> ModelCard:
    """Read a card from a TOML file; ``file`` in it is relative to the card.

    Args:
        path: the card.
        allow_outside: a network outside the card's folder (by ``..``, an absolute path or a link) may be opened. A card
            may come from anybody; without this it cannot have other files read.

    Raises:
        UsageError: no such file, not TOML, an unknown section or key (the nearest is suggested), a missing or wrong
            value, or the ``.onnx`` file is not there or outside the card's folder.
    """
    path = Path(path)
    data = read_toml(path, "model card", "[model], [input] and [output]")
    card = parse_card(data, path)
    if not allow_outside and not is_inside(card.path, card.root):
        raise UsageError(
            f"{path}: model.file is {shorten(card.file, 200)}, which lies outside the card's folder; put the network "
            "beside the card, or give --allow-outside if you trust the card"
        )
    if not card.path.exists():
        raise UsageError(f"{path}: model.file is '{card.file}', but {card.path} is not there; put the weights there")
    check_file(card.path, MAX_MODEL_BYTES, "ONNX network")
    return card


def parse_card(data: dict[str, Any], path: Path) -> ModelCard:
    """Build a card from parsed TOML (sections ``model``, ``input``, ``output``, ``explain``, ``contributions``)."""
    for section, value in data.items():
        if section not in _SECTIONS:
            raise UsageError(f"{path}: unknown section [{section[:80]}]; {nearest(section, _SECTIONS)}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {section} is {shorten(value)}; expected a section [{section}]")
        known = _MODEL_KEYS if section == "model" else tuple(_SECTIONS[section].model_fields)
        for key in value:
            if key not in known:
                raise UsageError(f"{path}: unknown key '{key[:80]}' in [{section}]; {nearest(key, known)}")
    for section in ("model", "input", "output"):
        if section not in data:
            raise UsageError(f"{path}: section [{section}] is missing; expected [model], [input] and [output]")
    parts = {k: v for k, v in data.items() if k != "model"}
    try:
        return ModelCard(**data["model"], **parts, root=path.resolve().parent)
    except ValidationError as error:
        raise UsageError(f"{path}: {_first_problem(error)}") from None


def _first_problem(error: ValidationError) -> str:
    """Say the first problem of a validation in one line: key, what was got, what was expected."""
    first = error.errors()[0]
    where = ".".join(str(part) for part in first["loc"])
    if where and not where.startswith(tuple(_SECTIONS)):
        where = f"model.{where}"
    if first["type"] == "missing":
        return f"{where} is missing"
    message = first["msg"].removeprefix("Value error, ")
    got = first.get("input")
    shown = f" (got {shorten(got)})" if isinstance(got, (str, int, float, list, tuple)) else ""
    return f"{where}: {message}{shown}" if where else message
