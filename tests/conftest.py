"""Fixtures and rules shared by all tests: where real faces are, what runs without a GPU, no network."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Deselect tests marked gpu where torch sees no device: they are not run, and not counted as skipped coverage."""
    if torch.cuda.is_available():
        return
    gone = [item for item in items if item.get_closest_marker("gpu")]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture
def _same_folder() -> Iterator[None]:
    """A test that leaves the process in another folder breaks those after it, Ray's workers among them."""
    before = Path.cwd()
    yield
    if Path.cwd() != before:
        os.chdir(before)
        pytest.fail(f"the test left the process in another folder than {before}")


@pytest.fixture(autouse=True)
def _no_network(_same_folder: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing may be downloaded in a test: a connection to anything but this machine fails at once.

    The folder is asked for before ``monkeypatch``, and so looked at after that has taken its changes back.
    """
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> object:
        host = address[0] if isinstance(address, tuple) else ""
        if isinstance(host, str) and host and not host.startswith(("127.", "::1", "localhost")) and not _is_own(host):
            raise RuntimeError(f"a test tried to connect to {host}; nothing may be downloaded in tests")
        return connect(self, address)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded)


def _is_own(host: str) -> bool:
    try:
        return host == socket.gethostbyname(socket.gethostname())
    except OSError:
        return False


@pytest.fixture(scope="session", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Digests of test files are not kept in the user's cache, and one engine runs all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FAITHFACE_CACHE", str(tmp_path_factory.mktemp("cache")))
        # The fastest engine depends on what else the machine does; tests of it choose for themselves.
        patch.setenv("FAITHFACE_ENGINE", "onnxruntime")
        yield


@pytest.fixture(scope="session")
def tiny_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which exported tiny networks are kept for the whole session."""
    return tmp_path_factory.mktemp("tiny")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real faces, which is not part of the repository; tests that need it skip where it is not there."""
    path = Path(os.environ.get("FAITHFACE_REAL_DATA", ROOT.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"no real faces at {path}; set FAITHFACE_REAL_DATA")
    return path
