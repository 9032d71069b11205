"""The plugin: one model card. Place in the flow: loaded by faithface through the entry point ``resnet29``."""

from collections.abc import Iterable
from pathlib import Path

import faithface


@faithface.hookimpl
def faithface_models() -> Iterable[faithface.ModelCard]:
    return [faithface.load_card(Path(__file__).parent / "resnet29.toml")]
