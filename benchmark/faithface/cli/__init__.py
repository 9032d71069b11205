"""The command line: parse, call, print. ``faithface --help`` lists the commands.

Place in the flow: the outermost layer. ``main`` holds the program and its errors; each other module holds the commands
of one subject and imports what they call only when they run, so that ``--help`` is quick.
"""

from faithface.cli.main import main

__all__ = ["main"]
