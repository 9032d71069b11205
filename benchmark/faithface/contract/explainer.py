"""What an explainer is: its :class:`Method`, its parameters, and one function from samples to maps.

Place in the flow: plugin authors subclass :class:`Explainer`; ``run`` calls :meth:`Explainer.explain`. May call
``errors``, ``tasks`` and the types beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, ClassVar, Literal

from faithface.contract.declared import check_literals
from faithface.contract.parameters import Parametrised
from faithface.errors import UsageError
from faithface.tasks import TASKS, Task

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

    from faithface.contract.maps import Maps
    from faithface.contract.model import FaceModel
    from faithface.contract.samples import Samples

ExplainerNeed = Literal["scores", "gradients", "activations", "truth", "contributions"]
Promise = Literal["completeness", "translation"]


@dataclass(frozen=True)
class Method:
    """What a saliency method is, apart from how it is set.

    Attributes:
        name: unique, lower case, such as ``grad-cam``.
        version: changes when a map can change.
        tasks: the tasks it can explain.
        needs: what of the model it uses: ``scores`` (forward only), ``gradients``, ``activations``; or a known
            answer: ``truth`` (of the dataset), ``contributions`` (of the model, see its card).
        seeded: whether it draws random numbers (always from :meth:`Samples.rng`).
        source: the paper.
        reexplains: False for maps that cannot be computed for altered images (precomputed ones).
        control: True for what is no method but shows what a number means, such as random maps or the ground truth;
            boards show it apart and do not rank it.
        promises: properties that the paper proves, which ``faithface.testing`` holds it to. ``completeness``: the
            values of a map sum to the explained scalar minus that of a fixed baseline, which
            :meth:`Explainer.promised_sum` states. ``translation``: where the
            network does not care by how many whole strides an image is moved, the map moves with the image.

    Raises:
        TypeError: ``tasks``, ``needs`` or ``promises`` is not a frozenset of known words; the nearest is suggested.
    """

    name: str
    version: str = "1"
    tasks: frozenset[Task] = frozenset(TASKS)
    needs: frozenset[ExplainerNeed] = frozenset({"scores"})
    seeded: bool = False
    source: str = ""
    reexplains: bool = True
    control: bool = False
    promises: frozenset[Promise] = frozenset()

    def __post_init__(self) -> None:
        check_literals(f"Method {self.name!r}", "tasks", self.tasks, Task)
        check_literals(f"Method {self.name!r}", "needs", self.needs, ExplainerNeed)
        check_literals(f"Method {self.name!r}", "promises", self.promises, Promise)


class Explainer(Parametrised, ABC):
    """A saliency method. Concrete explainers are frozen dataclasses; their fields are their parameters.

    Attributes:
        method: what the class is.
        needs_argument: whether it explains only once it was opened on something (``inverted:rise``).
    """

    method: ClassVar[Method]
    needs_argument: ClassVar[bool] = False
    declared_in = "method"
    declared = frozenset(field.name for field in fields(Method))

    @property
    def info(self) -> Method:
        """What this explainer is: the class's ``method``; a wrapper answers for what it wraps."""
        return self.method

    @property
    def name(self) -> str:
        return self.info.name

    @abstractmethod
    def explain(self, model: FaceModel, samples: Samples) -> Maps:
        """Explain a batch: one map per face, float32, finite, at the model's input size."""

    def files(self, sample_ids: Sequence[str]) -> Sequence[Path]:
        """Return the files that :meth:`explain` reads for these samples; default: none.

        When one of them changes, an interrupted run explains its samples again. Files that are parameters themselves
        (a field that holds a path) need not be listed.
        """
        return ()

    def promised_sum(self, model: FaceModel, samples: Samples) -> Tensor | None:
        """Return what each view's map must sum to, float32 M in the order of :meth:`Samples.views`; None: no promise.

        Of a pair it is the sum of similarity minus dissimilarity. For methods that promise completeness.
        """
        return None

    def with_argument(self, argument: str, resolve: Callable[[str], Explainer]) -> Explainer:
        """Return this explainer opened on what follows the colon in ``name:argument`` (``inverted:rise``)."""
        raise UsageError(f'explainer "{self.name}" takes no argument, got "{argument}"; write {self.name}')

    def bind(self, resolve: Callable[[str], Explainer]) -> Explainer:
        """Return this explainer with names of other explainers among its parameters resolved; default: itself."""
        return self
