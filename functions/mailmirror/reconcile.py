"""Reconcile (full sync): make the mirror equal to a complete listing, in stages that resume from Firestore alone.

Knows: the stages (`Reconcile.step`). Does not know: leases and hints; the engine catches up between commits, so new
mail waits for one slice at most. Laws 4 and 5: first sync, history 404, full sync, repair and audit are this one
algorithm, its checkpoint in the commit that it describes.

Why it converges: the cursor is set to the signpost, read before the listing, and moves with live history. A message is
written under the lease that fetched it, its history id telling which changes it has. What the listing lacks is extra
only if untouched since the signpost.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from mailmirror import listing, mending, planner
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists, PageTokenExpired
from mailmirror.fetch import bring_labels, look_up_fetched, most_fetches, open_sheet
from mailmirror.lease import Hold
from mailmirror.listing import Pages
from mailmirror.log import log
from mailmirror.mirror import Bring, Edit, Remove, Strip
from mailmirror.model import Coverage, HistoryId, Mailbox, MessageId, Mode, Origin, Parked, Run, ThreadId
from mailmirror.planner import Item
from mailmirror.slice import Path, Slice, Write

Recovery = Literal["thread-history", "full"]

CONTENT_CHANGED = "GMAIL_CONTENT was changed."
# Documents deleted in one commit.
CLEAR = 400


def start(
    hold: Hold, mode: Mode, reason: str, *, run_id: str | None = None, recovery: Recovery = "thread-history"
) -> None:
    """Store a new run, or make the run under way start again from a new signpost.

    A good cursor is the signpost: the mirror has all history before it. An absent or expired one is set to it.

    `recovery`: whether a `repair` trusts what threads say of their history or fetches everything.
    """
    mailbox = hold.mailbox
    expired = mode == "repair"
    signpost, total = mailbox.cursor, mailbox.counts.messages
    if expired or not signpost:
        profile = hold.gmail.profile()
        signpost, total = profile.history_id, profile.messages_total
    under_way = mailbox.active_run
    if under_way is not None:
        # Its listing may lack what happened in the gap: it lists again, the oldest gap its anchor.
        run = _again(under_way, hold, reason, signpost=signpost)
        run = replace(run, anchor=under_way.anchor or mailbox.cursor)
    else:
        run = Run(
            id=run_id or f"{mode}-{mailbox.revision}",
            mode=mode,
            reason=reason,
            anchor=mailbox.cursor if expired else 0,
            signpost=signpost,
            policy=mailbox.policy,
            since=hold.policy.since,
            started_at=hold.clock.now(),
            total=total,
        )
    if expired and (recovery == "full" or signpost < mailbox.cursor):
        # In a mailbox made anew the mirror's history ids mean nothing.
        run = replace(run, mode="full")
    request = mailbox.pending_request
    done = request.run_id if request is not None and request.run_id == run_id else mailbox.request_done
    cursor = signpost if mailbox.cursor == 0 or expired else mailbox.cursor
    _store(hold, replace(mailbox, cursor=cursor, run=run, request_done=done), run)


def follow_policy(hold: Hold, under_way: Run) -> None:
    """Make the run list again under the policy and content of now."""
    reason = "The policy was changed." if under_way.policy != hold.mailbox.policy else CONTENT_CHANGED
    run = _again(under_way, hold, reason, signpost=hold.mailbox.cursor)
    _store(hold, replace(hold.mailbox, run=run), run)


def _again(under_way: Run, hold: Hold, reason: str, *, signpost: HistoryId) -> Run:
    return replace(
        under_way,
        reason=reason,
        signpost=signpost,
        policy=hold.mailbox.policy,
        since=hold.policy.since,
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


def content_changed(hold: Hold) -> bool:
    """Return whether the deployment keeps other content than the mirror has."""
    return hold.mailbox.content != hold.kept.content


def _store(hold: Hold, mailbox: Mailbox, run: Run) -> None:
    # Every run compares bodies.
    mailbox = replace(mailbox, content=hold.kept.content)
    before = hold.mailbox.run
    if before is None or before.policy != run.policy:
        # And it removes what is too old today.
        mailbox = replace(mailbox, aged_to=run.since if run.policy.newest_days is not None else None)
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
    """Moves the run of a held mailbox, one commit a call; `prices` are the planner's."""

    def __init__(self, hold: Hold, prices: Mapping[str, int]) -> None:
        self.hold = hold
        self.prices = prices
        self._pages: tuple[tuple[str, int, datetime | None], Pages] | None = None
        self._wary = False
        self._units = (hold.gmail.spent, hold.gmail.rejected)

    @property
    def origin(self) -> Origin:
        """What its deltas say."""
        return "backfill" if self.run.mode in ("first", "policy") else "repair"

    @property
    def run(self) -> Run:
        """The run under way."""
        run = self.hold.mailbox.active_run
        if run is None:
            raise LookupError("There is no run under way.")
        return run

    @property
    def bodies(self) -> bool:
        """Whether it mirrors bodies."""
        return self.run.policy.bodies and self.hold.mailbox.content == "full"

    def step(self) -> None:
        """Do and commit the next move."""
        changed = self.run.policy != self.hold.mailbox.policy or content_changed(self.hold)
        if changed and self.run.stage != "closing":
            # One that closes is done; the run for the change follows.
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
            # The checkpoint has not moved: again, now wary.
            if self._wary:
                raise
            self._wary = True
            self.step()

    def _commit(
        self,
        run: Run,
        part: Slice | None = None,
        *,
        writes: Sequence[Write] = (),
        park: Sequence[Parked] = (),
        unpark: Sequence[MessageId] = (),
        mailbox: Mailbox | None = None,
    ) -> None:
        units, rejected = self.hold.gmail.spent, self.hold.gmail.rejected
        stored = self.run
        run = replace(
            run, units=stored.units + units - self._units[0], rejected=stored.rejected + rejected - self._units[1]
        )
        if run.stage == "finished":
            writes = [*writes, Write("put", ("runs", run.id), to_document(run))]
        mailbox = replace(mailbox or self.hold.mailbox, run=run)
        self.hold.commit(mailbox, part, origin=self.origin, writes=writes, park=park, unpark=unpark)
        self._units = (units, rejected)

    def _list(self) -> None:
        after, writes = listing.next_page(self.hold, self.run)
        self._commit(after, writes=writes)

    def _plan(self) -> None:
        run = self.run
        size = planner.PLAN_THREADS
        try:
            pages = self._read_pages()
        except PageTokenExpired:
            log("listing_restarted", self.hold.mailbox.email_address, run=run.id)
            self._commit(_again(run, self.hold, run.reason, signpost=run.signpost))
            return
        listed, upto = pages.ahead(run.plan_after, size)
        mirrored = self.hold.store.scan_threads(self.hold.mailbox.email_address, after=run.plan_after, limit=size)
        # Listing and mirror come by thread id; beyond the last of either the other is not known yet.
        ends = [mirrored[-1].id] if len(mirrored) == size else []
        bound = min([*ends, upto] if upto is not None else ends, default=None)
        known = {thread.id: thread for thread in mirrored if bound is None or thread.id <= bound}
        ids = sorted(known.keys() | {thread_id for thread_id in listed if bound is None or thread_id <= bound})
        chunk = ids[:size]
        last = chunk[-1] if chunk else run.plan_after
        held = {thread_id: known[thread_id].messages for thread_id in chunk if thread_id in known}
        manifest = pages.between(run.plan_after, last, held)
        compared = replace(run, policy=replace(run.policy, bodies=self.bodies))
        items = [
            item
            for thread_id in chunk
            if (item := planner.compare(manifest, thread_id, known.get(thread_id), compared, self.prices)) is not None
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
            # Newest first: ids grow with time, and plans are read from the last to the first.
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
        """Return the listing, read once a lease."""
        key = (self.run.id, self.run.first_page, self.run.listed_at)
        if self._pages is None or self._pages[0] != key:
            self._pages = (key, listing.read(self.hold, self.run))
        return self._pages[1]

    def _fetch(self) -> None:
        run = self.run
        if run.at < run.first_plan:
            after = replace(run, stage="closing", at=0, offset=0)
            if run.extra or not self.bodies:
                after = replace(after, stage="deleting", at=run.first_plan)
            self._commit(after)
            return
        items = [item for item in self._items(run, run.at) if item.fetches]
        rest = items[run.offset :]
        mailbox = self.hold.mailbox
        units = self.hold.gmail.affordable(planner.SLICE_SECONDS)
        count = planner.take(rest, self.prices, units=units, max_messages=most_fetches(self.hold))
        if self.hold.careful:
            count = min(count, 1)
        chosen = rest[:count]
        known = self.hold.store.threads(mailbox.email_address, [item.thread_id for item in chosen])
        done = run.offset + count
        after = replace(run, offset=done) if done < len(items) else replace(run, at=run.at - 1, offset=0)
        fetched = mending.fetch_items(self.hold, run, chosen, known, self.origin)
        sheet = open_sheet(self.hold, known, [item.thread_id for item in chosen], self.origin)
        look_up_fetched(self.hold, sheet, fetched)
        handled = sum(len(item.get) + len(item.look) for item in chosen)
        # One touched since the signpost may only be ahead of live sync.
        wanted = [m for m in fetched.messages if sheet.policy.wants(m.label_ids, m.internal_date)]
        found = sum(sheet.entry(m.id) is None and m.history_id <= run.signpost for m in wanted)
        # Gmail's search may show a little more, and days pass.
        since = sheet.policy.since
        old = {m.id for m in fetched.messages if since is not None and m.internal_date < since}
        edits: list[Edit] = [Bring(message, rewrite=run.mode == "full") for message in fetched.messages]
        edits += fetched.edits
        edits += [Remove(message_id) for message_id in fetched.gone if sheet.entry(message_id) is not None]
        parts = fetched.slices(self.hold, sheet, edits)
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
        """Return how many go in one commit, should all have to be asked for."""
        affordable = self.hold.gmail.affordable(planner.SLICE_SECONDS) // self.prices["users.messages.get"]
        return max(1, min(planner.GROUP_FETCHES, affordable)) if self.run.since else planner.GROUP_FETCHES

    def _close(self) -> None:
        if self.run.at == 0:
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
            # Some were brought since, by a retry or by live mail.
            missing=run.found if audit else min(run.parked, counts.parked),
            extra=run.removed if audit else 0,
            parked=counts.parked,
            at=now,
        )
        run = replace(run, stage="finished", finished_at=now, eta_at=None)
        mailbox = replace(self.hold.mailbox, coverage=coverage)
        self._commit(run, writes=clear, mailbox=mailbox)
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
