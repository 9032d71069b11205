"""Runs: a request in, per-sample values in one SQLite file out.

Place in the flow: called by ``cli`` and ``api``; may call ``plugins``, ``model``, ``loading`` and the contract. Nothing
below this package knows of it; ``boards`` reads what it stores.

``suite.py`` reads suite files · ``plan.py`` says what will be done and what cannot apply, before anything starts ·
``shard.py`` explains and scores a few samples, a pure function · ``local.py`` and ``cluster.py`` run shards here or
on Ray · ``family.py`` scores several training runs of one model together · ``store.py`` keeps the values ·
``driver.py`` joins them · ``outcome.py`` says what became of a run · ``environment.py`` where it happened ·
``export.py`` writes values and maps for other tools.
"""
