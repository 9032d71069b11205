"""Boards: from finished runs to records, and from records to tables that anyone can rebuild byte for byte.

Place in the flow: ``record.py`` turns a run into one record per cell; ``build.py`` reads records and ``render.py``
writes tables; ``statistics.py`` holds the intervals and ties. May call ``run.store``, ``metrics`` and the contract;
never a model.
"""
