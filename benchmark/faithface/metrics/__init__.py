"""The builtin metrics: each file is one written protocol, each docstring its text; the curves are one table.

Place in the flow: ``faithface.plugins`` registers :data:`METRICS`; the runner scores maps with them. May call
``regions``, ``perturb``, ``model``, ``tasks`` and the contract. Listings and boards import these modules for what they
declare, so torch, ONNX, scipy, ``model``, ``regions`` and ``perturb`` are imported only where a metric scores.

:data:`METRICS` holds one instance of every metric with its registered parameters; ``describe`` gives a protocol as
text.
"""

from __future__ import annotations

from faithface.contract import Metric
from faithface.metrics.average_drop import AverageDrop
from faithface.metrics.average_increase import AverageIncrease
from faithface.metrics.confidence_drop import ConfidenceDrop
from faithface.metrics.contribution_correlation import ContributionCorrelation
from faithface.metrics.contribution_error import ContributionError
from faithface.metrics.cost import ExplanationCost
from faithface.metrics.curves import METRICS as CURVES
from faithface.metrics.degradation import METRICS as DEGRADATION
from faithface.metrics.entropy import Entropy
from faithface.metrics.gap_specific import METRICS as GAP_SPECIFIC
from faithface.metrics.gates import METRICS as GATES
from faithface.metrics.geometry import METRICS as GEOMETRY
from faithface.metrics.histogram_entropy import HistogramEntropy
from faithface.metrics.inpainting_game import METRICS as INPAINTING_GAME
from faithface.metrics.localisation_auc import LocalisationAuc
from faithface.metrics.max_sensitivity import METRICS as MAX_SENSITIVITY
from faithface.metrics.noise_stability import METRICS as NOISE_STABILITY
from faithface.metrics.optimum_share import METRICS as OPTIMUM_SHARE
from faithface.metrics.out_of_set_shift import METRICS as OUT_OF_SET_SHIFT
from faithface.metrics.part_swap import METRICS as PART_SWAP
from faithface.metrics.patch_replacement import METRICS as PATCH_REPLACEMENT
from faithface.metrics.pointing_game import PointingGame
from faithface.metrics.randomisation import METRICS as RANDOMISATION
from faithface.metrics.region_shapley import METRICS as REGION_SHAPLEY
from faithface.metrics.relevance_mass import RelevanceMass
from faithface.metrics.relevance_rank import RelevanceRank
from faithface.metrics.retention import Retention
from faithface.metrics.road import Road
from faithface.metrics.sparseness import Sparseness
from faithface.metrics.training_stability import METRICS as TRAINING_STABILITY

METRICS: tuple[Metric, ...] = (
    *CURVES,
    ConfidenceDrop(),
    Retention(),
    AverageDrop(),
    AverageIncrease(),
    Road(),
    Entropy(),
    HistogramEntropy(),
    Sparseness(),
    PointingGame(),
    RelevanceMass(),
    RelevanceRank(),
    LocalisationAuc(),
    ContributionCorrelation(),
    ContributionError(),
    *NOISE_STABILITY,
    *OUT_OF_SET_SHIFT,
    *GEOMETRY,
    *TRAINING_STABILITY,
    *DEGRADATION,
    *MAX_SENSITIVITY,
    *RANDOMISATION,
    *PATCH_REPLACEMENT,
    *INPAINTING_GAME,
    *REGION_SHAPLEY,
    *GAP_SPECIFIC,
    *OPTIMUM_SHARE,
    *PART_SWAP,
    *GATES,
    ExplanationCost(),
)

__all__ = ["METRICS"]
