"""The sentence at the top of a page: a decision in plain language, from the exact values alone.

Place in the flow: between ``why`` and ``page``. Imports ``why``'s Answer, ``shell`` and numpy.

A region is named only where its interval over fills excludes zero; a single fill (the partner) has no interval, there
the regions that make up most of the difference are named. No single region is named where the order of regions
is not reliable.
"""

from __future__ import annotations

import numpy as np

from faithface.answers.shell import plain
from faithface.answers.why import Answer
from faithface.regions.shapley import RegionValues

SHARE = 0.6  # regions are named, largest first, until they make up this much
MOST = 3
TRUSTED = 0.5  # below this reliability no region is named
PLURAL = frozenset({"eyes", "brows", "cheeks", "ears"})


def sentence(answer: Answer) -> str:
    """Return one sentence that says what was decided and which regions made the difference."""
    if not answer.are_pairs:
        name = answer.predicted[:1].upper() + answer.predicted[1:]
        sure = "above 0.99" if answer.score >= 0.995 else f"{answer.score:.2f}"
        return f"{name} (probability {sure}): {_classified(answer)}."
    if answer.ranking is not None:
        return _searched(answer)
    head = {"accepted": "Accepted", "rejected": "Rejected", "scored": f"Similarity {plain(answer.score)}"}[
        answer.decision
    ]
    return f"{head}: {_rejected(answer) if answer.decision == 'rejected' else _accepted(answer)}."


def _searched(answer: Answer) -> str:
    ranking, values, names = answer.ranking, answer.values[0], answer.regions.names
    assert ranking is not None
    right = ranking.rank == 1
    head = f"{ranking.mate.person} rather than {ranking.other.person}"
    if not right:
        head = f"{ranking.other.person} is found rather than {ranking.mate.person}"
    if _unreliable(values):
        return f"{head}: no single region can be made responsible; the answer changes with what replaces the regions."
    for_, against = standing_out(values, names, +1), standing_out(values, names, -1)
    said = [f"{_list(for_)} {_verb(for_, 'speaks', 'speak')} for {ranking.mate.person}"] if for_ else []
    said += [f"{_list(against)} {_verb(against, 'speaks', 'speak')} for {ranking.other.person}"] if against else []
    return f"{head}: {'; '.join(said) or 'no region stands out'}."


def _accepted(answer: Answer) -> str:
    values = answer.values[0]
    if _unreliable(values):
        return "no single region can be made responsible; the answer changes with what replaces the regions"
    names = answer.regions.names
    agree, differ = standing_out(values, names, +1), standing_out(values, names, -1)
    if values.fill == "blur":
        return _blurred(answer.decision == "scored", agree, differ)
    if not agree and not differ:
        return "no region stands out against other people's"
    said = f"{_list(agree)} {_verb(agree, 'agrees', 'agree')}" if agree else "no region agrees clearly"
    return said + (f"; {_list(differ)} {_verb(differ, 'differs', 'differ')}" if differ else "")


def _blurred(scored: bool, agree: list[str], differ: list[str]) -> str:
    """What detail does for a pair: without a threshold there is a similarity, but no match."""
    if scored:
        said = [f"{_list(agree)} {_verb(agree, 'raises', 'raise')} it"] if agree else []
        said += [f"{_list(differ)} {_verb(differ, 'lowers', 'lower')} it"] if differ else []
        return "; ".join(said) or "no region stands out"
    said = ["no region carries the match by itself"]
    if agree:
        said = [f"{_list(agree)} {_verb(agree, 'carries', 'carry')} the match"]
    said += [f"{_list(differ)} {_verb(differ, 'weakens', 'weaken')} it"] if differ else []
    return "; ".join(said)


def _rejected(answer: Answer) -> str:
    names = answer.regions.names
    partner = answer.of("partner")
    others = next((v for v in answer.values if v.fill != "partner"), None)
    parts = []
    differ: list[str] = []
    if partner is not None:
        differ = standing_out(partner, names, -1)
    elif others is not None and not _unreliable(others):
        differ = standing_out(others, names, -1)
    if differ:
        parts.append(f"{_list(differ)} {_verb(differ, 'differs', 'differ')} most")
    if others is not None and not _unreliable(others):
        agree = [name for name in standing_out(others, names, +1) if name not in differ]
        if agree:
            parts.append(f"{_list(agree)} {_verb(agree, 'agrees', 'agree')}")
    return "; ".join(parts) or "no region stands out; the difference is spread over the whole face"


def _classified(answer: Answer) -> str:
    values, names = answer.values[0], answer.regions.names
    if _unreliable(values):
        return "no single region can be made responsible; the answer changes with what replaces the regions"
    for_, against = standing_out(values, names, +1), standing_out(values, names, -1)
    said = f"{_list(for_)} {_verb(for_, 'supports', 'support')} it" if for_ else "no region supports it by itself"
    return said + (f"; {_list(against)} {_verb(against, 'weakens', 'weaken')} it" if against else "")


def standing_out(values: RegionValues, names: tuple[str, ...], sign: int) -> list[str]:
    """Return at most three regions of one sign, largest first, that make up 60 % of all values of that sign.

    With several fills only those whose 95 % interval excludes zero; a sign with less than a tenth of the magnitude of
    all values is not mentioned.
    """
    mean, margin = sign * values.mean, np.nan_to_num(values.margin)
    total = float(mean[mean > 0].sum())
    if total < 0.1 * float(np.abs(mean).sum()) or total == 0:
        return []
    chosen: list[str] = []
    covered = 0.0
    for r in np.argsort(-mean):
        if mean[r] - margin[r] <= 0 or covered >= SHARE * total or len(chosen) == MOST:
            continue
        chosen.append(names[int(r)])
        covered += float(mean[r])
    return chosen


def _unreliable(values: RegionValues) -> bool:
    return len(values.values) > 1 and not values.reliability >= TRUSTED


def _list(names: list[str]) -> str:
    listed = f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
    return f"the {listed}"


def _verb(names: list[str], singular: str, plural: str) -> str:
    return plural if len(names) > 1 or names[0] in PLURAL else singular
