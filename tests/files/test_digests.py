"""Digests of files by content: right, remembered while a file stays as it is, and never longer."""

from __future__ import annotations

import hashlib
import os
import sqlite3
import time
from pathlib import Path

import pytest

from faithface import digest_cache, files
from faithface.errors import UsageError
from faithface.files import content_digest, content_digests

LONG_AGO = 1_600_000_000


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FAITHFACE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "digests.sqlite"


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file that was written just now counts as settled."""
    monkeypatch.setattr(digest_cache, "SETTLED", -60.0)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def never_read(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(path: str) -> None:
        raise AssertionError(f"{path} was read again")

    monkeypatch.setattr(files, "_digest", refuse)


def test_a_digest_is_the_sha256_of_the_content(tmp_path: Path) -> None:
    for name, data in {"a": b"", "b\udcff": b"x" * 3_000_000, "张伟": bytes(range(256))}.items():
        path = tmp_path / name
        path.write_bytes(data)
        assert content_digest(path) == sha256(data)
        assert content_digest(path) == sha256(data)  # from the cache, or not


def test_many_at_once_with_those_that_are_not_there(tmp_path: Path) -> None:
    for i in range(30):
        (tmp_path / str(i)).write_bytes(b"%d" % i)
    os.mkfifo(tmp_path / "pipe")
    found = content_digests([tmp_path / name for name in (*map(str, range(31)), "pipe", "7")])
    assert [found[str(tmp_path / str(i))] for i in range(30)] == [sha256(b"%d" % i) for i in range(30)]
    assert "no such file" in str(found[str(tmp_path / "30")])
    assert "a named pipe" in str(found[str(tmp_path / "pipe")])
    with pytest.raises(UsageError, match="no such file"):
        content_digest(tmp_path / "30")


def test_a_file_that_stays_as_it_is_is_read_once(tmp_path: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    assert content_digest(path) == sha256(b"one")
    never_read(monkeypatch)
    assert content_digest(path) == sha256(b"one")
    monkeypatch.chdir(tmp_path)
    assert content_digest("a") == sha256(b"one")


@pytest.mark.parametrize("how", ["written over", "replaced"])
def test_other_content_of_the_same_size_and_time_is_noticed(tmp_path: Path, later: None, how: str) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert content_digest(path) == sha256(b"one")
    time.sleep(0.02)  # a tick of the file system's clock
    if how == "replaced":
        (tmp_path / "b").write_bytes(b"two")
        os.replace(tmp_path / "b", path)
    else:
        path.write_bytes(b"two")
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert content_digest(path) == sha256(b"two")


def test_a_file_that_was_changed_just_now_is_not_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    content_digest(path)
    never_read(monkeypatch)
    with pytest.raises(AssertionError, match="read again"):
        content_digest(path)


def test_a_cache_that_cannot_be_used_is_done_without(tmp_path: Path, cache: Path, later: None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    content_digest(path)
    cache.write_bytes(b"no database" * 1000)
    assert content_digest(path) == sha256(b"one")
    cache.unlink()
    cache.mkdir()
    assert content_digest(path) == sha256(b"one")
    cache.rmdir()
    cache.parent.rmdir()
    cache.parent.write_text("a file where the folder should be")
    assert content_digest(path) == sha256(b"one")


def test_a_cache_that_another_process_holds_is_done_without(tmp_path: Path, cache: Path, later: None) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    content_digest(path)
    with sqlite3.connect(cache) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert content_digest(path) == sha256(b"one")
        other.rollback()


def test_the_cache_keeps_the_latest(tmp_path: Path, cache: Path, later: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(digest_cache, "MOST", 5)
    for i in range(12):
        (tmp_path / str(i)).write_bytes(b"%d" % i)
        content_digest(tmp_path / str(i))
    with sqlite3.connect(cache) as opened:
        kept = [os.fsdecode(row[0]) for row in opened.execute("SELECT path FROM digests ORDER BY number")]
    assert kept == [str(tmp_path / str(i)) for i in range(7, 12)]
