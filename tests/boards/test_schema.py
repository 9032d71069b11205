"""The published schema of records is that of the code, its records fit it, and their provenance is an address."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from docs.tools.record_schema import FILE, record_schema
from faithface.boards.findings import Check
from faithface.boards.provenance import address_of, public
from faithface.boards.record import Record, canonical_json, read_records, record_bytes, record_digest
from tests.support.runs import Ramp

PAGE = FILE.with_name("record.md")


def test_the_published_schema_is_that_of_the_code() -> None:
    assert FILE.read_text() == record_schema(), "run `python -m docs.tools.record_schema`"


def test_every_part_of_a_record_is_in_the_schema_and_no_other_is_allowed(finished: Path) -> None:
    schema = json.loads(FILE.read_text())
    for one in read_records(finished / "records"):
        written = json.loads(record_bytes(one.record))
        assert set(written) == set(schema["properties"])
        # Where a parameter is no object of a plugin, "parts" is absent.
        assert {*written["numbers"][0], "parts"} == set(schema["$defs"]["Number"]["properties"])
    assert schema["additionalProperties"] is False


def test_the_page_names_every_check_and_every_part() -> None:
    text = PAGE.read_text()
    for check in Check:
        assert f"| {check} |" in text
    parts = set(Record.model_fields) - {"record_schema", "code", "seconds_per_sample", "values_sha256", "curves_sha256"}
    assert not {part for part in parts if f"`{part}`" not in text}


def test_the_digest_is_of_everything_else_in_whatever_order(finished: Path) -> None:
    record = read_records(finished / "records")[0].record
    again = Record.model_validate(dict(reversed(json.loads(record_bytes(record)).items())))
    assert record_digest(again) == record.digest
    for update in ({"seconds_per_sample": 9.0}, {"values_sha256": "0"}, {"reason": "x"}):
        assert record_digest(record.model_copy(update=update)) != record.digest
    assert canonical_json({"b": 1, "a": "é"}) == '{"a":"é","b":1}'.encode()


def test_provenance_is_an_address_and_a_fingerprint(finished: Path) -> None:
    record = next(one.record for one in read_records(finished / "records") if one.record.explainer.spec == "random")
    origin = record.explainer.origin
    assert origin.path == "faithface_plugins/explainers/controls.py"
    assert len(origin.fingerprint) == 64
    assert record.model.origin.path == ""
    assert address_of(Ramp(), "extras").path == "tests/support/runs.py"
    assert address_of(Ramp(), "no-such-distribution").repository == ""


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("git+https://user:secret@example.org:8443/a?token=1#x", "https://example.org:8443/a"),
        ("file:///home/somebody/faces", ""),
        ("/home/somebody/faces", ""),
        ("javascript:alert(1)", ""),
        ("", ""),
    ],
)
def test_an_address_holds_no_name_password_or_path_of_the_machine(url: str, shown: str) -> None:
    assert public(url) == shown
