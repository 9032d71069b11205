"""Read the next batch while the network works on this one.

Place in the flow: ``run`` wraps its loop over shards in :func:`prefetch`. Imports only the standard library.

Decoding images releases the interpreter's lock, as the network's passes do, so one thread ahead is enough to keep the
device from waiting for files.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from typing import TypeVar

In = TypeVar("In")
Out = TypeVar("Out")


def prefetch(load: Callable[[In], Out], items: Iterable[In], ahead: int = 1) -> Iterator[Out]:
    """Yield ``load(item)`` for each item, in order, with up to ``ahead`` loads running or waiting in a thread.

    At most ``ahead + 1`` results are alive at a time, whatever the number of items. An error of ``load`` is raised
    when its result is due; leaving the loop early ends the thread after the current load.

    Args:
        load: runs in another thread, one call at a time, in order.
        items: what to load, read lazily.
        ahead: how many results may be ready; 0 = load on demand, in this thread.
    """
    if ahead < 1:
        yield from map(load, items)
        return
    source = iter(items)
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="prefetch")
    try:
        waiting: list[Future[Out]] = [pool.submit(load, item) for item in islice(source, ahead)]
        while waiting:
            ready = waiting.pop(0).result()
            waiting.extend(pool.submit(load, item) for item in islice(source, 1))
            yield ready
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
