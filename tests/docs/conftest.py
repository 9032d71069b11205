"""The documentation's examples are as small as the networks of the kit, and use one thread too."""

from tests.testing.conftest import one_thread

__all__ = ["one_thread"]
