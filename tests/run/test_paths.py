"""Parts of paths: different things never share a file, and published names hold no folders."""

from __future__ import annotations

import hashlib
import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from faithface.run.paths import safe, short


@given(st.text(min_size=1, max_size=200))
@settings(max_examples=60)
def test_a_safe_name_is_one_part_of_a_path(text: str) -> None:
    name = safe(text)
    assert name
    assert not set(name) & set('/\\\x00:*?"<>| ')
    assert not name.startswith((".", "-", " "))
    assert not name.endswith((".", " "))
    assert name == name.lower()
    assert len(name.encode()) < 200


def test_plain_names_stay_as_they_are() -> None:
    for text in ("rise(masks=2)", "fggb(reading=signed)", "deletion@1(fill=black,grid=14)", "attack--im01", "resnet29"):
        assert safe(text) == text


def test_letters_of_every_script_stay() -> None:
    for text in ("attack--josé_0001", "张伟_0001--王芳_0002", "иван", "प्रिया.1"):
        assert safe(text) == text


def test_letters_that_some_file_system_takes_for_others_have_a_digest() -> None:
    # Upper case, decomposed letters, and letters that become another's upper case: dotless i, long s, sharp s.
    texts = ["José", "jose\u0301", "josé", "ıvan", "ivan", "ſun", "sun", "straße", "strasse", "ΣΟΦΟΣ", "σοφος", "σοφοσ"]
    names = {unicodedata.normalize("NFC", safe(text)).casefold() for text in texts}
    assert len(names) == len(texts)
    assert len({name.upper() for name in names}) == len(texts)


def test_long_names_of_other_scripts_fit_into_a_file_name() -> None:
    long = "张" * 200
    assert len(safe(long).encode()) <= 200
    assert safe(long).startswith("张")
    assert len({safe(long + str(i)) for i in range(100)}) == 100


def test_ten_thousand_similar_ids_have_as_many_names() -> None:
    long = ["person/" + "x" * 150 + f"/{i:05d}" for i in range(10_000)]
    assert len({safe(text) for text in long}) == 10_000
    # What shortens alike: another folder, the same file.
    folders = [f"pairs:/data/{i}/pairs.csv@/data/150" for i in range(10_000)]
    assert len({safe(text) for text in folders}) == 10_000


def test_names_that_differ_in_case_alone_differ_where_case_does_not_count() -> None:
    texts = [f"{a}{b}_{i}" for a in "Aa" for b in "Bb" for i in range(100)]
    assert len({safe(text).casefold() for text in texts}) == len(texts)


def test_a_name_cannot_pose_as_the_shortened_name_of_another() -> None:
    other = "Long Name"
    posing = safe(other)
    assert posing.endswith(hashlib.sha256(other.encode()).hexdigest())
    assert safe(posing) != posing


@pytest.mark.parametrize("text", ["con", "nul.x", "com1", "lpt9.csv"])
def test_names_of_devices_are_no_files(text: str) -> None:
    assert safe(text) != text
    assert safe(text).split(".")[0] != text.split(".")[0]


@pytest.mark.parametrize(
    ("spec", "published"),
    [
        ("pairs:/home/me/faces/pairs.csv@/home/me/150", "pairs:pairs.csv@150"),
        ("folder:../faces/", "folder:faces"),
        ("inverted:rise(masks=20)", "inverted:rise(masks=20)"),
        ("deletion@1(fill=black,grid=14)", "deletion@1(fill=black,grid=14)"),
        ("folder:faces(human=/secret/masks)", "folder:faces(human=masks)"),
    ],
)
def test_a_published_name_holds_no_folders(spec: str, published: str) -> None:
    assert short(spec) == published
