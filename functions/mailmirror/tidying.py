"""Tidying: what leaves the mirror without a word of Gmail's is taken out of it, slice by slice.

Knows: what there is to do; new mail waits for one slice at most. Does not know: what is too old (`ageing`), or which
labels are gone (`ghosts`).
"""

from datetime import datetime

from mailmirror import ageing, ghosts, hints
from mailmirror.lease import Hold


def due(hold: Hold) -> bool:
    """Return whether something is due."""
    return ageing.due(hold) or ghosts.due(hold)


def tidy(hold: Hold, deadline: datetime, catch_up: hints.Pass) -> bool:
    """Do it, catching up when a hint waits, one slice even after the deadline; return whether all is done."""
    moved = False
    while due(hold):
        if moved and hold.clock.now() >= deadline:
            return False
        moved = True
        if not hints.between_slices(hold, catch_up):
            return False
        if ageing.due(hold):
            ageing.step(hold)
        elif ghosts.due(hold):
            ghosts.step(hold)
        hold.refresh()
        if hold.mailbox.wanted != "live":
            return False
    return True
