"""Texts from plugins, suites and files, made fit for Markdown and CSV: nothing in them is markup or a formula.

Place in the flow: ``render`` passes every text that it did not write itself through here. Imports the standard library.
"""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")


def markdown(text: str) -> str:
    """Return a text that stays in its line and its table cell, and holds no HTML, link or image.

    Examples:
        >>> markdown("a|b <script>alert(1)</script>")
        'a\\\\|b &lt;script&gt;alert(1)&lt;/script&gt;'
        >>> markdown("[here](javascript:x)")
        '[here]\\\\(javascript:x)'
    """
    plain = text.replace("\\", "\\\\").replace("|", "\\|").replace("](", "]\\(")
    return " ".join(plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def csv_cell(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: one that begins like one gets an apostrophe in front.

    Examples:
        >>> csv_cell("=HYPERLINK(A1)")
        "'=HYPERLINK(A1)"
        >>> csv_cell("rise(masks=20)")
        'rise(masks=20)'
    """
    flat = " ".join(text.split())
    return f"'{flat}" if text.startswith(FORMULA) or flat.startswith(FORMULA) else flat
