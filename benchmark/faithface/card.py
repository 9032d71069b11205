"""The model card: what faithface must know of an ``.onnx`` file to run, explain and cite it.

Place in the flow: below the contract; imports only pydantic and ``errors``. :func:`load_card` reads a card from a TOML
file beside the ``.onnx`` file; every mistake is one line with the file, the key and what is allowed. Whether a card
fits its network is checked when the model is opened (``model/onnx_model.py``).
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator, model_validator

from faithface.errors import UsageError, nearest

OutputKind = Literal["embedding", "logits", "probabilities", "logit", "probability"]


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
        if min(value) < 1:
            raise ValueError("height and width must be at least 1")
        return value

    @model_validator(mode="after")
    def _per_channel(self) -> InputCard:
        for key in ("mean", "std"):
            given = getattr(self, key)
            if len(given) not in (1, self.channels):
                raise ValueError(f"{key} has {len(given)} numbers; expected 1 or {self.channels} for {self.color}")
        if any(s == 0 for s in self.std):
            raise ValueError("std must not be 0")
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
    threshold: float | None = None

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


class ModelCard(_Strict):
    """One model: what it is, where it comes from, how to feed it and how to read it.

    Attributes:
        name: unique, lower case.
        task: ``verification``, ``pad`` or ``synthetic-detection``.
        file: the ``.onnx`` file; relative paths are relative to the card.
        family: models that differ only in training run share a family; "" = the name.
        run: which training run of the family.
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


_SECTIONS: dict[str, Any] = {"model": ModelCard, "input": InputCard, "output": OutputCard, "explain": ExplainCard}
_MODEL_KEYS = ("name", "task", "file", "family", "run", "licence", "source", "sha256")


def load_card(path: str | Path) -> ModelCard:
    """Read a card from a TOML file; ``file`` in it is relative to the card.

    Raises:
        UsageError: no such file, not TOML, an unknown section or key (the nearest is suggested), a missing or wrong
            value, or the ``.onnx`` file is not there.
    """
    path = Path(path)
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise UsageError(
            f"{path}: no such model card; expected a TOML file with [model], [input] and [output]"
        ) from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: not a TOML file ({error}); expected [model], [input] and [output]") from None
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror})") from None
    card = parse_card(data, path)
    if not card.path.is_file():
        raise UsageError(f"{path}: model.file is '{card.file}', but {card.path} is not there; put the weights there")
    return card


def parse_card(data: dict[str, Any], path: Path) -> ModelCard:
    """Build a card from parsed TOML (sections ``model``, ``input``, ``output``, ``explain``)."""
    for section, value in data.items():
        if section not in _SECTIONS:
            raise UsageError(f"{path}: unknown section [{section}]; {nearest(section, _SECTIONS)}")
        if not isinstance(value, dict):
            raise UsageError(f"{path}: {section} is {value!r}; expected a section [{section}]")
        known = _MODEL_KEYS if section == "model" else tuple(_SECTIONS[section].model_fields)
        for key in value:
            if key not in known:
                raise UsageError(f"{path}: unknown key '{key}' in [{section}]; {nearest(key, known)}")
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
    shown = f" (got {got!r})" if isinstance(got, (str, int, float, list, tuple)) else ""
    return f"{where}: {message}{shown}" if where else message
