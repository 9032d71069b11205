"""A face divided into named regions, and what each contributes to a decision: exact Shapley values over all subsets.

Place in the flow: ``answers, metrics → regions → perturb``. A model is run through the perturbation engine alone.

``partition.py`` (which pixel belongs to which part of the face) · ``fills.py`` (whose pixels replace a region) ·
``subsets.py`` (scores of all 2^k subsets of regions) · ``shapley.py`` (exact values, intervals, reliability) ·
``values.py`` (all of it for one sample) · ``agreement.py`` (an explainer's map against the exact values)
"""

from faithface.regions.agreement import Agreement, agreement, region_sums, specific_agreement
from faithface.regions.fills import FillSet, make_fills
from faithface.regions.partition import (
    CROPS,
    PARTITIONS,
    Crop,
    Regions,
    regions_from_masks,
    regions_of,
    regions_of_grid,
    regions_of_places,
)
from faithface.regions.shapley import RegionValues, interactions, reliability, shapley_values
from faithface.regions.values import region_values

__all__ = [
    "CROPS",
    "PARTITIONS",
    "Agreement",
    "Crop",
    "FillSet",
    "RegionValues",
    "Regions",
    "agreement",
    "interactions",
    "make_fills",
    "region_sums",
    "region_values",
    "regions_from_masks",
    "regions_of",
    "regions_of_grid",
    "regions_of_places",
    "reliability",
    "shapley_values",
    "specific_agreement",
]
