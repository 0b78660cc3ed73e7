"""The planner: what to fetch, how, in which order and at what cost.

Knows: prices, the policy, and how a listing compares with the mirror. Does not know: Gmail or the store. Law 7: the
cheaper way is chosen here, before a call.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from mailmirror.history import NetChange
from mailmirror.model import Entry, HistoryId, MessageId, Policy, Record, Run, Thread, ThreadId

Way = Literal["messages", "thread", "minimal"]
Decision = Literal["fetch", "relabel", "remove", "ignore"]

# The most changes handled in one go.
GROUP_CHANGES = 400
# The most messages fetched for a commit, each with its own thread.
GROUP_FETCHES = 170
# The same with attachments: each takes a message's units, and time.
STORED_FETCHES = 25
# For a slice; new mail waits no longer.
SLICE_SECONDS = 5.0
# Threads compared for one plan document.
PLAN_THREADS = 500


def decide(
    change: NetChange, entry: Entry | None, policy: Policy, run: Run | None, *, place: ThreadId | None = None
) -> Decision:
    """Return what a net change asks for; `place`: the thread that has the message in the mirror; Gmail may have
    moved it.

    What is relabelled and not mirrored is fetched, unless a run lists it; one that enters the policy (out of TRASH,
    say) may not be listed. A policy that does not want all mail most likely leaves it out: fetching would only prove
    that.
    """
    if change.deleted:
        return "remove" if entry is not None else "ignore"
    if entry is not None:
        return "relabel" if place in (None, change.thread_id) else "fetch"
    if change.told is not None and not policy.wants(change.told):
        return "ignore"
    if change.added or any(policy.enters(step.added, step.removed) for step in change.steps):
        return "fetch"
    if policy.since is not None or (policy.label_ids and change.told is None):
        return "ignore"
    if run is not None and run.stage in ("listing", "planning", "fetching"):
        return "ignore"
    return "fetch"


def leaves(change: NetChange, policy: Policy) -> bool:
    """Return whether a net change may take a message out of the mirror, be it in another thread than history names.

    A draft left out was never mirrored. What is fetched tells the labels that history does not.
    """
    if change.deleted:
        return True
    excluded = policy.excluded_labels() - {"DRAFT"}
    if change.told is None:
        if policy.since is None and not policy.label_ids:
            return False
    elif policy.wants(change.told):
        return False
    elif change.told & excluded:
        return True
    return any(step.added & excluded or step.removed.intersection(policy.label_ids) for step in change.steps)


@dataclass(frozen=True, slots=True)
class Group:
    """Net changes handled together; `cursor`: the last record before the next group's first."""

    changes: tuple[NetChange, ...]
    cursor: HistoryId
    last: bool


def groups(
    changes: Sequence[NetChange],
    records: Sequence[Record],
    fetch: Mapping[MessageId, Decision],
    *,
    max_fetches: int,
    max_changes: int = GROUP_CHANGES,
) -> Iterator[Group]:
    """Cut a page's net changes, as `fold` returns them, into groups in the order of their first records."""
    ids = [record.id for record in records]
    start = fetches = position = 0
    for index, change in enumerate(changes):
        wants = fetch[change.message_id] == "fetch"
        if index > start and (fetches + wants > max_fetches or index - start >= max_changes):
            # The cursor stays before a record that is cut here.
            while position < len(ids) and ids[position] < change.first:
                position += 1
            yield Group(tuple(changes[start:index]), ids[position - 1] if position else 0, last=False)
            start, fetches = index, 0
        fetches += wants
    if start < len(changes):
        yield Group(tuple(changes[start:]), ids[-1], last=True)


@dataclass(frozen=True, slots=True)
class Item:
    """What a plan says about one thread.

    Attributes:
        stale: the labels of all mirrored ones are to be compared with Gmail's.
        way: messages.get for each of `get`, one threads.get in full, or one for labels only.
        look: mirrored ones listed in another thread, or not listed and touched since the signpost; a messages.get each.
        extra: mirrored ones not listed, or not wanted.
        history_id: as listed; 0 when threads were not listed.
        strip: mirrored ones whose body the policy leaves out.
    """

    thread_id: ThreadId
    get: tuple[MessageId, ...] = ()
    stale: bool = False
    way: Way = "messages"
    look: tuple[MessageId, ...] = ()
    extra: tuple[MessageId, ...] = ()
    history_id: HistoryId = 0
    strip: tuple[MessageId, ...] = ()

    @property
    def fetches(self) -> bool:
        """Whether it fetches anything."""
        return bool(self.get or self.look or self.stale)


def item_units(item: Item, prices: Mapping[str, int]) -> int:
    """Return the quota units an item takes."""
    get = prices["users.messages.get"]
    return len(item.look) * get + (len(item.get) * get if item.way == "messages" else prices["users.threads.get"])


@dataclass(frozen=True, slots=True)
class Manifest:
    """What a complete listing says of some threads.

    Attributes:
        threads: the listed messages of each, without those the policy leaves out.
        place: the thread of these, and of those mirrored in one of the threads and listed anywhere.
        history_ids: if threads were listed.
    """

    threads: Mapping[ThreadId, frozenset[MessageId]]
    place: Mapping[MessageId, ThreadId]
    history_ids: Mapping[ThreadId, HistoryId]

    def listed(self) -> frozenset[MessageId]:
        """Return the listed messages."""
        return frozenset[MessageId]().union(*self.threads.values())


def manifest(
    messages: Iterable[tuple[MessageId, ThreadId]],
    excluded: Set[MessageId],
    history_ids: Mapping[ThreadId, HistoryId],
) -> Manifest:
    """Return the manifest of a listing without `excluded`."""
    place = {message_id: thread_id for message_id, thread_id in messages if message_id not in excluded}
    threads: dict[ThreadId, set[MessageId]] = {}
    for message_id, thread_id in place.items():
        threads.setdefault(thread_id, set()).add(message_id)
    return Manifest({thread_id: frozenset(ids) for thread_id, ids in threads.items()}, place, history_ids)


def compare(
    listed: Manifest, thread_id: ThreadId, mirrored: Thread | None, run: Run, prices: Mapping[str, int]
) -> Item | None:
    """Return what is to be done about one thread of the listing and the messages mirrored in it, if anything.

    *Missing*: listed, and not mirrored in this thread or without the body that is wanted. *Extra*: mirrored, not
    listed, and untouched since the signpost or not wanted; or too old. *Stale*: the listed history id is above the
    anchor, up to which the mirror was complete. The mirror's own proves nothing after a gap: live changes raise it
    beyond. An audit without a gap compares with it.
    """
    policy = run.rule
    entries = mirrored.messages if mirrored is not None else {}
    old = {i for i, entry in entries.items() if policy.since is not None and entry.internal_date < policy.since}
    wanted = listed.threads.get(thread_id, frozenset()) - old
    bare = {i for i in wanted & entries.keys() if policy.bodies and entries[i].stored == "none"}
    missing = wanted if run.mode == "full" else (wanted - entries.keys()) | bare
    unlisted = [i for i in entries if i not in listed.place]
    extra = [i for i in entries if i in old or (i not in listed.place and _surplus(entries[i], run))]
    look = [i for i in entries if i not in old and listed.place.get(i, thread_id) != thread_id]
    if run.anchor:
        # A change since the signpost does not tell of the gap.
        look += [i for i in unlisted if i not in extra]
    newest = listed.history_ids.get(thread_id)
    stale = mirrored is not None and bool(wanted) and _stale(newest, mirrored, run)
    kept = {*extra, *(wanted if run.mode == "full" else ())}
    strip = [i for i, entry in entries.items() if not policy.bodies and entry.stored != "none" and i not in kept]
    if not (missing or look or extra or stale or strip):
        return None
    needed = wanted if stale else missing
    way: Way = "messages"
    singles, whole = len(needed) * prices["users.messages.get"], prices["users.threads.get"]
    if singles > whole and missing:
        way = "thread"
    elif singles >= whole and not missing:
        # At the same price labels alone: not all messages changed.
        way = "minimal"
    get = sorted(needed if way == "messages" else missing, reverse=True)
    listed_at = newest if stale and newest else 0
    return Item(thread_id, tuple(get), stale, way, tuple(look), tuple(extra), listed_at, tuple(strip))


def _surplus(entry: Entry, run: Run) -> bool:
    """Return whether one not listed is extra: history does not tell its end, or did."""
    return entry.history_id <= run.signpost or not run.rule.wants(entry.label_ids, entry.internal_date)


def compares(run: Run) -> bool:
    """Return whether a run lists threads too, to compare labels."""
    return run.mode == "audit" or (run.mode != "full" and run.anchor > 0)


def _stale(newest: HistoryId | None, mirrored: Thread, run: Run) -> bool:
    if newest is None:
        # New mail moves a thread out of the pages to come.
        return compares(run)
    return (run.mode == "audit" and newest > mirrored.history_id) or 0 < run.anchor < newest


def pack(items: Sequence[Item]) -> str:
    """Return items as the text of a plan document."""
    rows = [[i.thread_id, i.get, i.stale, i.way, i.look, i.extra, i.history_id, i.strip] for i in items]
    return json.dumps(rows, separators=(",", ":"))


def unpack(text: str) -> list[Item]:
    """Return the items of a plan; an older version's have no `strip`."""
    return [
        Item(thread_id, tuple(get), stale, way, tuple(look), tuple(extra), history_id, *map(tuple, strip))
        for thread_id, get, stale, way, look, extra, history_id, *strip in json.loads(text)
    ]


def take(items: Sequence[Item], prices: Mapping[str, int], *, units: int, max_messages: int = GROUP_FETCHES) -> int:
    """Return how many items `units` pay for, at least one."""
    count = spent = messages = 0
    for item in items:
        spent += item_units(item, prices)
        messages += len(item.get) + len(item.look)
        if count and (spent > units or messages > max_messages):
            break
        count += 1
    return count


def eta(run: Run, done: int, now: datetime) -> datetime | None:
    """Return when fetching ends at the pace so far."""
    return now + (now - run.started_at) / done * max(0, run.total - done) if done else None
