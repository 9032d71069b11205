"""What a map costs. Place in the flow: a metric on what the runner measured; calls only ``_maps`` and the contract."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from faithface.contract import Explainer, FaceModel, Maps, Metric, Protocol, Samples, Scores, Value
from faithface.metrics import _maps
from faithface.reasons import Reason, ReasonCode

UNMEASURED = Reason(ReasonCode.UNDEFINED, "the making of these maps was not measured")


@dataclass(frozen=True)
class ExplanationCost(Metric):
    """Seconds and network passes that one explanation takes.

    Formula
        What the batch took, divided by its number of samples; the same value for every sample of a batch.

    Values
        (headline): wall-clock seconds.
        ``:forward``: images passed forward through the network.
        ``:backward``: images passed backward; a backward pass of one output for one image counts 1, so that a full
        Jacobian of a 512-d embedding counts 512.

    Range and direction
        0 to infinity, all three. Lower is better. The best value is 0.0.

    Which maps
        All samples; for pairs, the maps of both images together.

    Special cases
        Maps whose making was not measured (precomputed ones) have no value.

    Differs from other libraries
        None of those known reports passes. Seconds depend on the machine and on the batch; passes do not.

    Known weaknesses
        The seconds are the one number that is not expected to come out the same in a second run; compare them only
        within one run on one device, which the record names. Work that explainers share, such as one backward pass
        for all CAMs of a model, is counted for whichever came first: run an explainer alone to see its full price.

    Cost
        No forward passes: the passes reported are those of the explanation.

    Source
        faithface.
    """

    protocol = Protocol(
        id="cost@1",
        question="What does a user pay for one explanation?",
        better="lower",
        family="cost",
        range=(0.0, float("inf")),
        best=0.0,
        tolerance=float("inf"),
        values=(
            Value(),
            Value("forward"),
            Value("backward"),
        ),
        source="faithface",
    )

    def score(self, model: FaceModel, samples: Samples, maps: Maps, explainer: Explainer | None = None) -> Scores:
        n = len(samples)
        if maps.cost is None:
            blank = {name: np.full(n, np.nan) for name in self.protocol.value_names}
            return _maps.result(blank, dict.fromkeys(range(n), UNMEASURED))
        parts = (maps.cost.seconds, maps.cost.forward, maps.cost.backward)
        return _maps.result(
            {name: np.full(n, part / n) for name, part in zip(self.protocol.value_names, parts, strict=True)}, {}
        )
