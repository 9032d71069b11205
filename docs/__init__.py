"""The documentation, and under ``tools`` the programs that write parts of it. Not part of the wheel."""
