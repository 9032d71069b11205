"""The tutorial of the ONNX model, step by step, with fewer samples where nothing is read off them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from faithface.cli.main import main
from tests.docs.pages import DOCS, blocks, command_lines

PAGE = DOCS / "tutorial" / "my-onnx-model.md"


def test_the_tutorial_leads_to_an_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    text = PAGE.read_text(encoding="utf-8")
    (borrow,) = [block.text for block in blocks(PAGE) if block.language == "python"]
    exec(compile(borrow, "borrow.py", "exec"), {"__name__": "__main__"})
    told = list(command_lines(PAGE))

    def step(name: str, *more: str) -> str:
        """Do the next command, which must be this one, and return what it prints."""
        line = told.pop(0)
        assert line[0] == name
        assert main([*line, *more]) == 0
        return capsys.readouterr().out

    draft = step("inspect")
    card = draft[draft.index("[model]") :]
    shown = [block.text for block in blocks(PAGE) if block.language == "text"]
    assert shown[0].strip() in card
    Path("my-pad.toml").write_text(card)
    tried = step("inspect")
    assert all(line.rstrip() in tried for line in shown[1].splitlines())
    assert "attack 0.925" in step("explain")
    assert Path("attack.png").is_file()
    board = step("run", "--limit", "4", "--workers", "0", "--quiet")
    numbers = {name: float(number) for name, number in re.findall(r"(?m)^ +(?:– +)?([\w-]+) +(-?\d\.\d{4})", board)}
    assert min(numbers["occlusion"], numbers["grad-cam"]) > 0.5 > numbers["random"]
    assert numbers["centre-prior"] < -0.3
    found = step("shortcuts", "--limit", "4", "--fills", "1")
    assert re.search(r"my-pad uses the corners \(9\d% of the decision\)", found)
    assert Path("shortcuts.html").is_file()
    assert not told
    assert "uses the corners (95% of the decision)" in text
