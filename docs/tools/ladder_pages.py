"""Write a page for each tier of the ladder: ``python -m docs.tools.ladder_pages``.

Place in the flow: a test holds the pages against :func:`page`. Reads the rules of ``faithface.testing.ladder`` and the
checks of the conformance kit, so that a rule is told where it is declared and nowhere else.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from docs.tools.check_tables import KINDS, table
from faithface.testing.findings import Severity
from faithface.testing.ladder import DOCUMENTED, ORDER, PAGE, RULES, Tier

DOCS = Path(__file__).resolve().parents[1]
TIERS = ORDER[1:]
TEXT = {
    Tier.RUNS: (
        "faithface loads the plugin, and it registers something. `faithface plugins` shows the first line of what went "
        "wrong."
    ),
    Tier.CONFORMS: (
        "No check of severity *error* fails on anything that the plugin registers. `faithface check` runs the checks, "
        "on small networks whose evidence is known by construction. Exceptions that the plugin's own tests list in "
        "`expected_failures` do not count here: they are the author's word."
    ),
    Tier.DOCUMENTED: (
        "The plugin says what it is: its distribution to whoever installs it, its objects to whoever reads a board."
    ),
    Tier.VALIDATED: (
        "Somebody has seen the numbers again. `faithface check DISTRIBUTION --board FOLDER` looks for published "
        "records with their attestations, and for audits, in the folders that it is given. What a record says of "
        "itself does not count."
    ),
}


def page(tier: Tier) -> str:
    """Return the page of a tier, as the file holds it."""
    at = TIERS.index(tier)
    before = f" It includes [*{TIERS[at - 1]}*]({TIERS[at - 1]}.md)." if at else ""
    after = f"\nThe next tier is [*{TIERS[at + 1]}*]({TIERS[at + 1]}.md).\n" if at + 1 < len(TIERS) else ""
    parts = [f"# The tier *{tier}*", f"{TEXT[tier]}{before}", *_own(tier), *_checks(tier)]
    text = "\n\n".join(parts)
    return f"{text}\n{after}\n[The ladder](../../explanation/ladder.md) says what tiers are for.\n"


def _own(tier: Tier) -> Iterator[str]:
    rules = [rule for rule in RULES.values() if rule.tier is tier]
    if rules:
        rows = [f"| `{r.name}` | {r.of} | {r.asks} | {r.advice[:1].upper()}{r.advice[1:]}. |" for r in rules]
        yield "\n".join(["| rule | asked of | question | if the answer is no |", "| --- | --- | --- | --- |", *rows])


def _checks(tier: Tier) -> Iterator[str]:
    for kind, checks in KINDS.items():
        mine = list(_of_tier(tier, checks))
        if mine:
            yield f"## {kind.capitalize()}\n\n{table(mine)}"


def _of_tier(tier: Tier, checks: Iterable[Any]) -> Iterator[Any]:
    for check in checks:
        about_itself = check.name in DOCUMENTED
        if (tier is Tier.DOCUMENTED and about_itself) or (
            tier is Tier.CONFORMS and not about_itself and check.severity is Severity.ERROR
        ):
            yield check


def main() -> None:
    for tier in TIERS:
        path = DOCS / PAGE.format(tier)
        path.parent.mkdir(exist_ok=True)
        path.write_text(page(tier), encoding="utf-8")


if __name__ == "__main__":
    main()
