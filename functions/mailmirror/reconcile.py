"""Reconcile (full sync): make the mirror equal to a complete listing, in stages that resume from Firestore alone.

    listing ──► planning ──► fetching ──► deleting ──► closing ──► finished

Knows: the stages, each of which moves by one commit at a time. Does not know: leases and hints; between two commits the
engine catches up, so new mail never waits longer than one slice. Laws 4 and 5: first sync, history 404, on-demand full
sync, repair and audit are this one algorithm, and its checkpoint is in the commit that it describes.

Why it converges: the cursor is set to the signpost, read before the listing, and moves with live history during the
run. A fetched message is written under the lease in which it was fetched, and a label change already contained in the
copy is told by its history id. What the listing lacks is extra only if nothing has touched it since the signpost.
"""

from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import replace

from mailmirror import listing, mending, planner
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists
from mailmirror.fetch import bring_labels, fetch_messages, look_up_fetched, open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Bring, Edit, Remove
from mailmirror.model import (
    Coverage,
    Mailbox,
    MessageId,
    Mode,
    Origin,
    Parked,
    Run,
    ThreadId,
)
from mailmirror.planner import Item, Manifest
from mailmirror.slice import Path, Slice, Write

# Documents deleted in one commit while a run closes.
CLEAR = 400


def start(hold: Hold, mode: Mode, reason: str, *, run_id: str | None = None) -> None:
    """Read the signpost and store a new run, or make the run under way start again from a new signpost.

    Args:
        hold: the lease. Its cursor is set to the signpost in the same commit when there is none yet or it has expired.
        mode: what the run does; see `model.Mode`.
        reason: why, in words.
        run_id: the id somebody asked for; None makes one.
    """
    mailbox = hold.mailbox
    profile = hold.gmail.profile()
    expired = mode == "repair"
    under_way = mailbox.active_run
    if under_way is not None:
        # The run's own listing may lack what happened in the gap, so it lists again, with the oldest gap as its anchor.
        run = replace(
            under_way,
            reason=reason,
            anchor=under_way.anchor or mailbox.cursor,
            signpost=profile.history_id,
            stage="listing",
            listing="messages",
            page_token=None,
            first_page=under_way.pages,
            first_plan=under_way.plans,
            plan_after="",
            at=0,
            offset=0,
            listed=0,
            extra=0,
        )
    else:
        run = Run(
            id=run_id or f"{mode}-{mailbox.revision}",
            mode=mode,
            reason=reason,
            anchor=mailbox.cursor if expired else 0,
            signpost=profile.history_id,
            started_at=hold.clock.now(),
            total=profile.messages_total,
        )
    if expired and profile.history_id < mailbox.cursor:
        # The mailbox was made anew: no history id in the mirror means anything any more.
        run = replace(run, mode="full")
    cursor = profile.history_id if mailbox.cursor == 0 or expired else mailbox.cursor
    request = mailbox.pending_request
    done = request.run_id if request is not None and request.run_id == run_id else mailbox.request_done
    hold.commit(
        replace(mailbox, cursor=cursor, run=run, request_done=done),
        writes=[Write("put", ("runs", run.id), to_document(run))],
    )
    log(
        "run_started",
        mailbox.email_address,
        run=run.id,
        mode=run.mode,
        reason=reason,
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
        self._manifest: tuple[tuple[str, int], Manifest, list[ThreadId]] | None = None
        self._wary = False
        self._units = (hold.gmail.spent, hold.gmail.rejected)

    @property
    def origin(self) -> Origin:
        """What the deltas of this run say."""
        return "backfill" if self.run.mode == "first" else "repair"

    @property
    def run(self) -> Run:
        """The run under way."""
        run = self.hold.mailbox.active_run
        if run is None:
            raise LookupError("There is no run under way.")
        return run

    def step(self) -> None:
        """Do the next bounded piece of work and commit it with its checkpoint."""
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

    # Planning: the manifest and the mirror, both in the order of thread ids, are merged into plan documents.

    def _plan(self) -> None:
        run = self.run
        listed, order = self._read_manifest()
        size = planner.PLAN_THREADS
        mirrored = self.hold.store.scan_threads(self.hold.mailbox.email_address, after=run.plan_after, limit=size)
        known = {thread.id: thread for thread in mirrored}
        # Beyond the last thread scanned nothing is known of the mirror yet: there the listing waits for the next scan.
        bound = mirrored[-1].id if len(mirrored) == size else None
        first = bisect_right(order, run.plan_after)
        ids = known.keys() | {t for t in order[first : first + size] if bound is None or t <= bound}
        chunk = sorted(ids)[:size]
        items = [
            item
            for thread_id in chunk
            if (item := planner.compare(listed, thread_id, known.get(thread_id), run, self.prices)) is not None
        ]
        after = replace(
            run,
            total=run.total + sum(len(item.get) + len(item.look) for item in items),
            planned_units=run.planned_units + sum(planner.item_units(item, self.prices) for item in items),
            extra=run.extra + sum(len(item.extra) for item in items),
        )
        writes = []
        if items:
            # Newest thread first: ids grow with time, plan documents are read from the last to the first.
            writes.append(Write("put", _plan(run, run.plans), {"items": planner.pack(items[::-1])}))
            after = replace(after, plans=run.plans + 1)
        if len(chunk) < size:
            after = replace(after, stage="fetching", listed=len(listed.place), at=after.plans - 1, offset=0)
            log(
                "run_planned",
                self.hold.mailbox.email_address,
                run=run.id,
                messages=after.total,
                units=after.planned_units,
            )
        else:
            after = replace(after, plan_after=chunk[-1])
        self._commit(after, writes=writes)

    def _read_manifest(self) -> tuple[Manifest, list[ThreadId]]:
        key = (self.run.id, self.run.first_page)
        if self._manifest is None or self._manifest[0] != key:
            listed = listing.read_manifest(self.hold, self.run)
            self._manifest = (key, listed, sorted(listed.threads))
        return self._manifest[1:]

    # Fetching: the plan, slice by slice.

    def _fetch(self) -> None:
        run = self.run
        if run.at < run.first_plan:
            after = (
                replace(run, stage="deleting", at=run.first_plan) if run.extra else replace(run, stage="closing", at=0)
            )
            self._commit(replace(after, offset=0))
            return
        items = [item for item in self._items(run, run.at) if item.fetches]
        rest = items[run.offset :]
        mailbox = self.hold.mailbox
        count = planner.take(rest, self.prices, units=self.hold.gmail.affordable(planner.SLICE_SECONDS))
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
        found = sum(sheet.entry(m.id) is None and m.history_id <= run.signpost for m in fetched.messages)
        edits = [*(Bring(message, rewrite=run.mode == "full") for message in fetched.messages), *fetched.edits]
        edits += [Remove(message_id) for message_id in fetched.gone if sheet.entry(message_id) is not None]
        parts = sheet.slices(edits)
        fetched.park_outdated(self.hold, sheet)
        for part in parts[:-1]:
            self._commit(self.run, part)
        after = replace(
            after,
            done=run.done + handled,
            found=run.found + found,
            parked=run.parked + len(fetched.parked),
            threads_processed=run.threads_processed + len(chosen),
            messages_processed=run.messages_processed + len(fetched.messages),
            eta_at=planner.eta(run, run.done + handled, self.hold.clock.now()),
        )
        self._commit(after, parts[-1] if parts else None, park=fetched.parked, unpark=fetched.settled())

    # Deleting: what a complete listing does not have.

    def _delete(self) -> None:
        run = self.run
        if run.at >= run.plans:
            self._commit(replace(run, stage="closing", at=0))
            return
        extras = [(message_id, item) for item in self._items(run, run.at) for message_id in item.extra]
        chosen = extras[run.offset : run.offset + planner.GROUP_FETCHES]
        done = run.offset + len(chosen)
        after = replace(run, offset=done) if done < len(extras) else replace(run, at=run.at + 1, offset=0)
        threads = {item.thread_id for _, item in chosen}
        known = self.hold.store.threads(self.hold.mailbox.email_address, threads)
        sheet = open_sheet(self.hold, known, threads, self.origin)
        ids = {message_id: item.thread_id for message_id, item in chosen}
        # What something touched since the comparison may have come back, or may not: Gmail is asked.
        touched = {i: t for i, t in ids.items() if (e := sheet.entry(i)) is not None and e.history_id > run.signpost}
        fetched = fetch_messages(self.hold, touched, origin=self.origin)
        mending.doubt(self.hold, run, fetched)
        edits: list[Edit] = [Bring(message) for message in fetched.messages]
        edits += [Remove(message_id) for message_id in ids if message_id not in touched or message_id in fetched.gone]
        parts = sheet.slices(edits)
        for part in parts[:-1]:
            self._commit(self.run, part)
        after = replace(
            after,
            removed=run.removed - sum(part.messages for part in parts),
        )
        self._commit(after, parts[-1] if parts else None, park=fetched.parked)

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
