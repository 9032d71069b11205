"""The pages of the tiers are what the rules and checks say, and no rule or check of severity error is missing."""

from __future__ import annotations

import pytest

from docs.tools.check_tables import KINDS
from docs.tools.ladder_pages import DOCS, TIERS, page
from faithface.testing.findings import Severity
from faithface.testing.ladder import DOCUMENTED, PAGE, RULES, Tier


@pytest.mark.parametrize("tier", TIERS)
def test_a_page_is_written_from_the_rules(tier: Tier) -> None:
    assert (DOCS / PAGE.format(tier)).read_text(encoding="utf-8") == page(tier), "python -m docs.tools.ladder_pages"


def test_every_rule_and_every_check_that_can_keep_a_plugin_down_is_on_one_page() -> None:
    texts = {tier: (DOCS / PAGE.format(tier)).read_text(encoding="utf-8") for tier in TIERS}
    for rule in RULES.values():
        assert f"| `{rule.name}` | {rule.of} | {rule.asks}" in texts[rule.tier]
    for checks in KINDS.values():
        for check in checks:
            on = {
                tier for tier, text in texts.items() if f"| `{check.name}` | {check.severity} | {check.asks} |" in text
            }
            if check.name in DOCUMENTED:
                assert on == {Tier.DOCUMENTED}
            else:
                assert on == ({Tier.CONFORMS} if check.severity is Severity.ERROR else set())
