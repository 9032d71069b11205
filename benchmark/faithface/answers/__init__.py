"""From a question to an answer that can be checked: exact Shapley values of regions and things, and their pages.

Place in the flow: ``cli → answers → figures, plugins, regions, explaining``. Called by the command line and by users.

``why.py`` (one decision, answered) · ``identification.py``, ``gallery.py`` (one search of a gallery) · ``backdrop.py``
(threshold and scores of a data set) · ``wording.py`` (the sentence on top) · ``page.py``, ``picture.py`` (the answer as
HTML, and as a picture) ·
``shortcuts.py``, ``players.py``, ``shortcuts_page.py`` (what a network looks at over a set) · ``shell.py`` (what the
pages share)
"""

from faithface.answers.identification import why_among
from faithface.answers.shortcuts import Shortcuts, find_shortcuts
from faithface.answers.why import Answer, why

__all__ = ["Answer", "Shortcuts", "find_shortcuts", "why", "why_among"]
