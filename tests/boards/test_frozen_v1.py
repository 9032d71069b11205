"""What version 1 of the published boards froze is still what this repository holds: suites, data, networks, protocols.

A frozen board protects its own records. This protects what they were made of: who changes a suite, a dataset or a
network without a new version fails here, before a number of a frozen board stands for something else.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from faithface.boards.record import Record, read_records
from faithface.hashing import model_digest
from faithface.plugins import Registry, load_registry
from faithface.run.choice import choose
from faithface.run.suite import load_suite

FROZEN = sorted(path.parent for path in Path(__file__).parents[2].glob("leaderboards/*/v1/FROZEN"))
OWN = {"real", "cam-layers"}  # their photographs are the user's own and not in this repository


@pytest.fixture(scope="module")
def registry() -> Registry:
    return load_registry()


def records_of(board: Path) -> list[Record]:
    return [kept.record for kept in read_records(board / "records")]


def test_all_first_boards_are_frozen() -> None:
    assert {path.parent.name for path in FROZEN} == {"cam-layers", "models", "pad", "real", "synthetic", "verification"}


@pytest.mark.parametrize("board", FROZEN, ids=lambda path: path.parent.name)
def test_the_suite_still_lists_what_its_board_shows(board: Path, registry: Registry) -> None:
    records = records_of(board)
    suite = load_suite(registry.suite(board.parent.name).object)
    assert {record.suite.version for record in records} == {suite.version}
    assert {record.dataset.limit for record in records} == {suite.limit}
    assert {record.dataset.seed for record in records} == {suite.seed}
    assert {record.explainer.spec for record in records} == {registry.explainer(one).spec for one in suite.explainers}
    if board.parent.name not in OWN:
        assert {record.model.name for record in records} == set(suite.models)
        assert {record.dataset.spec for record in records} == {registry.dataset(one).spec for one in suite.datasets}
    shown = {number.protocol for record in records for number in record.numbers}
    assert shown == {registry.metric(one).spec for one in suite.metrics}


@pytest.mark.parametrize("board", FROZEN, ids=lambda path: path.parent.name)
def test_networks_and_data_are_the_same_files(board: Path, registry: Registry) -> None:
    for name, sha256 in {(record.model.name, record.model.sha256) for record in records_of(board)}:
        assert model_digest(registry.model(name).object.path) == sha256
    for record in {r.dataset.spec: r for r in records_of(board)}.values():
        if board.parent.name not in OWN:
            dataset = registry.dataset(record.dataset.spec).object
            assert dataset.revision == record.dataset.revision
            assert len(dataset.items()) == record.dataset.size


@pytest.mark.parametrize(
    "board", [one for one in FROZEN if one.parent.name not in OWN], ids=lambda path: path.parent.name
)
def test_the_same_samples_are_chosen(board: Path, registry: Registry) -> None:
    shown: dict[str, set[str]] = {}
    for kept in read_records(board / "records"):
        shown.setdefault(kept.record.dataset.spec, set()).update(kept.values["sample"].to_list())
    for spec, ids in shown.items():
        items = registry.dataset(spec).object.items()
        limit = load_suite(registry.suite(board.parent.name).object).limit
        assert ids == {items[i].id for i in choose(items, limit, 0)}
