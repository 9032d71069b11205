"""``python -m faithface``: the command line."""

import sys

from faithface.cli import main

sys.exit(main())
