"""The delta log as applications follow it: pages behind a cursor, and waiting for more.

Knows: that the log has no gaps, so that a delta which is gone is missed; that a cursor names a life of the mailbox, the
delta it is behind and its time. Does not know: HTTP, or what is published (`announce`).
"""

import base64
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from threading import Lock
from typing import Any

from mailmirror import mailboxes
from mailmirror.documents import to_document
from mailmirror.errors import CursorExpired, InvalidInput, StoreUnavailable
from mailmirror.finding import readable
from mailmirror.model import EPOCH, ChangeType, Delta, Mailbox, MailboxId, Origin
from mailmirror.ports import Clock, Store
from mailmirror.slice import weigh

MAX_LIMIT = 500
# Of one answer, and of one read.
MAX_LOOKED_AT = 500
MAX_BYTES = 4_000_000
CHUNK = 50
# Between looks at a mailbox, for all who wait for it here.
LOOK_SECONDS = 0.5
_LOOK = timedelta(seconds=LOOK_SECONDS)


@dataclass(frozen=True, slots=True)
class Ask:
    """What somebody follows.

    Attributes:
        cursor: None: the beginning of the log.
        limit: deltas of a page, at the most.
        types, origins: empty: all.
    """

    cursor: str | None = None
    limit: int = 100
    types: frozenset[ChangeType] = frozenset()
    origins: frozenset[Origin] = frozenset()


@dataclass(frozen=True, slots=True)
class Page:
    """Deltas as JSON has them, the cursor behind all that was looked at, and whether the log goes on."""

    deltas: tuple[Mapping[str, Any], ...]
    cursor: str
    more: bool


def delta_json(mailbox: Mailbox, delta: Delta) -> dict[str, Any]:
    """Return a delta as applications get it."""
    return {
        "cursor": _cursor(life_of(mailbox), delta.seq, _micros(delta.at)),
        "seq": delta.seq,
        "at": delta.at.isoformat(),
        "origin": delta.origin,
        "historyId": delta.cursor,
        "changes": [to_document(change) for change in delta.changes],
    }


class Deltas:
    """The logs of all mailboxes. What is asked of one raises `InvalidInput`, `UnknownMailbox` and `BeingPurged`."""

    def __init__(self, store: Store, clock: Clock) -> None:
        self._store = store
        self._clock = clock
        self._lock = Lock()
        self._looks: dict[MailboxId, _Look] = {}

    def latest(self, address: str) -> str:
        """Return the cursor behind all deltas."""
        mailbox = readable(self._store, address)
        seq = mailbox.delta_seq
        newest = self._store.deltas(mailbox.email_address, after=seq - 1, limit=1) if seq else []
        at = next((_micros(delta.at) for delta in newest if delta.seq == seq), 0)
        return _cursor(life_of(mailbox), seq, at)

    def page(self, address: str, ask: Ask) -> Page:
        """Return the next deltas. Raises `CursorExpired`."""
        return self._page(readable(self._store, address), ask)

    def _page(self, mailbox: Mailbox, ask: Ask) -> Page:
        life, begun, at = (life_of(mailbox), 0, 0) if ask.cursor is None else _read_cursor(ask.cursor)
        if life != life_of(mailbox) or begun > mailbox.delta_seq:
            raise CursorExpired("This cursor is not of this delta log: the mailbox was connected anew, or restored.")
        found: list[dict[str, Any]] = []
        # The delta the cursor is behind is looked at again: a log restored from a backup has another there.
        seq, after, weight, whole = begun, begun - bool(at), 0, at > 0 or begun < mailbox.delta_seq
        while whole and len(found) < ask.limit and seq - begun < MAX_LOOKED_AT and weight < MAX_BYTES:
            most = CHUNK if ask.types or ask.origins else ask.limit - len(found)
            wanted = min(CHUNK, most, begun + MAX_LOOKED_AT - seq) + seq - after
            chunk = self._store.deltas(mailbox.email_address, after=after, limit=wanted)
            whole = len(chunk) == wanted
            for delta in chunk:
                if delta.seq == begun:
                    if _micros(delta.at) != at:
                        raise CursorExpired("The database was restored: this cursor is of another delta log.")
                    continue
                if delta.seq != seq + 1:
                    whole = False
                    break
                seq, at, kept = delta.seq, _micros(delta.at), _filtered(delta, ask)
                if kept is not None:
                    found.append(delta_json(mailbox, kept))
                    weight += weigh(found[-1])
                if len(found) == ask.limit or weight >= MAX_BYTES:
                    break
            after = seq
        if seq == begun:
            if seq < mailbox.delta_seq:
                raise CursorExpired("The deltas behind this cursor are deleted.")
        else:
            # In between it may have been deleted and connected anew.
            mailbox = readable(self._store, mailbox.email_address)
            if life != life_of(mailbox):
                raise CursorExpired("The mailbox was connected anew.")
        return Page(tuple(found), _cursor(life, seq, at), seq < mailbox.delta_seq)

    def follow(self, address: str, ask: Ask, wait: float, behind: Page | None = None) -> Page:
        """Return the next deltas, if there are none as soon as some come, or none after `wait` seconds.

        Args:
            behind: the page before: if that was all, the next look tells of more.
        """
        page = self.page(address, ask) if behind is None or behind.more else Page((), behind.cursor, more=False)
        until = self._clock.now() + timedelta(seconds=wait)
        name = mailboxes.mailbox_id(address)
        with self._lock:
            look = self._looks.setdefault(name, _Look(self._clock.now() + _LOOK))
            look.followers += 1
        try:
            while not (page.deltas or page.more) and (left := until - self._clock.now()) > timedelta():
                state, (life, seq, _) = self._look(name, look, left), _read_cursor(page.cursor)
                ask = replace(ask, cursor=page.cursor)
                if state is None or state.wanted == "purged" or life_of(state) != life or state.delta_seq < seq:
                    # Gone, or the look is older than the page.
                    page = self.page(address, ask)
                elif state.delta_seq > seq:
                    page = self._page(state, ask)
        finally:
            with self._lock:
                look.followers -= 1
                if not look.followers:
                    del self._looks[name]
        return page

    def _look(self, name: MailboxId, look: "_Look", left: timedelta) -> Mailbox | None:
        """Return the mailbox at the next look: all wait for the same one, and whoever comes first takes it."""
        wait = min(max(look.due - self._clock.now(), timedelta()), _LOOK, left)
        self._clock.sleep(wait.total_seconds())
        with look.lock:
            # Another took it, or `left` is over. Clocks may be set back.
            if not timedelta() < look.due - self._clock.now() <= _LOOK:
                try:
                    look.state, look.failure = self._store.mailbox(name), None
                except StoreUnavailable as error:
                    look.failure = str(error)
                look.due = self._clock.now() + _LOOK
            if look.failure is not None:
                raise StoreUnavailable(look.failure)
            return look.state


@dataclass(slots=True)
class _Look:
    """The last look at a mailbox, for all who follow it, what it failed by, and when the next is due."""

    due: datetime
    lock: Lock = field(default_factory=Lock)
    followers: int = 0
    state: Mailbox | None = None
    failure: str | None = None


def _filtered(delta: Delta, ask: Ask) -> Delta | None:
    if ask.origins and delta.origin not in ask.origins:
        return None
    changes = tuple(change for change in delta.changes if not ask.types or change.type in ask.types)
    return replace(delta, changes=changes) if changes else None


def life_of(mailbox: Mailbox) -> int:
    """Return a number that each life of a mailbox has for itself, above those of earlier ones, in microseconds."""
    return _micros(mailbox.created_at)


def _micros(at: datetime) -> int:
    return (at - EPOCH) // timedelta(microseconds=1)


def _cursor(life: int, seq: int, at: int) -> str:
    return base64.urlsafe_b64encode(f"{life}.{seq}.{at}".encode()).decode().rstrip("=")


def _read_cursor(text: str) -> tuple[int, int, int]:
    """Return the life, the last delta, and its time, 0 where unknown."""
    try:
        held = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode() if len(text) < 100 else ""
    except ValueError:
        held = ""
    match = re.fullmatch(r"([0-9]{1,18})\.([0-9]{1,18})\.([0-9]{1,18})", held, re.ASCII)
    life, seq, at = map(int, match.groups()) if match is not None else (0, 0, 0)
    if _cursor(life, seq, at) != text:
        raise InvalidInput("cursor must be one that an answer gave.")
    return life, seq, at
