"""The model card: what faithface must know of an ``.onnx`` file to run, explain and cite it.

Place in the flow: below the contract; imports only pydantic, ``limits`` and ``errors``. Reading a card from a file, and
holding it against its network, is in ``model/card.py``.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from faithface.limits import MAX_INPUT_SIDE

MIN_STD = 1e-6  # below it, one step of an 8-bit pixel becomes more than float16 holds
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
                raise ValueError("an embedding has no classes: leave classes and positive out")
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
