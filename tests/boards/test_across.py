"""Across the tables of a board: who shares the first tie class how often, counted by hand on made numbers."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from faithface.boards.across import Share, across_tables
from faithface.boards.board import make_board
from faithface.boards.record import Kept
from faithface.boards.render import markdown
from faithface.boards.site import site_files
from faithface.boards.verdicts import Audit, Examined, Verdict
from tests.boards.made import made_board

FAMILIES = {"gap@1": "faithful", "deletion@1": "faithful", "own@1": "specific", "gate@1": "gate", "bad@1": "faithful"}
AUDIT: Audit = {**{p: Examined(Verdict.JUDGES) for p in FAMILIES}, "bad@1": Examined(Verdict.FAILS)}
# By network and protocol, the level of each explainer: levels 0.4 apart are always told apart, equal ones never.
LEVELS = {
    "first": {
        "gap@1": {"a": 0.9, "b": 0.9, "c": 0.1},
        "deletion@1": {"a": 0.9, "b": 0.5, "c": 0.1},
        "own@1": {"a": 0.1, "b": 0.9, "c": 0.5},
        "bad@1": {"a": 0.1, "b": 0.1, "c": 0.9},
        "gate@1": {"a": 0.9, "b": 0.1, "c": 0.9},
    },
    "second": {
        "gap@1": {"a": 0.9, "b": 0.5, "c": 0.1},
        "deletion@1": {"a": 0.1, "b": 0.1, "c": 0.9},
        "own@1": {"a": 0.9, "b": 0.5, "c": 0.1},
        "bad@1": {"a": 0.1, "b": 0.1, "c": 0.9},
        "gate@1": {"a": 0.9, "b": 0.9, "c": 0.1},
    },
}


def records(networks: dict[str, dict[str, dict[str, float]]]) -> list[Kept]:
    noise = np.linspace(-0.01, 0.01, 24)
    found = []
    for network, protocols in networks.items():
        values = {(name, p): level + noise for p, levels in protocols.items() for name, level in levels.items()}
        values |= {("random", p): noise for p in protocols}
        for one in made_board(values, {"random"}, FAMILIES.__getitem__):
            sha256 = hashlib.sha256(network.partition("/")[0].encode()).hexdigest()
            model = one.record.model.model_copy(update={"name": network, "family": network, "sha256": sha256})
            numbers = tuple(
                n.model_copy(update={"bar": 0.5}) if n.protocol == "gate@1" else n for n in one.record.numbers
            )
            record = one.record.model_copy(update={"model": model, "numbers": numbers})
            found.append(Kept(record, one.values))
    return found


def test_first_tie_classes_are_counted_by_family_and_gates_apart() -> None:
    (found,) = across_tables(make_board(records(LEVELS), AUDIT).tables)
    assert found.tables == 2
    assert found.families == ("faithful", "specific")  # no column of truth
    by = {line.title: line for line in found.lines}
    # gap: a and b share the first class on one network, a alone has it on the other; deletion: a, then c.
    # A metric that fails the audit gives no rank, so that c gains nothing by it.
    assert {title: line.first["faithful"] for title, line in by.items()} == {
        "a": Share(3, 4),
        "b": Share(1, 4),
        "c": Share(1, 4),
    }
    assert {title: line.first["specific"] for title, line in by.items()} == {
        "a": Share(1, 2),
        "b": Share(1, 2),
        "c": Share(0, 2),
    }
    assert {title: line.gates for title, line in by.items()} == {"a": Share(2, 2), "b": Share(1, 2), "c": Share(1, 2)}
    assert {title: line.columns for title, line in by.items()} == {"a": Share(4, 6), "b": Share(2, 6), "c": Share(1, 6)}
    assert [line.title for line in found.lines] == ["a", "b", "c"]
    assert found.text() == (
        "Most often in the first tie class: a (4 of 6 columns), b (2 of 6 columns), c (1 of 6 columns). The median "
        "explainer is in 33 % of its columns. Gates failed, with the number of networks: b (gate@1 on 1); c (gate@1 on "
        "1). First of those that pass all: a."
    )


def test_a_network_with_two_tables_is_not_counted_as_two_networks() -> None:
    (one,) = across_tables(make_board(records(LEVELS), AUDIT).tables)
    same = {"first/a": LEVELS["first"], "first/b": LEVELS["second"]}
    (other,) = across_tables(make_board(records(same), AUDIT).tables)
    assert (one.tables, one.what) == (2, "network")
    assert (other.tables, other.what) == (2, "table")
    assert "with the number of tables" in other.text()


def test_what_is_not_on_every_network_is_not_listed() -> None:
    some = {p: {name: level for name, level in levels.items() if name != "b"} for p, levels in LEVELS["second"].items()}
    (found,) = across_tables(make_board(records({"first": LEVELS["first"], "second": some}), AUDIT).tables)
    assert [line.title for line in found.lines] == ["a", "c"]


@pytest.mark.parametrize("audit", [AUDIT, {p: Examined(Verdict.FAILS) for p in FAMILIES}], ids=["one", "none ranks"])
def test_one_network_or_nothing_that_ranks_needs_no_summary(audit: Audit) -> None:
    networks = {"first": LEVELS["first"]} if audit is AUDIT else LEVELS
    assert across_tables(make_board(records(networks), audit).tables) == ()


def test_page_and_site_show_it() -> None:
    board = make_board(records(LEVELS), AUDIT)
    text = markdown(board)
    assert "Most often in the first tie class: a (4 of 6 columns" in text
    assert "| a           | 3 of 4" in text
    page = dict(site_files(board))["index.html"].decode()
    assert "Across 2 networks" in page
    assert "3 of 4" in page
