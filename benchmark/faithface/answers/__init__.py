"""From a question about one decision to an answer that can be checked: exact region Shapley values and their page.

Place in the flow: ``cli → answers → figures, plugins, regions, explaining``. Called by the command line and by users.

``why.py`` (one decision, answered) · ``backdrop.py`` (threshold and scores of a data set) · ``wording.py`` (the
sentence at the top) · ``page.py`` (the answer as HTML)
"""

from faithface.answers.why import Answer, why

__all__ = ["Answer", "why"]
