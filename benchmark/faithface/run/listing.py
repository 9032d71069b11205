"""Have datasets listed where plugins run, so that the driver need not call them.

Place in the flow: ``cli.run`` gives :func:`lister` to ``plan.make_plan``. May call ``listed`` and ``executors``.
"""

from __future__ import annotations

import pickle
from dataclasses import replace

from faithface.contract import Dataset
from faithface.plugins import Resolved
from faithface.reasons import Reason
from faithface.run.executors import Executor, GroupFailed, apply, can_apply, packed
from faithface.run.listed import Listed, Lister, list_dataset, unknown


def lister(executor: Executor) -> Lister:
    """Return how a plan's datasets are listed: where the executor runs plugins."""
    if not can_apply(executor):
        return lambda found: found  # plugins run in this process

    def listed(found: Resolved[Dataset]) -> Resolved[Dataset]:
        restore = (pickle.loads, (packed(found.object),))
        problem = None
        try:
            about = f'dataset "{found.spec}", while its samples were listed,'
            listing = apply(executor, list_dataset, found.object, about=about)
        except GroupFailed as error:
            problem = Reason(error.code, str(error))
            listing = unknown(found.object)
        return replace(found, object=Listed(found.object, restore, listing, problem))

    return listed
