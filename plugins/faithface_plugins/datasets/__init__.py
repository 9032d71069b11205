"""The builtin datasets.

Place in the flow: registered by ``faithface_plugins``; imports its own modules and the contract.
"""

from __future__ import annotations

from faithface.contract import Dataset
from faithface_plugins.datasets.bins import Bin
from faithface_plugins.datasets.faceforensics import FaceForensics
from faithface_plugins.datasets.folder import Folder
from faithface_plugins.datasets.generators import Generators
from faithface_plugins.datasets.lfw import Lfw
from faithface_plugins.datasets.pad_layouts import PAD_DATASETS
from faithface_plugins.datasets.pairs import Pairs
from faithface_plugins.datasets.planted.datasets import DATASETS as PLANTED
from faithface_plugins.datasets.planted.shortcuts import PlantedShortcuts

DATASETS: tuple[Dataset, ...] = (
    Folder(),
    Pairs(),
    Generators(),
    FaceForensics(),
    Lfw(),
    Bin(),
    *PAD_DATASETS,
    *PLANTED,
    PlantedShortcuts(),
)
