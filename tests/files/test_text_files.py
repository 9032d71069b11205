"""Tables and TOML files from anywhere: encodings, separators, limits, and one line for what cannot be read."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface import limits, tables
from faithface.card import load_card
from faithface.errors import UsageError
from faithface.run.suite import load_suite
from faithface.tables import read_table
from faithface.toml_files import read_toml

COLUMNS = ("image", "label")
TEXT = "image,label\nJosé/1.jpg,1\n张伟.jpg,0\n"
ROWS = ((2, {"image": "José/1.jpg", "label": "1"}), (3, {"image": "张伟.jpg", "label": "0"}))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_is_marked_or_utf_8_is_read(tmp_path: Path, encoding: str, end: str) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(TEXT.replace("\n", end).encode(encoding))
    assert read_table(path, COLUMNS, "table").rows == ROWS


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(",", ";"),
        TEXT.replace(",", "\t"),
        TEXT.replace("image,label", "Image, LABEL"),
        TEXT.replace("José/1.jpg", '"José/1.jpg"'),
        TEXT.replace("1\n", "1,\n", 1),
    ],
)
def test_the_ways_in_which_programs_write_a_table(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text, encoding="utf-8")
    assert read_table(tmp_path / "t.csv", COLUMNS, "table").rows == ROWS


def test_comments_and_blank_lines_keep_the_line_numbers(tmp_path: Path) -> None:
    (tmp_path / "t.csv").write_text("# made by hand\n\nimage,label\n\na.png,1\n,\nb.png,0\n\n")
    rows = read_table(tmp_path / "t.csv", COLUMNS, "table").rows
    assert [(line, row["image"]) for line, row in rows] == [(5, "a.png"), (7, "b.png")]


def test_an_unknown_encoding_is_named_and_can_be_given(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes("image,label\nJosé.jpg,1\n".encode("latin-1"))
    with pytest.raises(UsageError, match=r"line 2: byte e9 is not UTF-8.*encoding=latin-1"):
        read_table(path, COLUMNS, "table")
    assert read_table(path, COLUMNS, "table", "latin-1").rows[0][1]["image"] == "José.jpg"
    with pytest.raises(UsageError, match="no encoding is named 'klingon'"):
        read_table(path, COLUMNS, "table", "klingon")
    path.write_bytes("image,label\na.jpg,1\n".encode("utf-16-le"))
    with pytest.raises(UsageError, match="UTF-16 without its mark"):
        read_table(path, COLUMNS, "table")


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", "column 'image' is missing.*an empty file"),
        ("a.png,1\n", "the first line must name the columns, image,label; got a.png,1"),
        ("image,label,label\na,1,0\n", "'label' is given twice"),
        ("image,label\nLee, Ann/1.jpg,1\n", "line 2: 3 fields for 2 columns.*double quotes"),
        ("image,label\n" + "x" * 5000 + ",1\n", "line 2: a field is longer than 4096"),
        ("image,label\n" + "x" * 200_000 + ",1\n", "line 2: not a CSV"),
    ],
)
def test_a_wrong_table_is_one_line(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(UsageError, match=words) as caught:
        read_table(tmp_path / "t.csv", COLUMNS, "table")
    assert "\n" not in str(caught.value)


def test_rows_and_size_have_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "t.csv"
    path.write_text("image,label\n" + "a.png,1\n" * 50)
    monkeypatch.setattr(tables, "MAX_TABLE_ROWS", 50)
    assert len(read_table(path, COLUMNS, "table").rows) == 50
    monkeypatch.setattr(tables, "MAX_TABLE_ROWS", 49)
    with pytest.raises(UsageError, match="more than 49 rows; split it"):
        read_table(path, COLUMNS, "table")
    with path.open("wb") as file:
        file.truncate(limits.MAX_TABLE_BYTES + 1)
    with pytest.raises(UsageError, match="128 MiB at most"):
        read_table(path, COLUMNS, "table")


# --- TOML

CARD = """[model]
name = "n"
task = "verification"
file = "n.onnx"
[input]
size = [112, 112]
std = [0.5]
[output]
kind = "embedding"
"""


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"a = " + b"[" * 100_000, "nested too deep"),
        (b"a = " + b"{b=" * 100_000, "nested too deep"),
        (b"a = " + b"9" * 100_000, "digits"),
        (b"a = " + b"9" * 100, "100 digits"),
        (b"[s]\na = [1, [-9223372036854775809]]", "s.a is a number of 20 digits"),
        (b'a = "x\0y"', "not a TOML file"),
        (b'a = "x\\u0000y"', "control character"),
        (b"a = 'x\xff'", "byte 6 is not UTF-8"),
        (b"a = 1979-99-99", "not a TOML file"),
        (b"\xff\xfea\0 \0=\0", "not UTF-8"),
    ],
)
def test_what_no_card_holds_is_one_line(tmp_path: Path, content: bytes, words: str) -> None:
    (tmp_path / "c.toml").write_bytes(content)
    for read in (lambda p: read_toml(p, "card", "x"), load_card, load_suite):
        with pytest.raises(UsageError, match=words) as caught:
            read(tmp_path / "c.toml")
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 500


def test_a_toml_file_beyond_the_limit(tmp_path: Path) -> None:
    (tmp_path / "c.toml").write_bytes(b"#" * (limits.MAX_TOML_BYTES + 1))
    with pytest.raises(UsageError, match="1 MiB at most"):
        load_card(tmp_path / "c.toml")


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("[0.5]", "[nan]", "std is .nan.; expected finite"),
        ("[0.5]", "[inf]", "finite"),
        ("[0.5]", "[1e-300]", "std must not be 0, nor below 1e-06"),
        ("[112, 112]", "[1000000000, 112]", "at most 4096"),
        ('kind = "embedding"', 'kind = "embedding"\nthreshold = nan', "threshold"),
    ],
)
def test_numbers_that_no_network_can_use(tmp_path: Path, old: str, new: str, words: str) -> None:
    (tmp_path / "n.onnx").write_bytes(b"")
    (tmp_path / "c.toml").write_text(CARD.replace(old, new))
    with pytest.raises(UsageError, match=words):
        load_card(tmp_path / "c.toml")


def test_a_network_outside_the_card_s_folder_needs_leave(tmp_path: Path) -> None:
    home, elsewhere = tmp_path / "cards", tmp_path / "elsewhere"
    home.mkdir()
    elsewhere.mkdir()
    (elsewhere / "n.onnx").write_bytes(b"")
    card = home / "c.toml"
    for file in ("../elsewhere/n.onnx", str(elsewhere / "n.onnx")):
        card.write_text(CARD.replace("n.onnx", file))
        with pytest.raises(UsageError, match=r"outside the card's folder.*--allow-outside"):
            load_card(card)
        assert load_card(card, allow_outside=True).path == elsewhere / "n.onnx"
    (home / "n.onnx").symlink_to(elsewhere / "n.onnx")
    card.write_text(CARD)
    with pytest.raises(UsageError, match="outside"):
        load_card(card)
    (home / "n.onnx").unlink()
    (home / "n.onnx").write_bytes(b"")
    card.write_text(CARD.replace("n.onnx", str(home / "n.onnx")))
    assert load_card(card).path == home / "n.onnx"


def test_a_pipe_as_a_card_or_network(tmp_path: Path) -> None:
    import os

    os.mkfifo(tmp_path / "c.toml")
    with pytest.raises(UsageError, match="a named pipe"):
        load_card(tmp_path / "c.toml")
    os.mkfifo(tmp_path / "n.onnx")
    (tmp_path / "d.toml").write_text(CARD)
    with pytest.raises(UsageError, match="a named pipe"):
        load_card(tmp_path / "d.toml")
