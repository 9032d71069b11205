"""What was found of shortcuts as one self-contained HTML page.

Place in the flow: the last step of ``faithface shortcuts``. May call ``shortcuts`` and ``shell``; how it looks stands
in ``shortcuts.html.j2``.
"""

from __future__ import annotations

from pathlib import Path

from faithface.answers.shell import data_uri, fill_template, signed, write_text
from faithface.answers.shortcuts import Part, Shortcuts

VERDICTS = {
    "shortcut": "a shortcut",
    "perhaps": "perhaps",
    "clear": "no shortcut",
    "evidence": "evidence",
    "not told apart": "eyes or glasses",
}
MEANINGS = {
    "cue": "the marks of the attack itself: what a detector should see",
    "paper edge": "the white edge of a paper print near the frame",
    "corner tag": "a small tag in the corner",
    "glasses": "glasses on the face",
    "background": "what is behind the person",
    "face": "the face and the hair above it, without the eyes",
    "eyes": "the band of the eyes and brows, where glasses sit",
    "border": "a frame of one eighth of the side",
    "corners": "the four corners",
}


def render_shortcuts(found: Shortcuts) -> str:
    """Return the page as HTML text."""
    top = max(part.high for part in found.parts)
    top = max(top, *(float(family.shares.max()) for family in found.families), found.bound) * 1.02
    pairs = found.card.task == "verification"

    def place(share: float) -> float:
        return round(100 * share / top, 2)

    def row(r: int, part: Part) -> dict[str, object]:
        return {
            "name": part.name,
            "meaning": MEANINGS.get(part.name, ""),
            "width": place(part.share),
            "low": place(part.low),
            "high": place(part.high),
            "text": f"{part.share:.0%}",
            "interval": f"{part.low:.0%} to {part.high:.0%}",
            "turned": f"{part.turned:.0%}",
            "verdict": VERDICTS[part.verdict],
            "kind": part.verdict.replace(" ", "-"),
            "marks": [
                (number, place(float(share)))
                for number, family in enumerate(found.families)
                for share in family.shares[:, r]
            ],
        }

    order = sorted(range(len(found.parts)), key=lambda r: -found.parts[r].share)
    share, low, high = found.outside
    return fill_template(
        "shortcuts.html.j2",
        found=found,
        title=f"{found.sentence()}.",
        rows=[row(r, found.parts[r]) for r in order],
        bound=place(found.bound),
        outside=f"{share:.0%} of the decision lies {found.outside_name} (95 % interval {low:.0%} to {high:.0%}).",
        scalar="similarity" if pairs else "log-odds of the positive class",
        samples="pairs" if pairs else "images",
        families=[(number, family.name, len(family.models)) for number, family in enumerate(found.families)],
        examples=[
            {
                "part": one.part,
                "sample": one.sample,
                "before": data_uri(one.before),
                "after": data_uri(one.after),
                "value": signed(one.value, 2),
            }
            for one in sorted(found.examples, key=lambda one: -abs(one.value))
        ],
    )


def write_shortcuts(found: Shortcuts, out: Path) -> None:
    """Write the page.

    Raises:
        RunError: the path cannot be written.
    """
    write_text(out, render_shortcuts(found))
