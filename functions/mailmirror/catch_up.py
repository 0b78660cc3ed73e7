"""Catch up (partial sync): apply Gmail's history after the cursor, page by page.

Knows: how a page of history becomes commits. Does not know: why it is called, nor runs but to start one when history
has expired. Law 1: the cursor follows from what was applied, in the same commit: the last record applied with all
before it; after a complete pass the *first* page's history id, as mail may arrive while later ones are read
(users.history.list, sync guide).
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mailmirror import planner, reconcile, tidying
from mailmirror.errors import DocumentExists, HistoryExpired, PageTokenExpired
from mailmirror.fetch import Fetched, fetch_messages, look_up, look_up_fetched, most_fetches, open_sheet
from mailmirror.history import NetChange, fold
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Bring, Edit, Relabel, Remove, Sheet
from mailmirror.model import HistoryId, HistoryPage, Mailbox, MessageId, Parked
from mailmirror.parked import DEADLY
from mailmirror.planner import Decision, Group
from mailmirror.reconcile import Recovery
from mailmirror.slice import Slice


@dataclass(frozen=True, slots=True)
class CatchUp:
    """One pass over the history after the cursor.

    Attributes:
        deadline: no page but the first begins after it.
        target: what a notification promised.
        noticed_at: when it was published, for the lag.
        release: in the last commit, if the cursor reaches `target`.
    """

    hold: Hold
    prices: Mapping[str, int]
    deadline: datetime
    target: HistoryId = 0
    noticed_at: datetime | None = None
    release: bool = False
    recovery: Recovery = "thread-history"

    def run(self) -> bool:
        """Apply it, or start a run when it has expired; return whether the pass is complete, not cut off."""
        hold = self.hold
        start, token, head = hold.mailbox.cursor, None, 0
        wary = hold.wary
        while True:
            try:
                page = hold.gmail.history(start, token)
            except PageTokenExpired:
                start, token, head = hold.mailbox.cursor, None, 0
                continue
            except HistoryExpired:
                # Nothing is jumped: a run compares all.
                log("history_expired", hold.mailbox.email_address, level=logging.WARNING, cursor=hold.mailbox.cursor)
                reconcile.start(hold, "repair", "Gmail's history had expired.", recovery=self.recovery)
                return True
            head = head or page.history_id
            try:
                # An empty page may have a next one.
                self._page(page, head if page.next_page_token is None else None)
            except DocumentExists:
                if wary:
                    raise
                start, token, head, wary = hold.mailbox.cursor, None, 0, True
                continue
            if page.next_page_token is None:
                return True
            token = page.next_page_token
            if hold.clock.now() >= self.deadline:
                if page.records:
                    # Not to read again what asked for nothing.
                    hold.commit(_at(hold.mailbox, page.records[-1].id))
                return False
            hold.keep()

    def _page(self, page: HistoryPage, head: HistoryId | None) -> None:
        """Apply one page; `head` is the cursor after the last."""
        hold = self.hold
        changes = fold(page.records)
        threads = {change.thread_id for change in changes}
        sheet = open_sheet(hold, hold.store.threads(hold.mailbox.email_address, threads), threads, "live")
        lost = [c.message_id for c in changes if planner.leaves(c, sheet.policy) and sheet.entry(c.message_id) is None]
        look_up(hold, sheet, set(), lost)
        run = hold.mailbox.active_run
        decided = {
            c.message_id: planner.decide(
                c, sheet.entry(c.message_id), sheet.policy, run, place=sheet.place(c.message_id)
            )
            for c in changes
        }
        fetches, most = 1, 1
        if not hold.careful:
            affordable = hold.gmail.affordable(planner.SLICE_SECONDS) // self.prices["users.messages.get"]
            fetches, most = max(1, min(most_fetches(hold), affordable)), planner.GROUP_CHANGES
        for group in planner.groups(changes, page.records, decided, max_fetches=fetches, max_changes=most):
            self._group(sheet, group, decided, head if group.last else None)
        if head is not None and not changes:
            self._finish(_at(hold.mailbox, head))

    def _group(self, sheet: Sheet, group: Group, decided: Mapping[MessageId, Decision], head: HistoryId | None) -> None:
        hold = self.hold
        fetched = self._fetch(group, decided)
        steps = {change.message_id: change.steps for change in group.changes}
        brought = {message.id: Bring(message, steps[message.id]) for message in fetched.messages}
        parked = {item.id for item in fetched.parked}
        edits = [
            edit
            for change in group.changes
            if change.message_id not in parked
            and (edit := brought.get(change.message_id) or _edit(change, decided[change.message_id])) is not None
        ]
        look_up_fetched(hold, sheet, fetched)
        parts = fetched.slices(hold, sheet, edits)
        for part in parts[:-1]:
            hold.commit(hold.mailbox, part)
        rest = parts[-1] if parts else None
        settled = [c.message_id for c in group.changes if c.deleted] + fetched.settled()
        unpark = [message_id for message_id in settled if message_id in hold.parked]
        if head is not None:
            self._finish(_at(hold.mailbox, head), rest, park=fetched.parked, unpark=unpark)
        elif rest is not None or fetched.parked or unpark or hold.careful:
            # Where workers die, what did no harm is left behind.
            hold.commit(_at(hold.mailbox, group.cursor), rest, park=fetched.parked, unpark=unpark)
        else:
            hold.keep()

    def _fetch(self, group: Group, decided: Mapping[MessageId, Decision]) -> Fetched:
        hold = self.hold
        if hold.careful:
            for change in group.changes:
                # `fetch` looks after the rest; what is gone is not read.
                if decided[change.message_id] == "relabel" and hold.suspect(change.message_id):
                    result = Fetched("live")
                    result.park(hold, change.message_id, change.thread_id, DEADLY, deadly=True)
                    return result
        wanted = {c.message_id: c.thread_id for c in group.changes if decided[c.message_id] == "fetch"}
        return fetch_messages(hold, wanted, origin="live", late=True)

    def _finish(
        self,
        mailbox: Mailbox,
        part: Slice | None = None,
        *,
        park: Sequence[Parked] = (),
        unpark: Sequence[MessageId] = (),
    ) -> None:
        """Commit the end of a pass."""
        if self.noticed_at is not None:
            lag = max(0.0, (self.hold.clock.now() - self.noticed_at).total_seconds())
            mailbox = replace(mailbox, last_notification_at=self.noticed_at, lag=lag)
        ahead = tuple(hint for hint in mailbox.unreached if hint.history_id > mailbox.cursor)
        mailbox = replace(mailbox, unreached=ahead)
        release = self.release and mailbox.cursor >= self.target and not tidying.haunted(self.hold)
        if release:
            mailbox = replace(mailbox, problem=None, throttled_until=None)
        self.hold.commit(mailbox, part, park=park, unpark=unpark, release=release)


def _edit(change: NetChange, decision: Decision) -> Edit | None:
    if decision == "relabel":
        return Relabel(change.message_id, change.steps)
    return Remove(change.message_id, change.last) if decision == "remove" else None


def _at(mailbox: Mailbox, cursor: HistoryId) -> Mailbox:
    """Move the cursor, never back."""
    return replace(mailbox, cursor=max(mailbox.cursor, cursor))
