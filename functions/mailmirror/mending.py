"""Mending: what a plan's items ask for, fetched from Gmail.

Knows: the ways an item is fetched, that a thread which cannot be read whole is read message by message, and that what
was listed and is not found is doubted before it is given up. Does not know: how the mirror is written, or checkpoints.
Law 6: every message of an item is brought, gone or parked.
"""

from collections.abc import Iterable, Mapping, Sequence

from mailmirror.fetch import Fetched, deleted_since, fetch_messages
from mailmirror.lease import Hold
from mailmirror.mirror import Confirm, Refresh
from mailmirror.model import Failed, FetchedThread, Gone, Message, MessageId, Origin, Run, Thread, ThreadId
from mailmirror.parked import GONE_AFTER
from mailmirror.planner import Item


def doubt(hold: Hold, run: Run, fetched: Fetched) -> None:
    """Park what was listed lately and is not found, unless history tells that it was deleted since the signpost."""
    listed_at = run.listed_at
    if not fetched.gone or listed_at is None or hold.clock.now() - listed_at >= GONE_AFTER:
        return
    told = deleted_since(hold, run.signpost)
    for message_id in [message_id for message_id in fetched.gone if message_id not in told]:
        fetched.doubt(hold, message_id)


def fetch_items(
    hold: Hold, run: Run, chosen: Sequence[Item], known: Mapping[ThreadId, Thread], origin: Origin
) -> Fetched:
    """Fetch what plan items ask for.

    Args:
        hold: the lease.
        run: the run whose plan it is.
        chosen: the items.
        known: their threads as mirrored now; what live sync has brought since the plan was made is not fetched again.
        origin: what the deltas will say.
    """
    singles: dict[MessageId, ThreadId] = {}
    whole: dict[bool, list[Item]] = {False: [], True: []}
    result = Fetched(origin)
    for item in chosen:
        entries = known[item.thread_id].messages if item.thread_id in known else {}
        again = item.stale or run.mode == "full"
        wanted = item.get if again else tuple(m for m in item.get if m not in entries)
        every = dict.fromkeys((*wanted, *item.look, *(entries if item.stale else ())), item.thread_id)
        if hold.careful:
            singles |= every
        elif item.way == "messages":
            singles |= dict.fromkeys((*wanted, *item.look), item.thread_id)
        else:
            singles |= dict.fromkeys(item.look, item.thread_id)
            if wanted or item.stale:
                whole[item.way == "minimal"].append(item)
    for minimal, items in whole.items():
        singles |= _fetch_threads(hold, items, known, result, minimal=minimal)
    # A message of a thread that is gone may have moved to another one that was fetched as well.
    for message in result.messages:
        result.gone.pop(message.id, None)
    result.add(fetch_messages(hold, singles, origin=origin))
    result.messages = _newest(result.messages)
    doubt(hold, run, result)
    failed = {item.thread_id for item in result.parked}
    result.edits += [
        Confirm(item.thread_id, item.history_id) for item in chosen if item.history_id and item.thread_id not in failed
    ]
    return result


def _newest(messages: Iterable[Message]) -> list[Message]:
    """Return one copy of each message: one that was moved while its threads were fetched came with both of them."""
    found: dict[MessageId, Message] = {}
    for message in messages:
        before = found.get(message.id)
        if before is None or message.history_id > before.history_id:
            found[message.id] = message
    return list(found.values())


def _fetch_threads(
    hold: Hold, items: Sequence[Item], known: Mapping[ThreadId, Thread], result: Fetched, *, minimal: bool
) -> dict[MessageId, ThreadId]:
    """Fetch whole threads into `result` and return the messages that have to be fetched one by one."""
    singles: dict[MessageId, ThreadId] = {}
    answers = hold.gmail.threads([item.thread_id for item in items], minimal=minimal) if items else {}
    for item in items:
        match answers[item.thread_id]:
            case FetchedThread() as thread:
                for message_id, message in thread.messages.items():
                    if isinstance(message, Message):
                        result.take(hold, message)
                    else:
                        result.park(hold, message_id, item.thread_id, message.reason)
                # What was listed in this thread and is not in it was deleted or moved: it is asked for by itself.
                singles |= {i: item.thread_id for i in item.get if i not in thread.messages}
                result.edits += [Refresh(state.id, state.label_ids, state.history_id) for state in thread.states]
                result.edits.append(Confirm(thread.id, thread.history_id))
            case Gone():
                result.gone |= dict.fromkeys(_all(item, known), item.thread_id)
            case Failed():
                singles |= dict.fromkeys(_all(item, known), item.thread_id)
    return singles


def _all(item: Item, known: Mapping[ThreadId, Thread]) -> tuple[MessageId, ...]:
    """Return the messages an item is about: those to bring, and all mirrored ones if the thread is stale."""
    mirrored = known[item.thread_id].messages if item.stale and item.thread_id in known else ()
    return tuple(dict.fromkeys((*item.get, *mirrored)))
