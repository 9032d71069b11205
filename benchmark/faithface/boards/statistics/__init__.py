"""The statistics of boards: intervals, paired comparisons, rank intervals, tie classes, agreement.

Place in the flow: ``collect`` and ``build`` call it; below them only ``faithface.seeds``. numpy at import,
scipy.special when a t distribution is needed. ``docs/explanation/statistics.md`` says what is claimed and why.

    design     which people stand in which samples
    means      variance, interval and test of a mean
    ranking    all pairs: corrected claims, rank intervals, tie classes
    needed     how many samples would separate two rivals
    bootstrap  intervals of summaries that are not means
    agreement  Kendall's tau between metrics, critical-difference diagrams, the overall order
"""

from faithface.boards.statistics.bootstrap import interval
from faithface.boards.statistics.design import make_design, make_units
from faithface.boards.statistics.means import Interval
from faithface.boards.statistics.ranking import (
    Comparisons,
    Designs,
    Place,
    better_than,
    pairwise,
    places,
    rank,
)

__all__ = [
    "Comparisons",
    "Designs",
    "Interval",
    "Place",
    "better_than",
    "interval",
    "make_design",
    "make_units",
    "pairwise",
    "places",
    "rank",
]
