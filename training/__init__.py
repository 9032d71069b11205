"""How the networks in ``faithface_plugins/models`` are made: trained on planted faces, exported, measured.

Place in the flow: outside the wheel; calls ``faithface_plugins.datasets.planted`` for images and ``faithface`` for
cards and models; nothing calls it. The order of a training::

    data.py -> recipes.py + networks.py + losses.py -> loops.py -> export.py     python -m training.train_zoo
    data.py -> the committed files -> evaluate_zoo.py -> docs/models/zoo.md      python -m training.evaluate_zoo

The mechanism-exact networks are made alike, by ``exact_networks.py``, ``train_exact.py`` and ``evaluate_exact.py``.
"""
