"""What a fill is: its :class:`Filling`, its parameters, and one function from removed pixels to what replaces them.

Place in the flow: plugin authors subclass :class:`Fill`; ``perturb.fills`` calls :meth:`Fill.fill` and checks what it
returns. May call ``errors``, ``specs``, ``tasks`` and the types beside it.

The fills that ship with faithface are no instances of this class; they are named in :data:`BUILTIN`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from faithface.contract.declared import check_literals
from faithface.contract.parameters import Parametrised
from faithface.specs import canonical
from faithface.tasks import TASKS, Task

if TYPE_CHECKING:
    from torch import Tensor

    from faithface.contract.dataset import Pair, Sample
    from faithface.contract.model import FaceModel
    from faithface.contract.samples import Samples

BUILTIN = frozenset({"stranger", "partner", "blur", "black", "mean", "rise", "linear"})
"""The fills of faithface (protocol rule 5)."""
RESERVED = BUILTIN | {"auto", "none"}
"""Names that no other fill may have: metrics use them as values of ``fill``."""
SIDES = ("", "-b")


@dataclass(frozen=True)
class Filling:
    """What a fill is, apart from how it is set.

    Attributes:
        name: unique, lower case, such as ``inpainted``; users write ``gap@1(fill=inpainted)``.
        version: changes when a pixel can change.
        tasks: the tasks whose images it can fill.
        sees_mask: whether the fill depends on which pixels are removed, as inpainting does. One that does not is made
            once for each face and shared by all metrics and explainers; one that does is made for each altered image.
        aligned: whether it puts another face in the place of this one, so that the dataset must declare its faces
            aligned.
        seeded: whether it draws random numbers (always from :meth:`Removal.rng`).
        source: the paper, or where the generator comes from.

    Raises:
        TypeError: ``tasks`` is not a frozenset of known words; the nearest is suggested.
    """

    name: str
    version: str = "1"
    tasks: frozenset[Task] = frozenset(TASKS)
    sees_mask: bool = False
    aligned: bool = False
    seeded: bool = False
    source: str = ""

    def __post_init__(self) -> None:
        check_literals(f"Filling {self.name!r}", "tasks", self.tasks, Task)


@dataclass(frozen=True, eq=False)
class Removal:
    """Faces of which pixels are removed: what a fill receives.

    Attributes:
        images: float32 M×3×H×W, RGB in [0, 1], at the model's input size, on the model's device.
        removed: bool M×H×W, True where a pixel is removed. All True for a fill that does not see the mask.
        samples: the batch that the faces belong to.
        rows: for each of the M faces, the index of its sample in the batch.
        side: 0 for a classifier's image and for a pair's first image (the probe), 1 for a pair's second.
    """

    images: Tensor
    removed: Tensor
    samples: Samples
    rows: tuple[int, ...]
    side: int = 0

    def __len__(self) -> int:
        return len(self.rows)

    def item(self, index: int) -> Sample | Pair:
        """Return the sample, or the pair, that face ``index`` belongs to."""
        return self.samples.items[self.rows[index]]

    def rng(self, index: int, purpose: str) -> np.random.Generator:
        """Return the generator of face ``index`` for ``purpose``: the same for every mask of one face, and independent
        of batch, order and worker.
        """
        return self.samples.rng(self.rows[index], f"fill-{purpose}{SIDES[self.side]}")


class Fill(Parametrised, ABC):
    """What replaces removed pixels. Concrete fills are frozen dataclasses; their fields are their parameters, and each
    has a default, so that a record names a fill by what differs from the defaults.

    Attributes:
        filling: what the class is.
    """

    filling: ClassVar[Filling]
    declared_in = "filling"
    declared = frozenset(field.name for field in fields(Filling))

    @property
    def name(self) -> str:
        return self.filling.name

    @abstractmethod
    def fill(self, model: FaceModel, removal: Removal) -> Tensor:
        """Return what the faces look like where pixels are removed: float32 M×3×H×W in [0, 1].

        Only removed pixels are used; the others keep the face's own values, whatever is returned for them. The result
        depends on the face, its removed pixels, the suite's seed and the parameters, and on nothing else.
        """

    def __str__(self) -> str:
        """Return the fill as users write it: ``inpainted(steps=20)``."""
        return canonical(self.name, self, type(self)())
