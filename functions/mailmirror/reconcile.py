"""Reconcile (full sync): make the mirror equal to a complete listing, in stages that resume from the mailbox document
alone.

    listing ──► planning ──► fetching ──► deleting ──► closing ──► finished

Knows: the stages, each of which moves by one commit at a time. Does not know: leases and hints; between two commits the
engine catches up, so new mail never waits longer than one slice. Laws 4 and 5: first sync, history 404, on-demand full
sync, repair and audit are this one algorithm, and its checkpoint is in the commit that it describes.

Why it converges: the cursor is set to the signpost, read before the listing, and moves with live history during the
run. A fetched message is written under the lease in which it was fetched, and a label change already contained in the
copy is told by its history id. What the listing lacks is extra only if nothing has touched it since the signpost.
"""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from mailmirror import planner
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists, PageTokenExpired
from mailmirror.fetch import Fetched, bring_labels, deleted_since, fetch_messages, look_up
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import OUTDATED, Bring, Confirm, Edit, Refresh, Remove, Sheet
from mailmirror.model import (
    Coverage,
    Failed,
    FetchedThread,
    Gone,
    HistoryId,
    Mailbox,
    Message,
    MessageId,
    Mode,
    Origin,
    Parked,
    Run,
    Thread,
    ThreadId,
)
from mailmirror.parked import DEADLY, GONE_AFTER
from mailmirror.planner import Item, Manifest
from mailmirror.slice import Path, Slice, Write

# Documents deleted in one commit while a run closes.
CLEAR = 400
# Manifest documents read in one call.
READ = 100


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


def _all(item: Item, known: Mapping[ThreadId, Thread]) -> tuple[MessageId, ...]:
    """Return the messages an item is about: those to bring, and all mirrored ones if the thread is stale."""
    mirrored = known[item.thread_id].messages if item.stale and item.thread_id in known else ()
    return tuple(dict.fromkeys((*item.get, *mirrored)))


def _page(run: Run, number: int) -> Path:
    return ("runs", run.id, "pages", f"{number:06d}")


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
            # The checkpoint has not moved: the next call does the same again and looks where its messages are.
            if self._wary:
                raise
            self._wary = True

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
        run = replace(run, units=run.units + units - self._units[0], rejected=run.rejected + rejected - self._units[1])
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

    # Listing: pages of Gmail's listing become manifest documents.

    def _list(self) -> None:
        run = self.run
        policy = self.hold.mailbox.policy
        try:
            if run.listing == "threads":
                threads = self.hold.gmail.list_threads(run.page_token, include_spam_trash=policy.include_spam_trash)
                rows, token = [f"{thread} {history}" for thread, history in threads.refs], threads.next_page_token
            else:
                only = ("DRAFT",) if run.listing == "drafts" else ()
                messages = self.hold.gmail.list_messages(
                    run.page_token, include_spam_trash=policy.include_spam_trash, label_ids=only
                )
                rows, token = [f"{message} {thread}" for message, thread in messages.refs], messages.next_page_token
        except PageTokenExpired:
            log("listing_restarted", self.hold.mailbox.email_address, run=run.id)
            self._commit(replace(run, listing="messages", page_token=None, first_page=run.pages, listed=0))
            return
        # One text field instead of arrays: an indexed array element costs an index entry each.
        page = Write("put", _page(run, run.pages), {"listing": run.listing, "rows": "\n".join(rows)})
        counted = {"messages": len(rows), "drafts": -len(rows), "threads": 0}[run.listing]
        after = replace(run, pages=run.pages + 1, page_token=token, listed=run.listed + counted)
        if token is None:
            after = self._next_listing(after)
        self._commit(after, writes=[page])

    def _next_listing(self, run: Run) -> Run:
        """Messages, then drafts if they are left out, then threads if labels are to be compared."""
        if run.listing == "messages" and not self.hold.mailbox.policy.drafts:
            return replace(run, listing="drafts")
        compares = run.mode == "audit" or (run.mode != "full" and run.anchor > 0)
        if run.listing != "threads" and compares:
            return replace(run, listing="threads")
        now = self.hold.clock.now()
        return replace(run, stage="planning", listed_at=now, total=0, done=0, planned_units=0)

    # Planning: the manifest and the mirror, both in the order of thread ids, are merged into plan documents.

    def _plan(self) -> None:
        run = self.run
        listed, order = self._read_manifest(run)
        size = planner.PLAN_THREADS
        mirrored = self.hold.store.scan_threads(self.hold.mailbox.email_address, after=run.plan_after, limit=size)
        known = {thread.id: thread for thread in mirrored}
        # Beyond the last thread scanned nothing is known of the mirror yet, so the listing waits for the next scan
        # there.
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

    def _read_manifest(self, run: Run) -> tuple[Manifest, list[ThreadId]]:
        key = (run.id, run.first_page)
        if self._manifest is None or self._manifest[0] != key:
            messages: list[tuple[MessageId, ThreadId]] = []
            drafts: set[MessageId] = set()
            history_ids: dict[ThreadId, HistoryId] = {}
            for listing, rows in self._pages(run):
                pairs = [row.split(" ") for row in rows.split("\n") if row]
                if listing == "messages":
                    messages += [(message, thread) for message, thread in pairs]
                elif listing == "drafts":
                    drafts.update(message for message, _ in pairs)
                else:
                    history_ids.update((thread, int(history)) for thread, history in pairs)
            listed = planner.manifest(messages, drafts, history_ids)
            self._manifest = (key, listed, sorted(listed.threads))
        return self._manifest[1:]

    def _pages(self, run: Run) -> Iterator[tuple[str, str]]:
        for first in range(run.first_page, run.pages, READ):
            self.hold.keep()
            paths = [_page(run, number) for number in range(first, min(first + READ, run.pages))]
            found = self.hold.store.documents(self.hold.mailbox.email_address, paths)
            for path in paths:
                yield found[path]["listing"], found[path]["rows"]

    # Fetching: the plan, slice by slice.

    def _fetch(self) -> None:
        run = self.run
        if run.at < run.first_plan:
            self._commit(replace(run, stage="deleting" if run.extra else "closing", at=run.first_plan, offset=0))
            return
        items = [item for item in self._items(run, run.at) if item.fetches]
        rest = items[run.offset :]
        mailbox = self.hold.mailbox
        count = planner.take(rest, self.prices, units=self.hold.gmail.affordable(planner.SLICE_SECONDS))
        chosen = rest[: min(count, 1) if self.hold.careful else count]
        known = self.hold.store.threads(mailbox.email_address, [item.thread_id for item in chosen])
        if self.hold.careful and chosen:
            chosen, count = self._one(chosen[0], known)
        done = run.offset + count
        after = replace(run, offset=done) if done < len(items) else replace(run, at=run.at - 1, offset=0)
        fetched = self._fetch_items(chosen, known)
        sheet = self._sheet(known, chosen)
        look_up(self.hold, sheet, fetched.messages)
        bring_labels(self.hold, {label for message in fetched.messages for label in message.label_ids})
        handled = sum(len(item.get) + len(item.look) for item in chosen)
        # A message touched since the signpost may only have been ahead of live sync; an older one was missing.
        found = sum(sheet.entry(m.id) is None and m.history_id <= run.signpost for m in fetched.messages)
        edits = [*(Bring(message, rewrite=run.mode == "full") for message in fetched.messages), *fetched.edits]
        edits += [Remove(message_id) for message_id in fetched.gone if sheet.entry(message_id) is not None]
        parts = sheet.slices(edits)
        for message_id in sheet.outdated:
            fetched.park(self.hold, message_id, sheet.found(message_id)[-1][0], OUTDATED)
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
            units=self.run.units,
            rejected=self.run.rejected,
        )
        settled = [message.id for message in fetched.messages if message.id not in sheet.outdated]
        self._commit(after, parts[-1] if parts else None, park=fetched.parked, unpark=[*settled, *fetched.gone])

    def _sheet(self, known: Mapping[ThreadId, Thread], items: Sequence[Item]) -> Sheet:
        return Sheet(
            known,
            policy=self.hold.mailbox.policy,
            origin=self.origin,
            now=self.hold.clock.now(),
            looked_up=[item.thread_id for item in items],
            wary=self.hold.wary,
        )

    def _doubt(self, fetched: Fetched) -> None:
        """Park what was listed lately and is not found, unless history tells that it was deleted since the signpost."""
        listed_at = self.run.listed_at
        if not fetched.gone or listed_at is None or self.hold.clock.now() - listed_at >= GONE_AFTER:
            return
        told = deleted_since(self.hold, self.run.signpost)
        for message_id in [message_id for message_id in fetched.gone if message_id not in told]:
            fetched.doubt(self.hold, message_id)

    def _one(self, item: Item, known: Mapping[ThreadId, Thread]) -> tuple[list[Item], int]:
        """Narrow an item to one message while workers keep dying; the item is done when nothing more of it is to be
        brought.
        """
        entries = known[item.thread_id].messages if item.thread_id in known else {}
        left = [
            message_id for message_id in item.get if message_id not in entries and message_id not in self.hold.parked
        ]
        if item.stale or item.look or self.run.mode == "full" or not left:
            return [item], 1
        return [replace(item, get=(left[0],), way="messages")], int(len(left) == 1)

    def _fetch_items(self, chosen: Sequence[Item], known: Mapping[ThreadId, Thread]) -> Fetched:
        """Fetch what the items ask for; what live sync has brought since the plan was made is not fetched again."""
        singles: dict[MessageId, ThreadId] = {}
        whole: dict[bool, list[Item]] = {False: [], True: []}
        result = Fetched(self.origin)
        for item in chosen:
            entries = known[item.thread_id].messages if item.thread_id in known else {}
            again = item.stale or self.run.mode == "full"
            wanted = item.get if again else tuple(m for m in item.get if m not in entries)
            every = dict.fromkeys((*wanted, *item.look, *(entries if item.stale else ())), item.thread_id)
            if self.hold.careful:
                if every and self.hold.suspect(next(iter(every))):
                    for message_id in every:
                        result.park(self.hold, message_id, item.thread_id, DEADLY, deadly=True)
                else:
                    singles |= every
            elif item.way == "messages":
                singles |= dict.fromkeys((*wanted, *item.look), item.thread_id)
            else:
                singles |= dict.fromkeys(item.look, item.thread_id)
                if wanted or item.stale:
                    whole[item.way == "minimal"].append(item)
        for minimal, items in whole.items():
            singles |= self._fetch_threads(items, known, result, minimal=minimal)
        result.add(fetch_messages(self.hold, singles, origin=self.origin))
        self._doubt(result)
        failed = {item.thread_id for item in result.parked}
        result.edits += [
            Confirm(item.thread_id, item.history_id)
            for item in chosen
            if item.history_id and item.thread_id not in failed
        ]
        return result

    def _fetch_threads(
        self, items: Sequence[Item], known: Mapping[ThreadId, Thread], result: Fetched, *, minimal: bool
    ) -> dict[MessageId, ThreadId]:
        """Fetch whole threads into `result` and return the messages that have to be fetched one by one."""
        singles: dict[MessageId, ThreadId] = {}
        answers = self.hold.gmail.threads([item.thread_id for item in items], minimal=minimal) if items else {}
        for item in items:
            match answers[item.thread_id]:
                case FetchedThread() as thread:
                    for message_id, message in thread.messages.items():
                        if isinstance(message, Message):
                            result.take(self.hold, message)
                        else:
                            result.park(self.hold, message_id, item.thread_id, message.reason)
                    # What was listed in this thread and is not in it was deleted or moved: it is asked for by itself.
                    singles |= {i: item.thread_id for i in item.get if i not in thread.messages}
                    result.edits += [Refresh(state.id, state.label_ids, state.history_id) for state in thread.states]
                case Gone():
                    result.gone |= dict.fromkeys(_all(item, known), item.thread_id)
                case Failed():
                    singles |= dict.fromkeys(_all(item, known), item.thread_id)
        return singles

    # Deleting: what a complete listing does not have.

    def _delete(self) -> None:
        run = self.run
        if run.at >= run.plans:
            self._commit(replace(run, stage="closing", at=0))
            return
        extras = [item for item in self._items(run, run.at) if item.extra]
        mailbox = self.hold.mailbox
        known = self.hold.store.threads(mailbox.email_address, [item.thread_id for item in extras])
        sheet = self._sheet(known, extras)
        ids = {message_id: item.thread_id for item in extras for message_id in item.extra}
        # What something touched since the comparison may have come back, or may not: Gmail is asked.
        touched = {i: t for i, t in ids.items() if (e := sheet.entry(i)) is not None and e.history_id > run.signpost}
        fetched = fetch_messages(self.hold, touched, origin=self.origin)
        self._doubt(fetched)
        edits: list[Edit] = [Bring(message) for message in fetched.messages]
        edits += [Remove(message_id) for message_id in ids if message_id not in touched or message_id in fetched.gone]
        for part in sheet.slices(edits):
            self._commit(replace(self.run, removed=self.run.removed - part.messages), part)
        self._commit(replace(self.run, at=run.at + 1), park=fetched.parked)

    # Closing: labels, coverage, and the run's own documents removed.

    def _close(self) -> None:
        run = self.run
        if run.at == 0:
            bring_labels(self.hold)
        run = self.run
        paths = [_page(run, number) for number in range(run.pages)] + [
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
        return planner.unpack(self.hold.store.documents(self.hold.mailbox.email_address, [path])[path]["items"])
