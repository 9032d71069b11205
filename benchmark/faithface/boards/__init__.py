"""Boards: from finished runs to records, and from records to tables that anyone can rebuild byte for byte.

Place in the flow: ``record.py`` says what a record is and keeps it on disk; ``collect.py`` makes one per cell of a
finished run; ``board.py`` puts records into tables, ``render.py`` writes them, ``publish.py`` keeps boards on
disk; ``statistics.py`` holds the intervals and ties. May call ``run``'s plan and store and the contract; never a model.
"""
