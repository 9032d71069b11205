"""What is to be said of numbers that are there: a model that hardly knows the data, constant maps, and explainers that
give another map a second time.

Place in the flow: ``terminal`` and ``render`` print these lines under a table. Calls ``board`` only.
"""

from __future__ import annotations

from faithface.boards.board import Row, Table
from faithface.run.results import NOT_DETERMINISTIC

MARGIN = 0.1
"""How much better than chance a model's accuracy and AUC must be to be plausible."""
FEWEST = 10
"""Samples below which an accuracy says nothing."""


def implausible(table: Table) -> list[str]:
    """Return a line for each model of a table whose accuracy or AUC on unaltered samples is hardly better than
    chance: a set of nine attacks in ten gives a model that calls everything an attack 90 % accuracy and an AUC of 0.5.

    Such a model is most often right and its card wrong; all numbers are then those of another network.
    """
    lines = {}
    for row in table.rows:
        model, area = row.record.model, row.clean_auc
        if model.clean_accuracy is None or model.clean_n < FEWEST:
            continue
        classes = (model.card.get("output") or {}).get("classes") or ()  # a record may say anything
        chance = 0.5 if model.task == "verification" else 1 / max(2, len(classes))
        poor = model.clean_accuracy < chance + MARGIN
        if poor or (area is not None and area < 0.5 + MARGIN):
            found = f"clean accuracy {model.clean_accuracy:.1%}" + ("" if area is None else f", AUC {area:.3f}")
            turned = area is not None and area <= 0.5 - MARGIN
            lines[model.name] = (
                f"{model.name}: {found}: {'hardly better than chance' if poor else 'the AUC is that of chance'} "
                f"({chance if poor else 0.5:.0%}), so these numbers say little: check the card's color, mean, std and "
                f"classes{', which may be turned round' if turned else ''} (`faithface inspect CARD --dataset D` tries "
                "the usual ones)"
            )
    return list(lines.values())


def flag_lines(table: Table) -> list[str]:
    """Return one line per explainer and kind of remark.

    Several protocols that look at the same maps make the same remark; the largest number of samples is given, with the
    first protocol that has it.
    """
    lines = []
    for row in table.rows:
        found = row.record.explainer.note.get(NOT_DETERMINISTIC)
        if found:
            lines.append(f"{row.title}: not deterministic: {found}")
        for text, (count, n) in counted(row).items():
            where = next(one.protocol for one in row.record.numbers if one.flags.get(text) == count)
            lines.append(f"{row.title}: {text}, {count} of {n} samples, in {where}")
    return lines


def counted(row: Row) -> dict[str, tuple[int, int]]:
    """Return by remark for how many samples it was made, and of how many."""
    most: dict[str, tuple[int, int]] = {}
    for number in row.record.numbers:
        for text, count in number.flags.items():
            most[text] = max(most.get(text, (0, 0)), (count, number.n + number.invalid))
    return most
