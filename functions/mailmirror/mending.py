"""Mending: what a plan's items ask for, fetched from Gmail or taken out of the mirror.

Knows: the ways an item is fetched; a thread not read whole is read message by message, what was listed and is not found
is doubted first, what was not listed may be there. Does not know: checkpoints. Law 6: every message is brought, gone or
parked.
"""

from collections.abc import Iterable, Mapping, Sequence

from mailmirror.fetch import Fetched, deleted_since, fetch_messages, look_up_fetched, open_sheet, settle
from mailmirror.lease import Hold
from mailmirror.mirror import Bring, Confirm, Edit, Refresh, Remove, Strip
from mailmirror.model import (
    Entry,
    Failed,
    FetchedThread,
    Gone,
    Message,
    MessageId,
    Origin,
    Parked,
    Run,
    Thread,
    ThreadId,
)
from mailmirror.parked import GONE_AFTER
from mailmirror.planner import Item
from mailmirror.slice import Slice


def doubt(hold: Hold, run: Run, fetched: Fetched) -> None:
    """Park what was listed lately and is not found, unless history tells that it was deleted."""
    listed_at = run.listed_at
    if not fetched.gone or listed_at is None or hold.clock.now() - listed_at >= GONE_AFTER:
        return
    told = deleted_since(hold, run.signpost)
    for message_id in [i for i in fetched.gone if i not in told]:
        fetched.doubt(hold, message_id)


def fetch_items(
    hold: Hold, run: Run, chosen: Sequence[Item], known: Mapping[ThreadId, Thread], origin: Origin
) -> Fetched:
    """Fetch what plan items ask for, except what live sync brought since; `known` is the mirror now."""
    singles: dict[MessageId, ThreadId] = {}
    whole: dict[bool, list[Item]] = {False: [], True: []}
    result = Fetched(origin)
    for item in chosen:
        entries = known[item.thread_id].messages if item.thread_id in known else {}
        complete = {i for i, entry in entries.items() if entry.stored != "none" or not hold.policy.bodies}
        again = item.stale or run.mode == "full"
        wanted = item.get if again else tuple(m for m in item.get if m not in complete)
        every = dict.fromkeys((*wanted, *item.look, *(entries if item.stale else ())), item.thread_id)
        if hold.careful or hold.stalled:
            singles |= every
        elif item.way == "messages":
            singles |= dict.fromkeys((*wanted, *item.look), item.thread_id)
        else:
            singles |= dict.fromkeys(item.look, item.thread_id)
            if wanted or item.stale:
                whole[item.way == "minimal"].append(item)
    ahead: Fetched | None = None
    if whole[False]:
        # `singles` come with the threads, what those lack after them.
        ids = [item.thread_id for item in whole[False]]
        found, threads = hold.gmail.gets(list(singles), ids, hold.keeper)
        ahead = settle(hold, singles, found, origin=origin)
        rest = _take_threads(hold, whole[False], known, result, threads)
        singles = {i: thread_id for i, thread_id in rest.items() if i not in found}
    if whole[True]:
        threads = hold.gmail.thread_states([item.thread_id for item in whole[True]])
        singles |= _take_threads(hold, whole[True], known, result, threads)
    # One of a thread that is gone may have moved to one fetched.
    for message in result.messages:
        result.gone.pop(message.id, None)
    if ahead is not None:
        result.add(ahead)
    result.add(fetch_messages(hold, singles, origin=origin))
    result.messages = _newest(result.messages)
    doubt(hold, run, result)
    failed = {item.thread_id for item in result.parked}
    result.edits += [
        Confirm(item.thread_id, item.history_id) for item in chosen if item.history_id and item.thread_id not in failed
    ]
    return result


def delete(
    hold: Hold, run: Run, chosen: Sequence[tuple[ThreadId, Remove | Strip]], origin: Origin
) -> tuple[list[Slice], list[Parked]]:
    """Take messages, or bodies, out of the mirror, those in doubt asked for first; return what to write and park."""
    threads = {thread_id for thread_id, _ in chosen}
    sheet = open_sheet(hold, hold.store.threads(hold.mailbox.email_address, threads), threads, origin)
    extras = {edit.message_id: thread_id for thread_id, edit in chosen if isinstance(edit, Remove)}
    entries = {message_id: entry for message_id in extras if (entry := sheet.entry(message_id)) is not None}
    asked = {i: extras[i] for i, entry in entries.items() if _may_stay(entry, run)}
    fetched = fetch_messages(hold, asked, origin=origin)
    # Untouched, not listed, not found: gone.
    sure = {i: fetched.gone.pop(i) for i in list(fetched.gone) if entries[i].history_id <= run.signpost}
    doubt(hold, run, fetched)
    fetched.gone |= sure
    look_up_fetched(hold, sheet, fetched)
    edits: list[Edit] = [Bring(message) for message in fetched.messages]
    edits += [edit for _, edit in chosen if edit.message_id not in asked or edit.message_id in fetched.gone]
    return fetched.slices(hold, sheet, edits), fetched.parked


def _may_stay(entry: Entry, run: Run) -> bool:
    """Return whether Gmail is asked for an extra: one touched since may be back, and a listing by date is a search, no
    proof. What the policy does not want goes.
    """
    if not run.rule.wants(entry.label_ids, entry.internal_date):
        return False
    return entry.history_id > run.signpost or run.since is not None


def _newest(messages: Iterable[Message]) -> list[Message]:
    """Return one copy of each: one moved meanwhile came with both threads."""
    found: dict[MessageId, Message] = {}
    for message in messages:
        before = found.get(message.id)
        if before is None or message.history_id > before.history_id:
            found[message.id] = message
    return list(found.values())


def _take_threads(
    hold: Hold,
    items: Sequence[Item],
    known: Mapping[ThreadId, Thread],
    result: Fetched,
    answers: Mapping[ThreadId, FetchedThread | Gone | Failed],
) -> dict[MessageId, ThreadId]:
    """Take threads into `result` and return what to fetch one by one."""
    singles: dict[MessageId, ThreadId] = {}
    for item in items:
        match answers[item.thread_id]:
            case FetchedThread() as thread:
                for message_id, message in thread.messages.items():
                    if isinstance(message, Message):
                        result.messages.append(message)
                    else:
                        result.park(hold, message_id, item.thread_id, message.reason)
                # Listed and not in it: deleted or moved.
                singles |= {i: item.thread_id for i in item.get if i not in thread.messages}
                result.edits += [Refresh(state.id, state.label_ids, state.history_id) for state in thread.states]
                result.edits.append(Confirm(thread.id, thread.history_id))
            case Gone():
                result.gone |= dict.fromkeys(_all(item, known), item.thread_id)
            case Failed():
                singles |= dict.fromkeys(_all(item, known), item.thread_id)
    return singles


def _all(item: Item, known: Mapping[ThreadId, Thread]) -> tuple[MessageId, ...]:
    """Return the messages an item is about."""
    mirrored = known[item.thread_id].messages if item.stale and item.thread_id in known else ()
    return tuple(dict.fromkeys((*item.get, *mirrored)))
