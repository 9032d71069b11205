"""Long tests of endurance: faults by number, kills, scale. ``tox -e soak`` runs them; short forms are in the suite."""
