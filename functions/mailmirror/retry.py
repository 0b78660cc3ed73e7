"""Retry: parked messages are tried again when their time has come, or somebody asks.

Knows: what still fails waits longer, what Gmail does not know after ten minutes is gone, what workers died with is
tried alone, to cost one worker a retry at most. Does not know: what made it fail. Law 6.
"""

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from mailmirror import hints
from mailmirror.errand import Errand
from mailmirror.errors import DocumentExists, GmailError, GmailUnavailable, NoSubject
from mailmirror.fetch import Fetched, fetch_messages, look_up, look_up_fetched, most_fetches, open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Bring, Edit, Remove
from mailmirror.model import Origin, Parked
from mailmirror.parked import DEADLY, GONE_AFTER, RETRIES, tried_at


def due(hold: Hold, since: datetime | None) -> bool:
    """Return whether a message's time has come, or one was not tried `since`."""
    at = hold.mailbox.parked_due_at
    return (at is not None and at <= hold.clock.now()) or _asked(hold, since)


def parked(hold: Hold, errand: Errand, catch_up: hints.Pass) -> bool:
    """Try some of what is due, or all that is asked for; return whether none of this is left.

    New mail waits for some of it at most.
    """
    _step(hold, errand.retry_since)
    while _asked(hold, errand.retry_since):
        if hold.clock.now() >= errand.deadline or not hints.between_slices(hold, catch_up):
            return False
        _step(hold, errand.retry_since)
        hold.refresh()
        if hold.mailbox.wanted != "live":
            return False
    return True


def _asked(hold: Hold, since: datetime | None) -> bool:
    return since is not None and any(tried_at(item) < since for item in hold.parked.values())


def _due(hold: Hold, since: datetime | None) -> list[Parked]:
    now = hold.clock.now()
    items = sorted(hold.parked.values(), key=lambda item: item.next_attempt_at)
    return [i for i in items if i.next_attempt_at <= now or (since is not None and tried_at(i) < since)]


def _step(hold: Hold, since: datetime | None) -> None:
    """Try a step's share, and commit that."""
    for item in _due(hold, since):
        if item.id in hold.mailbox.suspect:
            # A worker died with it.
            _in_time(hold, [item])
            _commit(hold, [item], _failed(hold, item))
    due = _due(hold, since)
    origins: tuple[Origin, ...] = ("live", "backfill", "repair")
    for origin in origins:
        items = [item for item in due if item.origin == origin and not item.deadly]
        if items:
            _retry(hold, items[: 1 if hold.careful else min(RETRIES, most_fetches(hold))])
    for item in [item for item in due if item.deadly][:1]:
        hold.suspect(item.id)
        _retry(hold, [item])


def _in_time(hold: Hold, items: Sequence[Parked]) -> None:
    """Let what fails before its time count as an attempt: it was asked for."""
    now = hold.clock.now()
    hold.parked.update((item.id, replace(item, next_attempt_at=min(now, item.next_attempt_at))) for item in items)


def _retry(hold: Hold, items: Sequence[Parked]) -> None:
    origin = items[0].origin
    _in_time(hold, items)
    try:
        fetched = fetch_messages(hold, {item.id: item.thread_id for item in items}, origin=origin)
    except GmailError as error:
        # It must not stand in the way of the rest.
        refused = Fetched(origin)
        for item in items:
            refused.park(hold, item.id, item.thread_id, str(error))
        _commit(hold, items, refused)
        if isinstance(error, GmailUnavailable | NoSubject):
            return
        raise
    for item in items:
        if item.id in fetched.gone and hold.clock.now() - item.first_at < GONE_AFTER:
            fetched.doubt(hold, item.id)
    try:
        _commit(hold, items, fetched)
    except DocumentExists:
        # Now the hold is wary.
        _commit(hold, items, fetched)


def _failed(hold: Hold, item: Parked) -> Fetched:
    fetched = Fetched(item.origin)
    fetched.park(hold, item.id, item.thread_id, DEADLY, deadly=True)
    return fetched


def _commit(hold: Hold, items: Sequence[Parked], fetched: Fetched) -> None:
    address = hold.mailbox.email_address
    threads = {item.thread_id for item in items} if fetched.messages or fetched.gone else set()
    sheet = open_sheet(hold, hold.store.threads(address, threads), threads, fetched.origin)
    look_up_fetched(hold, sheet, fetched)
    # It may be mirrored in another thread.
    look_up(hold, sheet, set(), fetched.gone)
    edits: list[Edit] = [Bring(message, rewrite=True) for message in fetched.messages]
    parts = fetched.slices(hold, sheet, [*edits, *map(Remove, fetched.gone)])
    for message_id in fetched.gone:
        log("parked_message_gone", address, message=message_id)
    for part in parts[:-1]:
        hold.commit(hold.mailbox, part, origin=fetched.origin)
    rest = parts[-1] if parts else None
    hold.commit(hold.mailbox, rest, origin=fetched.origin, park=fetched.parked, unpark=fetched.settled())
