"""A site that was made up, and a browser to look at it with."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from faithface.boards.board import make_board
from faithface.boards.site import read_extras, write_site
from tests.support.boards import AUDIT, records, write_made_gallery

FLAGS = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking"]
REQUIRED = "FAITHFACE_BROWSER"
"""Set to ``required`` where the tests in a browser must not be skipped, as ``.ci/run`` does."""


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a board with two models of two tasks, seven explainers, pictures, and an audit's verdicts."""
    root = tmp_path_factory.mktemp("made")
    kept = records()
    write_made_gallery(kept, root)
    write_site(make_board(kept, AUDIT), root / "site", read_extras(root), downloads=False)
    return root


@pytest.fixture(scope="session")
def browser() -> Iterator[Any]:
    """A headless Chromium; without one the test is skipped, except where it is required."""
    path = next(
        (found for name in ("chromium", "chromium-browser", "google-chrome") if (found := shutil.which(name))), ""
    )
    if not path:
        if os.environ.get(REQUIRED) == "required":
            pytest.fail("no Chromium, which is required here; install Debian's package chromium")
        pytest.skip("no Chromium is installed (Debian's package chromium)")
    sync_api = pytest.importorskip("playwright.sync_api")
    with sync_api.sync_playwright() as playwright:
        one = playwright.chromium.launch(executable_path=path, args=FLAGS, timeout=120_000)
        yield one
        one.close()
