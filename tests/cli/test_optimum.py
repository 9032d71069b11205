"""``faithface optimum`` on a network whose best order is known, and on images without truth."""

from __future__ import annotations

import json

import pytest

from faithface.cli.main import main


def test_shares_of_the_best_gap_are_stated_and_a_map_that_is_not_there_has_none(capsys: pytest.CaptureFixture) -> None:
    command = ["optimum", "--model", "exact-pad-28-0", "--dataset", "planted-pad(n=8)", "--grid", "2", "--limit", "4"]
    for name in ("oracle", "contributions", "inverted:contributions"):
        command += ["--explainer", name]
    assert main([*command, "--json"]) == 0

    def refuse(text: str) -> float:
        raise AssertionError(f"{text} is no JSON")

    rows = json.loads(capsys.readouterr().out, parse_constant=refuse)
    assert len(rows) == 4
    for row in rows:
        attack = not row["sample"].startswith("bona-fide")
        assert (row["oracle"] is not None) == attack
        assert row["passes"] == 2**4
        assert row["best_gap"] > 0
        assert -1.001 <= row["inverted:contributions"] < 0
        assert 0 < row["contributions"] <= 1
        assert 0.98 <= row["greedy"] <= 1
        assert not attack or row["oracle"] <= 1
