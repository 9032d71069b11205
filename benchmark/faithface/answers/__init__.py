"""From a question to an answer that can be checked: exact Shapley values of regions and things, and their pages.

Place in the flow: ``cli → answers → figures, plugins, regions, explaining``. Called by the command line and by users.

``why.py`` (one decision, answered) · ``identification.py``, ``gallery.py`` (one search of a gallery) · ``backdrop.py``
(threshold and scores of a data set) · ``wording.py`` (the sentence on top) · ``page.py``, ``picture.py`` (the answer as
HTML, and as a picture) ·
``shortcuts.py``, ``players.py``, ``shortcuts_page.py`` (what a network looks at over a set) · ``shell.py`` (what the
pages share) · ``report.py``, ``decisions.py``, ``measures.py``, ``trust.py``, ``report_page.py`` (the owner's report)
"""

from faithface.answers.identification import why_among
from faithface.answers.report import Report, make_report
from faithface.answers.shortcuts import Shortcuts, find_shortcuts
from faithface.answers.why import Answer, why

__all__ = ["Answer", "Report", "Shortcuts", "find_shortcuts", "make_report", "why", "why_among"]
