"""The contact sheets of the datasheet: the committed ones are what the command writes, and small."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from faithface_plugins.datasets.planted import sheet

IMAGES = Path(__file__).parents[4] / "docs" / "images"


def test_the_committed_sheets_are_current_and_small(tmp_path):
    for path in sheet.write(tmp_path):
        committed = IMAGES / path.name
        assert committed.stat().st_size < 300_000
        fresh, old = (np.asarray(Image.open(p).convert("RGB"), dtype=float) for p in (path, committed))
        assert fresh.shape == old.shape
        assert np.abs(fresh - old).mean() < 2, f"{path.name}: run python -m faithface_plugins.datasets.planted.sheet"


def test_tiled_keeps_images_in_reading_order():
    images = np.arange(5, dtype=np.uint8)[:, None, None, None] * np.ones((5, 2, 3, 3), np.uint8)
    got = sheet.tiled(images, 2)
    assert got.shape == (4, 6, 3)
    assert got[::2, ::3, 0].tolist() == [[0, 1], [2, 3]]


def test_the_sheet_needs_a_known_task():
    with pytest.raises(ValueError, match="task: got 'gait'"):
        sheet.cued("gait")
