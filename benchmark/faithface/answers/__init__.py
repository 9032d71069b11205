"""From a question to an answer that can be checked: exact Shapley values of regions and things, and their pages.

Place in the flow: ``cli → answers → figures, plugins, regions, explaining``. Called by the command line and by users.

One decision: ``why.py``, ``wording.py`` (the sentence at the top), ``backdrop.py`` (threshold and scores of a data
set), ``alignment.py``, ``page.py`` (HTML), ``picture.py`` (PNG). One search of a gallery: ``identification.py``,
``gallery.py``. What a network looks at over a set: ``shortcuts.py``, ``players.py``, ``scoring.py``,
``shortcuts_page.py``. The owner's report: ``report.py``, ``decisions.py``, ``measures.py``, ``trust.py``,
``report_page.py``. What the pages share: ``shell.py``.
"""

from faithface.answers.identification import why_among
from faithface.answers.report import Report, make_report
from faithface.answers.shortcuts import Shortcuts, find_shortcuts
from faithface.answers.why import Answer, why

__all__ = ["Answer", "Report", "Shortcuts", "find_shortcuts", "make_report", "why", "why_among"]
