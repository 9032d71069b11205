"""``faithface doctor``: what is installed, and whether it works.

Place in the flow: prints what ``faithface.doctor`` found.
"""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated

import typer

from faithface.cli.lines import say

if TYPE_CHECKING:
    from faithface.doctor import Diagnosis


def doctor(as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> int:
    """Say what is installed, which providers load, and whether a test of a few seconds passes."""
    from faithface.doctor import diagnose

    found = diagnose()
    if as_json:
        typer.echo(json.dumps(found.as_dict(), indent=1, ensure_ascii=False))
    else:
        for line in lines(found):
            say(line, sys.stdout)
    return 0 if found.healthy else 1


def lines(found: Diagnosis) -> list[str]:
    """Return a diagnosis as lines."""
    memory = ", ".join(f"{value / 1e9:.1f} GB {what}" for what, value in found.memory.items()) or "not known"
    out = [f"system      {found.system}, {found.processors} processors"]
    out.append(f"memory      {memory}; disk {found.disk / 1e9:.0f} GB free here")
    out += [f"devices     {', '.join(found.devices) or 'the processor; torch sees no CUDA device'}"]
    out += [f"version     {name} {version}" for name, version in found.versions.items()]
    out += [f"provider    {name}: {problem or 'loads'}" for name, problem in found.providers.items()]
    for row in found.plugins:
        what = "; ".join(f"{len(names)} {kind}" for kind, names in row.registered.items())
        out.append(f"plugin      {row.distribution} {row.version}: {row.error or what or row.status}")
    for check in found.checks:
        out.append(f"self test   {check.name}: {check.problem or 'passed'} ({check.seconds:.1f} s)")
    out.append("all is well" if found.healthy else "something is wrong: see above")
    return out


def add_to(app: typer.Typer) -> None:
    app.command()(doctor)
