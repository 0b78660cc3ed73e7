"""Catch up (partial sync): apply Gmail's history after the cursor, page by page.

Knows: how a page of history becomes commits, and which cursor each of them may carry. Does not know: why it is called,
nor runs beyond starting one when history has expired. Law 1: the cursor is derived from what was applied, in the same
commit. After a complete pass it is the *first* page's history id, because mail may arrive while later pages are read;
before that it is the last record that is applied together with all records before it (facts: users.history.list, sync
guide).
"""

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from mailmirror import planner, reconcile
from mailmirror.errors import DocumentExists, HistoryExpired, PageTokenExpired
from mailmirror.fetch import Fetched, bring_labels, fetch_messages, look_up, look_up_fetched, open_sheet
from mailmirror.history import NetChange, fold
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Bring, Edit, Relabel, Remove, Sheet
from mailmirror.model import HistoryId, HistoryPage, LabelId, Mailbox, MessageId, Parked
from mailmirror.parked import DEADLY
from mailmirror.planner import Decision, Group
from mailmirror.reconcile import Recovery
from mailmirror.slice import Slice


@dataclass(frozen=True, slots=True)
class CatchUp:
    """One pass over the history after the cursor.

    Attributes:
        hold: the lease.
        prices: quota units by Gmail method.
        deadline: no further page begins after it.
        target: the history id that a notification promised.
        noticed_at: when that notification was published; its lag is stored.
        release: give the lease back in the last commit, if the cursor reaches `target` with it.
        recovery: what a run does after history has expired.
    """

    hold: Hold
    prices: Mapping[str, int]
    deadline: datetime
    target: HistoryId = 0
    noticed_at: datetime | None = None
    release: bool = False
    recovery: Recovery = "thread-history"

    def run(self) -> bool:
        """Apply all history after the cursor; history that has expired starts a run instead.

        Returns:
            Whether the pass is complete; if not, the deadline came and the cursor is where to go on.
        """
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
                # Nothing is jumped: a run compares the whole mailbox, and its signpost becomes the cursor in the same
                # commit.
                log("history_expired", hold.mailbox.email_address, level=logging.WARNING, cursor=hold.mailbox.cursor)
                reconcile.start(hold, "repair", "Gmail's history had expired.", recovery=self.recovery)
                return True
            head = head or page.history_id
            try:
                # A page can be empty and still have a next one; only the token tells.
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
                    # Records that asked for nothing have moved nothing yet: the next turn would read them again.
                    hold.commit(_at(hold.mailbox, page.records[-1].id))
                return False
            hold.keep()

    def _page(self, page: HistoryPage, head: HistoryId | None) -> None:
        """Apply one page; `head` is the cursor after it if it is the last."""
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
            fetches, most = max(1, min(hold.most_fetches, affordable)), planner.GROUP_CHANGES
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
        bring_labels(hold, _labels(edits))
        parts = sheet.slices(edits)
        fetched.park_outdated(hold, sheet)
        for part in parts[:-1]:
            hold.commit(hold.mailbox, part)
        rest = parts[-1] if parts else None
        settled = [c.message_id for c in group.changes if c.deleted] + fetched.settled()
        unpark = [message_id for message_id in settled if message_id in hold.parked]
        if head is not None:
            self._finish(_at(hold.mailbox, head), rest, park=fetched.parked, unpark=unpark)
        elif rest is not None or fetched.parked or unpark or hold.careful:
            # Where workers die, each message that did no harm is left behind for good: the next suspect counts alone.
            hold.commit(_at(hold.mailbox, group.cursor), rest, park=fetched.parked, unpark=unpark)
        else:
            hold.keep()

    def _fetch(self, group: Group, decided: Mapping[MessageId, Decision]) -> Fetched:
        hold = self.hold
        if hold.careful:
            for change in group.changes:
                # What is fetched is looked after there; a message that is gone is not read any more.
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
        """Commit the end of a complete pass."""
        if self.noticed_at is not None:
            lag = max(0.0, (self.hold.clock.now() - self.noticed_at).total_seconds())
            mailbox = replace(mailbox, last_notification_at=self.noticed_at, lag=lag)
        if any(hint.history_id <= mailbox.cursor for hint in mailbox.unreached):
            ahead = tuple(hint for hint in mailbox.unreached if hint.history_id > mailbox.cursor)
            mailbox = replace(mailbox, unreached=ahead)
        release = self.release and mailbox.cursor >= self.target
        if release:
            mailbox = replace(mailbox, problem=None, throttled_until=None)
        self.hold.commit(mailbox, part, park=park, unpark=unpark, release=release)


def _edit(change: NetChange, decision: Decision) -> Edit | None:
    match decision:
        case "relabel":
            return Relabel(change.message_id, change.steps)
        case "remove":
            return Remove(change.message_id, change.last)
        case _:
            return None


def _labels(edits: Iterable[Edit]) -> set[LabelId]:
    labels: set[LabelId] = set()
    for edit in edits:
        if isinstance(edit, Bring):
            labels |= edit.message.label_ids
        if isinstance(edit, Bring | Relabel):
            for step in edit.steps:
                labels |= step.added
    return labels


def _at(mailbox: Mailbox, cursor: HistoryId) -> Mailbox:
    """Return the mailbox with its cursor moved, never back."""
    return replace(mailbox, cursor=max(mailbox.cursor, cursor))
