"""Runs: a request in, per-sample values in one SQLite file out.

Place in the flow: called by ``cli`` and ``api``; may call ``plugins``, ``model``, ``loading`` and the contract. Nothing
below this package knows of it; ``boards`` reads what it stores.

``suite.py`` reads suite files · ``request.py`` says what was asked for, ``plan.py`` what will be done and what is not
applicable, before anything starts (``choice.py``: on which samples) · ``shard.py`` explains and scores a few samples, a
pure function · ``executors/`` run shards here or on Ray · ``results.py`` is what they yield · ``family.py`` scores
several training runs of one model together · ``store.py`` keeps the values (``reading.py`` what can be asked of it,
``rows.py``, ``schema.py`` its tables, ``lock.py`` its one writer) · ``inputs.py`` says what a number depends on and
``resume.py`` what is still to do · ``driver.py`` joins them · ``status.py`` says how far a run is · ``outcome.py``
says what became of a run, ``not_applicable.py`` what was not applicable in it, in few lines · ``environment.py`` says
where it happened · ``export.py`` writes values and maps for other tools.
"""
