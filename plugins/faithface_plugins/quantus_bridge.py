"""A bridge to Quantus: any of its metrics on our maps, as it is and unranked: ``quantus:Sparseness``.

Place in the flow: registered by the package beside the core's metrics. Calls the contract; Quantus is the extra
``bridges`` and is imported when a metric is opened.
"""

from __future__ import annotations

import ast
import contextlib
import inspect
import io
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from faithface.card import ModelCard
from faithface.contract import Dataset, Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores
from faithface.errors import NotApplicable, UsageError, nearest
from faithface.reasons import Reason, ReasonCode
from faithface.specs import split_params


@dataclass(frozen=True)
class QuantusBridge(Metric):
    """A metric of Quantus on classifiers, by Quantus's own defaults.

    Quantus gets the torch twin, the pixels in [0, 1], the predicted classes and our maps. Its defaults differ from our
    protocols: maps are made absolute and scaled by their largest value, masking uses Quantus's own fills, and its
    global random generators are used. Direction and range are not known, so the number is shown and never ranked.

    Parameters:
        measure: the class and its arguments, such as ``Sparseness`` or ``PixelFlipping(features_in_step=16)``.

    Source: Hedström et al. 2023, Quantus 0.6, arXiv:2202.06861. Metrics that need masks (``s_batch``) or explain again
    (``explain_func``) are refused.
    """

    measure: str = ""

    protocol = Protocol(
        "quantus@1",
        question="What does a metric of Quantus say?",
        range=(float("-inf"), float("inf")),
        needs=frozenset({"twin"}),
        family="description",
        cost="that of the class",
        source="Hedström et al. 2023, arXiv:2202.06861",
        tasks=frozenset({"pad", "synthetic-detection"}),
    )

    def with_argument(self, argument: str) -> Metric:
        made = QuantusBridge(argument)
        made.opened()
        return made

    def check(self, card: ModelCard, dataset: Dataset, explainer: Explainer | None = None) -> None:
        if not self.measure:
            raise NotApplicable("quantus needs the name of a metric: write quantus:NAME, such as quantus:Sparseness")

    def opened(self) -> Any:
        """Return the Quantus metric.

        Raises:
            UsageError: Quantus is not installed, or has no such metric, or it refuses its arguments.
        """
        quantus = import_quantus()
        name, params = split_params(self.measure)
        known = sorted({one for group in quantus.AVAILABLE_METRICS.values() for one in group} | set(_classes(quantus)))
        kind: Any = _classes(quantus).get(name)
        if kind is None:
            raise UsageError(f'quantus has no metric "{name}"; {nearest(name, known)}')
        takes = inspect.signature(kind).parameters
        for key, _value in params:
            if key not in takes:
                raise UsageError(f'quantus\'s "{name}" has no argument "{key}"; {nearest(key, takes)}')
        with _quiet():
            return kind(**{key: _literal(value) for key, value in params}, disable_warnings=True)

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        measure = self.opened()
        # Quantus scores a batch in one call; one call for each sample keeps a value free of its company.
        values, reasons = [], {}
        for i in range(len(samples)):
            with _quiet(), _seeded(samples.seeds("quantus")[i] % 2**32):
                found = measure(
                    model=model.twin,
                    x_batch=samples.images[i : i + 1].cpu().numpy(),
                    y_batch=samples.clean.predicted[i : i + 1].cpu().numpy(),
                    a_batch=maps.headline[i : i + 1, None].cpu().numpy(),
                    device=model.device,
                )
            value = np.asarray(found, dtype=np.float64)
            if value.size != 1 or not np.isfinite(value).all():
                reasons[i] = Reason(
                    ReasonCode.UNDEFINED, f"Quantus gave {value.size} numbers, or one that is not finite"
                )
                values.append(np.nan)
            else:
                values.append(float(value.reshape(())))
        return Scores({"": np.array(values, dtype=np.float64)}, reasons)


def import_quantus() -> Any:
    """Return Quantus, which needs ``numpy.trapz``, a name that numpy 2.4 has dropped.

    Raises:
        UsageError: it is not installed.
    """
    if not hasattr(np, "trapz"):
        setattr(np, "trapz", np.trapezoid)  # noqa: B010 - a name that is not there
    try:
        with _quiet():
            import quantus
    except ImportError:
        raise UsageError('Quantus is not installed: python -m pip install "faithface[bridges]"') from None
    return quantus


def _classes(quantus: Any) -> dict[str, type]:
    from quantus.metrics.base import Metric as Base

    return {k: v for k, v in vars(quantus).items() if isinstance(v, type) and issubclass(v, Base)}


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


@contextlib.contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Give numpy's global generator, from which Quantus draws, a state of its own."""
    before = np.random.get_state()  # noqa: NPY002
    np.random.seed(seed)  # noqa: NPY002
    try:
        yield
    finally:
        np.random.set_state(before)  # noqa: NPY002


METRICS = (QuantusBridge(),)
