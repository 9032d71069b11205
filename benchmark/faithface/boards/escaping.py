"""Texts from plugins, suites and files, made fit for Markdown, CSV, LaTeX and terminals: none is more than text.

Place in the flow: ``render``, ``terminal`` and ``formats`` pass every text that they did not write themselves through
here. Imports the standard library.
"""

from __future__ import annotations

from unicodedata import combining, east_asian_width

LATEX = {
    "\\": r"\textbackslash{}", "{": r"\{", "}": r"\}", "$": r"\$", "&": r"\&", "#": r"\#", "^": r"\textasciicircum{}",
    "_": r"\_", "~": r"\textasciitilde{}", "%": r"\%", "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    '"': "''",
}  # fmt: skip
FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: str) -> str:
    """Return a text that stays in its line and its table cell, and holds no HTML, link or image.

    Examples:
        >>> markdown("a|b <script>alert(1)</script>")
        'a\\\\|b &lt;script&gt;alert(1)&lt;/script&gt;'
        >>> markdown("[here](javascript:x)")
        '[here]\\\\(javascript:x)'
    """
    flat = plain(text).replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")
    return flat.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def plain(text: str) -> str:
    """Return a text that stays in its line of a terminal, and holds no control character.

    Examples:
        >>> plain("two\\nlines \\x1b[31mred")
        'two lines [31mred'
    """
    flat = " ".join(text.split())
    return flat if flat.isprintable() else "".join(sign for sign in flat if sign.isprintable())


def cell_width(text: str) -> int:
    """Return how many columns of a terminal a text takes.

    Examples:
        >>> cell_width("face"), cell_width("顔")
        (4, 2)
    """
    return sum(0 if combining(sign) else 2 if east_asian_width(sign) in "WF" else 1 for sign in text)


def csv_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe in front.

    Examples:
        >>> csv_cell("=HYPERLINK(A1)")
        "'=HYPERLINK(A1)"
        >>> csv_cell("rise(masks=20)")
        'rise(masks=20)'
    """
    flat = plain(text)
    return f"'{flat}" if text.startswith(FORMULA) or flat.startswith(FORMULA) else flat


def latex(text: str) -> str:
    """Return a text that stays in its line and cell of a LaTeX table, and holds no command.

    Examples:
        >>> latex("50 % of a_b & \\\\input{x}")
        '50 \\\\% of a\\\\_b \\\\& \\\\textbackslash{}input\\\\{x\\\\}'
    """
    flat = plain(text)
    # No font of LaTeX has emoji, and an engine that meets one stops.
    shown = (sign if ord(sign) < 0x10000 else f"U+{ord(sign):X}" for sign in flat)
    return "".join(LATEX.get(sign, sign) for sign in shown)
