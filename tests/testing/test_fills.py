"""Fills with one fault each are caught by the check that is there for it; sound ones pass."""

from __future__ import annotations

import pytest

from faithface.contract import Fill
from faithface.testing import check_fill
from tests.testing.broken_fills import FILLS, BrokenFill, Peeks, SoundFill, SoundInpainting


@pytest.mark.parametrize("way", FILLS)
def test_a_broken_fill_is_caught_by_its_check(way: str) -> None:
    report = check_fill(BrokenFill(way), tasks=["pad"])
    assert report.failed_checks() == {FILLS[way][1]}, str(report)
    assert all(finding.advice for finding in report.failed)


def test_a_fill_that_reads_what_is_removed_is_caught() -> None:
    report = check_fill(Peeks(), tasks=["pad"])
    assert report.failed_checks() == {"ignores-removed"}, str(report)


@pytest.mark.parametrize("fill", [SoundFill(), SoundInpainting()], ids=str)
def test_a_sound_fill_passes_for_pairs_and_classifiers(fill: Fill) -> None:
    report = check_fill(fill)
    assert report.ok, str(report)
    assert {finding.case for finding in report.findings} == {"", "pad", "verification"}


def test_failures_that_are_expected_have_a_reason_and_others_are_an_error() -> None:
    report = check_fill(Peeks(), tasks=["pad"], expected_failures={"ignores-removed": "it is a test"})
    assert report.ok, str(report)
    report = check_fill(SoundFill(), tasks=["pad"], expected_failures={"dtype": "it is a test"})
    assert report.failed_checks() == {"dtype"}
