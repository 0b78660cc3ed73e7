"""Sizes: what is large in production is small here, so that a mailbox of ten messages has pages, groups and slices.

Knows: the constants of the engine and the adapter that bound a page, a group, a slice or a step's share. Does not know:
what they are for. Production values come back when the world ends.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from random import Random
from typing import Any

import pytest
from mailmirror import keep, listing, objects, planner, purge, reconcile, retry, tidying
from mailmirror.adapters.gmail import calls
from mailmirror.mirror import Sheet

from tests.simulation.mails import LARGE

NAMES: tuple[tuple[Any, str, tuple[int, ...]], ...] = (
    (planner, "GROUP_CHANGES", (1, 3, 400)),
    (planner, "GROUP_FETCHES", (1, 2, 50)),
    (planner, "STORED_FETCHES", (1, 3, 25)),
    (planner, "PLAN_THREADS", (1, 2, 500)),
    (reconcile, "CLEAR", (1, 3, 400)),
    (listing, "READ", (1, 100)),
    (retry, "RETRIES", (1, 25)),
    (purge, "DOCUMENTS", (1, 3, 400)),
    (purge, "OBJECTS", (1, 100)),
    (tidying, "THREADS", (1, 2, 100)),
    (objects, "_DOCUMENTS", (1, 20)),
    (objects, "_NAMES", (1, 20)),
    (calls, "MAX_BATCH", (2, 25)),
)
MAX_WRITES = (5, 8, 350)


@contextmanager
def drawn(rng: Random) -> Iterator[None]:
    """Set sizes by chance, for as long as the world lasts."""
    with pytest.MonkeyPatch.context() as patch:
        for owner, name, values in NAMES:
            patch.setattr(owner, name, rng.choice(values))
        patch.setattr(planner.take, "__kwdefaults__", {"max_messages": planner.GROUP_FETCHES})
        defaults = Sheet.__init__.__kwdefaults__ or {}
        patch.setattr(Sheet.__init__, "__kwdefaults__", {**defaults, "max_writes": rng.choice(MAX_WRITES)})
        patch.setattr(keep, "INLINE_BYTES", LARGE)
        yield
