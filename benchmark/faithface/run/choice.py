"""Which samples of a dataset a limited run uses.

Place in the flow: ``plan`` asks once per dataset. May call the contract and ``seeds``.
"""

from __future__ import annotations

from collections.abc import Sequence

from faithface.contract import Pair, Sample
from faithface.seeds import seed_for


def choose(items: Sequence[Sample] | Sequence[Pair], limit: int | None, seed: int) -> tuple[int, ...]:
    """Return the positions of the samples to use, in the dataset's order.

    A limit takes samples in turn from each class (of pairs: genuine and impostor in turn, within these each kind in
    turn), so that a small run still holds what metrics and controls need. Within a stratum the order is a
    permutation from the seed and the sample ids: a larger limit contains a smaller one, and neither depends on the
    order of the files.
    """
    if limit is None or limit >= len(items):
        return tuple(range(len(items)))
    strata: dict[str, dict[str, list[int]]] = {}
    order = sorted(range(len(items)), key=lambda i: seed_for(seed, items[i].id, "limit"))
    for i in order:
        item = items[i]
        outer = str(not item.same) if isinstance(item, Pair) else str(item.label)
        inner = item.kind if isinstance(item, Pair) else ""
        strata.setdefault(outer, {}).setdefault(inner, []).append(i)
    turns = [_in_turn([strata[o][k] for k in sorted(strata[o])]) for o in sorted(strata)]
    return tuple(sorted(_in_turn(turns)[:limit]))


def _in_turn(lists: Sequence[Sequence[int]]) -> list[int]:
    longest = max(len(one) for one in lists)
    return [one[i] for i in range(longest) for one in lists if i < len(one)]
