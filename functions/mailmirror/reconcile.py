"""Reconcile (full sync): make the mirror equal to a complete listing, in stages that resume from Firestore alone.

    listing ──► planning ──► fetching ──► deleting ──► closing ──► finished

Knows: the stages, each of which moves by one commit at a time. Does not know: leases and hints; between two commits the
engine catches up, so new mail never waits longer than one slice. Laws 4 and 5: first sync, history 404, on-demand full
sync, repair and audit are this one algorithm, and its checkpoint is in the commit that it describes.

Why it converges: the cursor is set to the signpost, read before the listing, and moves with live history during the
run. A fetched message is written under the lease in which it was fetched, and a label change already contained in the
copy is told by its history id. What the listing lacks is extra only if nothing has touched it since the signpost.
"""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Literal

from mailmirror import listing, mending, planner
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists, PageTokenExpired
from mailmirror.fetch import bring_labels, look_up_fetched, open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Bring, Remove, Strip
from mailmirror.model import (
    Coverage,
    HistoryId,
    Mailbox,
    MessageId,
    Mode,
    Origin,
    Parked,
    Run,
    ThreadId,
)
from mailmirror.pages import Pages
from mailmirror.planner import Item
from mailmirror.slice import Path, Slice, Write

Recovery = Literal["thread-history", "full"]

# Documents deleted in one commit while a run closes.
CLEAR = 400


def start(
    hold: Hold, mode: Mode, reason: str, *, run_id: str | None = None, recovery: Recovery = "thread-history"
) -> None:
    """Read the signpost and store a new run, or make the run under way start again from a new signpost.

    Args:
        hold: the lease. Its cursor is set to the signpost in the same commit when there is none yet or it has expired.
            Where it is good it is itself the signpost: the mirror has all that history told before it.
        mode: what the run does; see `model.Mode`.
        reason: why, in words.
        run_id: the id somebody asked for; None makes one.
        recovery: whether a `repair` trusts what threads say of their history or fetches everything again.
    """
    mailbox = hold.mailbox
    expired = mode == "repair"
    signpost, total = mailbox.cursor, mailbox.counts.messages
    if expired or not signpost:
        profile = hold.gmail.profile()
        signpost, total = profile.history_id, profile.messages_total
    under_way = mailbox.active_run
    if under_way is not None:
        # The run's own listing may lack what happened in the gap, so it lists again, with the oldest gap as its anchor.
        run = _again(under_way, mailbox, reason, signpost=signpost)
        run = replace(run, anchor=under_way.anchor or mailbox.cursor)
    else:
        run = Run(
            id=run_id or f"{mode}-{mailbox.revision}",
            mode=mode,
            reason=reason,
            anchor=mailbox.cursor if expired else 0,
            signpost=signpost,
            policy=mailbox.policy,
            started_at=hold.clock.now(),
            total=total,
        )
    if expired and (recovery == "full" or signpost < mailbox.cursor):
        # What the mirror knows is not trusted, or the mailbox was made anew and no history id in the mirror means
        # anything any more.
        run = replace(run, mode="full")
    request = mailbox.pending_request
    done = request.run_id if request is not None and request.run_id == run_id else mailbox.request_done
    cursor = signpost if mailbox.cursor == 0 or expired else mailbox.cursor
    _store(hold, replace(mailbox, cursor=cursor, run=run, request_done=done), run)


def follow_policy(hold: Hold, under_way: Run) -> None:
    """Make the run under way list again under the policy that the mailbox has now: what it would still have fetched in
    vain is not fetched, and what it would have left out is in the listing.
    """
    run = _again(under_way, hold.mailbox, "The policy was changed.", signpost=hold.mailbox.cursor)
    _store(hold, replace(hold.mailbox, run=run), run)


def _again(under_way: Run, mailbox: Mailbox, reason: str, *, signpost: HistoryId) -> Run:
    return replace(
        under_way,
        reason=reason,
        signpost=signpost,
        policy=mailbox.policy,
        stage="listing",
        listing="messages",
        scope=0,
        page_token=None,
        first_page=under_way.pages,
        first_plan=under_way.plans,
        plan_after="",
        at=0,
        offset=0,
        listed=0,
        extra=0,
    )


def _store(hold: Hold, mailbox: Mailbox, run: Run) -> None:
    hold.commit(mailbox, writes=[Write("put", ("runs", run.id), to_document(run))])
    log(
        "run_started",
        mailbox.email_address,
        run=run.id,
        mode=run.mode,
        reason=run.reason,
        signpost=run.signpost,
        anchor=run.anchor,
    )


def _plan(run: Run, number: int) -> Path:
    return ("runs", run.id, "plan", f"{number:06d}")


class Reconcile:
    """Moves the run of one held mailbox, one commit a call."""

    def __init__(self, hold: Hold, prices: Mapping[str, int]) -> None:
        """Take the lease and the prices the planner reckons with."""
        self.hold = hold
        self.prices = prices
        self._pages: tuple[tuple[str, int, datetime | None], Pages] | None = None
        self._wary = False
        self._units = (hold.gmail.spent, hold.gmail.rejected)

    @property
    def origin(self) -> Origin:
        """What the deltas of this run say."""
        return "backfill" if self.run.mode in ("first", "policy") else "repair"

    @property
    def run(self) -> Run:
        """The run under way."""
        run = self.hold.mailbox.active_run
        if run is None:
            raise LookupError("There is no run under way.")
        return run

    def step(self) -> None:
        """Do the next bounded piece of work and commit it with its checkpoint."""
        if self.run.policy != self.hold.mailbox.policy and self.run.stage != "closing":
            # A run that closes has nothing left to fetch or to delete; the one that was asked for with the policy
            # follows.
            follow_policy(self.hold, self.run)
            return
        work = {
            "listing": self._list,
            "planning": self._plan,
            "fetching": self._fetch,
            "deleting": self._delete,
            "closing": self._close,
        }
        try:
            work[self.run.stage]()
        except DocumentExists:
            # The checkpoint has not moved: the same again, and now it looks where its messages are.
            if self._wary:
                raise
            self._wary = True
            self.step()

    def _commit(
        self,
        run: Run,
        part: Slice | None = None,
        *,
        writes: list[Write] | None = None,
        park: list[Parked] | None = None,
        unpark: list[MessageId] | None = None,
        mailbox: Mailbox | None = None,
        final: bool = False,
    ) -> None:
        units, rejected = self.hold.gmail.spent, self.hold.gmail.rejected
        stored = self.run
        run = replace(
            run,
            units=stored.units + units - self._units[0],
            rejected=stored.rejected + rejected - self._units[1],
        )
        documents = [*(writes or []), *([Write("put", ("runs", run.id), to_document(run))] if final else [])]
        self.hold.commit(
            replace(mailbox or self.hold.mailbox, run=run),
            part,
            origin=self.origin,
            writes=documents,
            park=park or [],
            unpark=unpark or [],
        )
        self._units = (units, rejected)

    def _list(self) -> None:
        after, writes = listing.next_page(self.hold, self.run)
        self._commit(after, writes=writes)

    # Planning: the listing and the mirror, both in the order of thread ids, are merged into plan documents.

    def _plan(self) -> None:
        run = self.run
        size = planner.PLAN_THREADS
        try:
            pages = self._read_pages()
        except PageTokenExpired:
            log("listing_restarted", self.hold.mailbox.email_address, run=run.id)
            self._commit(_again(run, self.hold.mailbox, run.reason, signpost=run.signpost))
            return
        listed, upto = pages.ahead(run.plan_after, size)
        mirrored = self.hold.store.scan_threads(self.hold.mailbox.email_address, after=run.plan_after, limit=size)
        # Beyond the last thread of either nothing is known of the other yet: there it waits for the next turn.
        ends = [mirrored[-1].id] if len(mirrored) == size else []
        bound = min([*ends, upto] if upto is not None else ends, default=None)
        known = {thread.id: thread for thread in mirrored if bound is None or thread.id <= bound}
        ids = sorted(known.keys() | {thread_id for thread_id in listed if bound is None or thread_id <= bound})
        chunk = ids[:size]
        last = chunk[-1] if chunk else run.plan_after
        held = {thread_id: known[thread_id].messages for thread_id in chunk if thread_id in known}
        manifest = pages.between(run.plan_after, last, held)
        items = [
            item
            for thread_id in chunk
            if (item := planner.compare(manifest, thread_id, known.get(thread_id), run, self.prices)) is not None
        ]
        after = replace(
            run,
            listed=run.listed + len(manifest.listed() - {i for item in items for i in item.extra}),
            total=run.total + sum(len(item.get) + len(item.look) for item in items),
            planned_units=run.planned_units + sum(planner.item_units(item, self.prices) for item in items),
            extra=run.extra + sum(len(item.extra) for item in items),
        )
        writes = []
        if items:
            # Newest thread first: ids grow with time, plan documents are read from the last to the first.
            writes.append(Write("put", _plan(run, run.plans), {"items": planner.pack(items[::-1])}))
            after = replace(after, plans=run.plans + 1)
        if bound is None and len(ids) <= size:
            after = replace(after, stage="fetching", at=after.plans - 1, offset=0)
            self._pages = None
            log(
                "run_planned",
                self.hold.mailbox.email_address,
                run=run.id,
                messages=after.total,
                units=after.planned_units,
            )
        else:
            after = replace(after, plan_after=last if len(ids) > size or bound is None else bound)
        self._commit(after, writes=writes)

    def _read_pages(self) -> Pages:
        """Return the listing, read once as long as the lease is held."""
        key = (self.run.id, self.run.first_page, self.run.listed_at)
        if self._pages is None or self._pages[0] != key:
            self._pages = (key, listing.read(self.hold, self.run))
        return self._pages[1]

    # Fetching: the plan, slice by slice.

    def _fetch(self) -> None:
        run = self.run
        if run.at < run.first_plan:
            deletes = run.extra or not run.policy.bodies
            after = (
                replace(run, stage="deleting", at=run.first_plan) if deletes else replace(run, stage="closing", at=0)
            )
            self._commit(replace(after, offset=0))
            return
        items = [item for item in self._items(run, run.at) if item.fetches]
        rest = items[run.offset :]
        mailbox = self.hold.mailbox
        units = self.hold.gmail.affordable(planner.SLICE_SECONDS)
        count = planner.take(rest, self.prices, units=units, max_messages=self.hold.most_fetches)
        if self.hold.careful:
            count = min(count, 1)
        chosen = rest[:count]
        known = self.hold.store.threads(mailbox.email_address, [item.thread_id for item in chosen])
        done = run.offset + count
        after = replace(run, offset=done) if done < len(items) else replace(run, at=run.at - 1, offset=0)
        fetched = mending.fetch_items(self.hold, run, chosen, known, self.origin)
        sheet = open_sheet(self.hold, known, [item.thread_id for item in chosen], self.origin)
        look_up_fetched(self.hold, sheet, fetched)
        bring_labels(self.hold, {label for message in fetched.messages for label in message.label_ids})
        handled = sum(len(item.get) + len(item.look) for item in chosen)
        # A message touched since the signpost may only have been ahead of live sync; an older one was missing.
        wanted = [m for m in fetched.messages if sheet.policy.wants(m.label_ids, m.internal_date)]
        found = sum(sheet.entry(m.id) is None and m.history_id <= run.signpost for m in wanted)
        # Gmail's search may show a little more than was asked for.
        old = {m.id for m in fetched.messages if run.policy.since is not None and m.internal_date < run.policy.since}
        edits = [*(Bring(message, rewrite=run.mode == "full") for message in fetched.messages), *fetched.edits]
        edits += [Remove(message_id) for message_id in fetched.gone if sheet.entry(message_id) is not None]
        parts = sheet.slices(edits)
        fetched.park_outdated(self.hold, sheet)
        for part in parts[:-1]:
            self._commit(self.run, part)
        after = replace(
            after,
            listed=run.listed - sum(message_id in old for item in chosen for message_id in item.get),
            done=run.done + handled,
            found=run.found + found,
            parked=run.parked + len(fetched.parked),
            threads_processed=run.threads_processed + len(chosen),
            messages_processed=run.messages_processed + len(fetched.messages),
            eta_at=planner.eta(run, run.done + handled, self.hold.clock.now()),
        )
        self._commit(after, parts[-1] if parts else None, park=fetched.parked, unpark=fetched.settled())

    # Deleting: what a complete listing does not have, and bodies that the policy leaves out.

    def _delete(self) -> None:
        run = self.run
        if run.at >= run.plans:
            self._commit(replace(run, stage="closing", at=0))
            return
        work: list[tuple[ThreadId, Remove | Strip]] = []
        for item in self._items(run, run.at):
            work += [(item.thread_id, Remove(message_id)) for message_id in item.extra]
            work += [(item.thread_id, Strip(message_id)) for message_id in item.strip]
        chosen = work[run.offset : run.offset + self._most_deleted()]
        done = run.offset + len(chosen)
        after = replace(run, offset=done) if done < len(work) else replace(run, at=run.at + 1, offset=0)
        parts, parked = mending.delete(self.hold, run, chosen, self.origin)
        for part in parts[:-1]:
            self._commit(self.run, part)
        after = replace(after, removed=run.removed - sum(part.messages for part in parts))
        self._commit(after, parts[-1] if parts else None, park=parked)

    def _most_deleted(self) -> int:
        """Return how many extras are deleted in one commit: no more than can be asked for, should all be doubtful."""
        affordable = self.hold.gmail.affordable(planner.SLICE_SECONDS) // self.prices["users.messages.get"]
        return max(1, min(planner.GROUP_FETCHES, affordable)) if self.run.policy.since else planner.GROUP_FETCHES

    # Closing: labels, coverage, and the run's own documents removed.

    def _close(self) -> None:
        run = self.run
        if run.at == 0:
            bring_labels(self.hold)
        run = self.run
        paths = [listing.page_path(run, number) for number in range(run.pages)] + [
            _plan(run, number) for number in range(run.plans)
        ]
        clear = [Write("delete", path) for path in paths[run.at : run.at + CLEAR]]
        if run.at + CLEAR < len(paths):
            self._commit(replace(run, at=run.at + CLEAR), writes=clear)
            return
        now = self.hold.clock.now()
        audit = run.mode == "audit"
        counts = self.hold.mailbox.counts
        coverage = Coverage(
            listed=run.listed,
            mirrored=counts.messages,
            missing=run.found if audit else run.parked,
            extra=run.removed if audit else 0,
            parked=counts.parked,
            at=now,
        )
        run = replace(run, stage="finished", finished_at=now, eta_at=None)
        mailbox = replace(self.hold.mailbox, coverage=coverage)
        self._commit(run, writes=clear, mailbox=mailbox, final=True)
        log(
            "run_finished",
            mailbox.email_address,
            run=run.id,
            mode=run.mode,
            reason=run.reason,
            messages=run.messages_processed,
            removed=run.removed,
            units=self.hold.mailbox.run.units if self.hold.mailbox.run else 0,
            missing=coverage.missing,
            extra=coverage.extra,
            parked=coverage.parked,
        )

    def _items(self, run: Run, number: int) -> list[Item]:
        path = _plan(run, number)
        return planner.unpack(self.hold.documents([path])[path]["items"])
