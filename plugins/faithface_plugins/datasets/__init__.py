"""Datasets in the box. Place in the flow: registered by ``faithface_plugins``; imports its own modules and the contract."""

from __future__ import annotations

from faithface.contract import Dataset
from faithface_plugins.datasets.folder import Folder
from faithface_plugins.datasets.pairs import Pairs

DATASETS: tuple[Dataset, ...] = (Folder(), Pairs())
