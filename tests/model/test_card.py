"""Cards: what a user can get wrong is one line with file, key and what is allowed."""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.card import load_card
from faithface.errors import UsageError
from tests.support.networks import tiny

GOOD = """
[model]
name = "net"
task = "pad"
file = "{file}"
[input]
size = [32, 32]
mean = [0.5]
std = [0.5]
[output]
kind = "logits"
classes = ["bona-fide", "attack"]
positive = "attack"
"""


def write(folder: Path, text: str) -> Path:
    weights = tiny("cnn", "pad", folder).path
    path = folder / "card.toml"
    path.write_text(text.replace("{file}", weights.name))
    return path


def test_a_card_finds_its_weights_beside_itself(tmp_path: Path) -> None:
    card = load_card(write(tmp_path, GOOD))
    assert card.path.is_file()
    assert card.input.size == (32, 32)
    assert card.output.positive == "attack"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("size =", "sizes ="), ["sizes", "size"]),
        (('task = "pad"', 'task = "padd"'), ["task", "pad"]),
        (("[input]", "[inputs]"), ["inputs", "input"]),
        (('positive = "attack"', 'positive = "spoof"'), ["spoof", "attack"]),
        (("mean = [0.5]", "mean = [0.5, 0.5]"), ["mean", "1 or 3"]),
        (("std = [0.5]", "std = [0.0]"), ["std"]),
        (('kind = "logits"', 'kind = "embedding"'), ["embedding"]),
        (('classes = ["bona-fide", "attack"]', 'classes = ["one"]'), ["classes"]),
        (('name = "net"', 'name = "My Net"'), ["name"]),
        (("{file}", "missing.onnx"), ["missing.onnx", "not there"]),
        (('[output]\nkind = "logits"', "[output]"), ["kind", "missing"]),
        (("size = [32, 32]", "size = [0, 32]"), ["size"]),
        (("[model]", "[model"), ["TOML"]),
    ],
)
def test_a_mistake_is_one_line_with_the_file_and_the_key(
    tmp_path: Path, change: tuple[str, str], expected: list[str]
) -> None:
    path = write(tmp_path, GOOD.replace(*change))
    with pytest.raises(UsageError) as caught:
        load_card(path)
    text = str(caught.value)
    assert "\n" not in text
    assert "card.toml" in text
    for word in expected:
        assert word in text


def test_a_missing_card_names_the_path(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"nowhere\.toml"):
        load_card(tmp_path / "nowhere.toml")
