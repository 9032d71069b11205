"""Long forms of tests that the suite runs short: thousands of cases instead of dozens (``tox -e soak``)."""
