"""From a question about one decision to an answer that can be checked: exact region Shapley values and their page.

Place in the flow: ``cli → answers → run, perturb, model``. Called by the command line and by users.

``regions.py`` (which pixel belongs to which part of the face) · ``fills.py`` (whose pixels replace a region) ·
``subsets.py`` (scores of all 2^k subsets of regions) · ``shapley.py`` (exact values, intervals, reliability) ·
``agreement.py`` (an explainer's map against the exact values) · ``why.py`` (one decision, answered) · ``wording.py``
(the sentence on top) · ``page.py`` (the answer as HTML)
"""

from faithface.answers.agreement import Agreement, agreement, region_sums, specific_agreement
from faithface.answers.regions import CROPS, PARTITIONS, Crop, Regions, regions_from_masks, regions_of
from faithface.answers.shapley import RegionValues, interactions, reliability, shapley_values
from faithface.answers.why import Answer, why

__all__ = [
    "CROPS",
    "PARTITIONS",
    "Agreement",
    "Answer",
    "Crop",
    "RegionValues",
    "Regions",
    "agreement",
    "interactions",
    "region_sums",
    "regions_from_masks",
    "regions_of",
    "reliability",
    "shapley_values",
    "specific_agreement",
    "why",
]
