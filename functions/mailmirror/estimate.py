"""The estimate: what a first sync of a mailbox will take, before it is connected; each figure with its formula.

Knows: how reconcile lists, plans and cuts slices, and so what it reads, writes and spends. Does not know: the store; of
Gmail it asks only what `survey` asks, 21 units at the most. Nothing is fetched and nothing is written.

What it cannot know it says: how large messages are, how many labels there are, and what mail does to the mailbox while
the run is going.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from mailmirror import planner
from mailmirror.errors import InvalidInput
from mailmirror.model import MailboxId, MessageId, ThreadId
from mailmirror.planner import Item, Way
from mailmirror.ports import Gmail
from mailmirror.quota import bucket

# Messages on a page of a listing, and how many pages of it are looked at: the newest 2,000 messages.
PAGE = 500
SAMPLE_PAGES = 4

# US dollars for a document read, written or deleted, and for a GiB in a month: Firestore in the multi-region nam5. One
# region costs about half (https://cloud.google.com/firestore/pricing).
READ_USD, WRITE_USD, DELETE_USD, GIB_USD = 0.06e-5, 0.18e-5, 0.02e-5, 0.18
# Bytes in Firestore of typical documents, their index entries included, which are most of it where there is no body, by
# https://cloud.google.com/firestore/docs/storage-size. A sample of real messages would cost as much as their sync.
MESSAGE_BYTES, BODY_BYTES, ENTRY_BYTES, THREAD_BYTES = 10_000, 20_000, 500, 6_000
# Gmail's own labels, and some of the user's.
LABELS = 20
# What a turn reads and writes besides a run's documents: mailbox, lease, watch, start and end.
FIRST_READS, FIRST_WRITES = 8, 14
TURN_READS, TURN_WRITES = 4, 4
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Survey:
    """What Gmail says of a mailbox for a few units.

    Attributes:
        messages, threads: how many there are.
        sizes: how many of the listed messages each thread has that the listing shows, the newest thread first.
        complete: whether the listing shows the whole mailbox.
    """

    messages: int
    threads: int
    sizes: tuple[int, ...]
    complete: bool

    @property
    def sample(self) -> tuple[int, ...]:
        """The sizes that others are inferred from; where nothing is listed, as if no message answered another."""
        return self.sizes or (1,) * min(self.messages, SAMPLE_PAGES * PAGE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, and how it was worked out."""

    value: float
    formula: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the first sync of a mailbox takes.

    Attributes:
        complete: whether all messages were listed; if not, what depends on the sizes of threads is extrapolated.
        messages, threads: what is in the mailbox.
        units, minutes: Gmail's quota, and how long it takes to be granted.
        reads, writes, deletes: Firestore's documents.
        storage_bytes: what is stored afterwards.
        price_usd: reads, writes and deletes.
        storage_usd_per_month: what is stored.
        assumptions: what is not known, in sentences.
    """

    complete: bool
    messages: Figure
    threads: Figure
    units: Figure
    minutes: Figure
    reads: Figure
    writes: Figure
    deletes: Figure
    storage_bytes: Figure
    price_usd: Figure
    storage_usd_per_month: Figure
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Terms:
    """What a deployment's settings say about a sync.

    Attributes:
        prices: quota units by Gmail method.
        units_per_minute: the quota of one user.
        units_per_day: what runs may spend in a day; None for no limit.
        step_seconds: how long one turn works.
        bodies: whether text and html are mirrored.
    """

    prices: Mapping[str, int]
    units_per_minute: int
    step_seconds: float
    units_per_day: int | None = None
    bodies: bool = True

    @property
    def rate(self) -> float:
        """The units a second that a run spends for hours."""
        return bucket(self.units_per_minute).rate


def survey(gmail: Gmail, mailbox: MailboxId) -> Survey:
    """Look at a mailbox and its newest messages.

    Raises:
        InvalidInput: the address belongs to another mailbox.
    """
    profile = gmail.profile()
    if profile.email_address.lower() != mailbox:
        raise InvalidInput("This address is an alias; ask for the mailbox by its primary address.")
    threads: Counter[ThreadId] = Counter()
    token = None
    for _ in range(SAMPLE_PAGES):
        page = gmail.list_messages(token, include_spam_trash=True)
        threads.update(thread_id for _, thread_id in page.refs)
        token = page.next_page_token
        if token is None:
            return Survey(threads.total(), len(threads), tuple(threads.values()), complete=True)
    # Mail may have arrived or gone since the profile; there is no less than what was listed.
    messages, found = max(profile.messages_total, threads.total()), max(profile.threads_total, len(threads))
    return Survey(messages, found, tuple(threads.values()), complete=False)


def first_sync(seen: Survey, terms: Terms) -> Estimate:
    """Return what the first sync of a mailbox takes."""
    messages, threads = seen.messages, seen.threads
    fetching, how = _fetching(seen, terms.prices)
    # Drafts are listed too, to be left out.
    pages = max(1, ceil(messages / PAGE)) + 1
    plans = threads // planner.PLAN_THREADS + 1
    slices = ceil(_slices(seen, terms) * _scale(seen))
    turns = max(1, ceil(fetching / terms.rate / terms.step_seconds))
    units = _units(fetching, how, pages, turns, terms.prices)
    reads = threads + 2 * (slices + pages + plans) + FIRST_READS + TURN_READS * (turns - 1)
    writes = messages + threads + 3 * (slices + pages + plans) + LABELS + FIRST_WRITES + TURN_WRITES * (turns - 1)
    deletes = pages + plans + slices
    body = BODY_BYTES if terms.bodies else 0
    stored = messages * (MESSAGE_BYTES + body + ENTRY_BYTES) + threads * THREAD_BYTES
    documents = f"({slices} slices + {pages} pages + {plans} plan documents)"
    source = "listed" if seen.complete else "users.getProfile"
    return Estimate(
        complete=seen.complete,
        messages=Figure(messages, source),
        threads=Figure(threads, source),
        units=units,
        minutes=_minutes(units.value, terms),
        reads=Figure(
            reads,
            f"{threads} threads + 2 × {documents} + {FIRST_READS} for mailbox, lease and watch"
            f" + {TURN_READS} × {turns - 1} turns after the first",
        ),
        writes=Figure(
            writes,
            f"{messages} messages + {threads} threads + 3 × {documents}, each with mailbox and lease + {LABELS} labels"
            f" + {FIRST_WRITES} for mailbox, lease, watch and run + {TURN_WRITES} × {turns - 1} turns after the first",
        ),
        deletes=Figure(
            deletes,
            f"{pages} pages + {plans} plan documents at the end of the run + {slices} deltas, one for each slice, a"
            " month later",
        ),
        storage_bytes=Figure(
            stored,
            f"{messages} messages × ({MESSAGE_BYTES} + {body} text and html + {ENTRY_BYTES} in the thread's document)"
            f" + {threads} threads × {THREAD_BYTES}, index entries included",
        ),
        price_usd=Figure(
            round(reads * READ_USD + writes * WRITE_USD + deletes * DELETE_USD, 4),
            f"({reads} reads × {READ_USD * 1e5:g} + {writes} writes × {WRITE_USD * 1e5:g} + {deletes} deletes ×"
            f" {DELETE_USD * 1e5:g}) / 100000, Firestore in nam5; one region costs about half",
        ),
        storage_usd_per_month=Figure(
            round(stored / 2**30 * GIB_USD, 4), f"{stored} bytes / 2^30 × {GIB_USD:g} USD for a GiB in nam5"
        ),
        assumptions=_assumptions(seen, terms),
    )


def _units(fetching: int, how: str, pages: int, turns: int, prices: Mapping[str, int]) -> Figure:
    """Fetching, and what else is asked: access is proved, then watch, signpost, listing, history and labels."""
    once = {
        "pages": (pages, prices["users.messages.list"]),
        "profiles": (2, prices["users.getProfile"]),
        "watch": (1, prices["users.watch"]),
        "histories": (1 + turns, prices["users.history.list"]),
        "label lists": (2, prices["users.labels.list"]),
    }
    rest = " + ".join(f"{count} {what} × {price}" for what, (count, price) in once.items())
    return Figure(fetching + sum(count * price for count, price in once.values()), f"{how} + {rest}")


def _fetching(seen: Survey, prices: Mapping[str, int]) -> tuple[int, str]:
    """Return the units that fetching takes, each thread in the cheaper way, and how they were worked out."""
    get, whole = prices["users.messages.get"], prices["users.threads.get"]
    if not (seen.sizes or seen.complete):
        return get * seen.messages, f"{get} × {seen.messages} messages each by itself as the listing shows none"
    listed = sum(planner.item_units(item, prices) for item in _items(seen.sizes, prices))
    rule = f"Σ min({get} × n, {whole}) over the n messages of each of {len(seen.sizes)} threads"
    if seen.complete:
        return listed, f"{listed} ({rule})"
    messages, threads, each = seen.messages, seen.threads, round(listed / sum(seen.sizes), 4)
    return min(ceil(each * messages), get * messages, whole * threads), (
        f"min({messages} messages × {each} ({rule}, divided by the newest {sum(seen.sizes)} messages, which these are),"
        f" {get} × {messages} messages, {whole} × {threads} threads)"
    )


def _items(sizes: Sequence[int], prices: Mapping[str, int]) -> list[Item]:
    """Return threads as the planner puts them into a run's plan."""
    get, whole = prices["users.messages.get"], prices["users.threads.get"]
    ids: tuple[MessageId, ...] = ("",)
    ways: dict[bool, Way] = {False: "messages", True: "thread"}
    return [Item("", ids * size, way=ways[size * get > whole]) for size in sizes]


def _slices(seen: Survey, terms: Terms) -> int:
    """Return how many slices the listed threads are fetched in, once the budget is at its steady rate."""
    units = int(planner.SLICE_SECONDS * terms.rate)
    items = _items(seen.sample, terms.prices)
    slices = 0
    for first in range(0, len(items), planner.PLAN_THREADS):
        rest = items[first : first + planner.PLAN_THREADS]
        while rest:
            rest = rest[planner.take(rest, terms.prices, units=units, max_messages=planner.GROUP_FETCHES) :]
            slices += 1
    return slices


def _scale(seen: Survey) -> float:
    """Return how many times the listed messages the whole mailbox is."""
    return seen.messages / sum(seen.sample) if seen.sample else 0.0


def _minutes(units: float, terms: Terms) -> Figure:
    a_minute = 60 * terms.rate
    paid = f"{a_minute:g} units a minute"
    if terms.units_per_day is None or units <= terms.units_per_day:
        return Figure(round(units / a_minute, 1), f"{units:.0f} units / {paid}")
    # What a day allows is spent from midnight UTC on; the last day has the rest.
    days = ceil(units / terms.units_per_day)
    rest = units - (days - 1) * terms.units_per_day
    return Figure(
        round((days - 1) * MINUTES_A_DAY + rest / a_minute, 1),
        f"{days - 1} full days × {MINUTES_A_DAY} + {rest:.0f} units / {paid}, because a day allows"
        f" {terms.units_per_day} of {units:.0f} units",
    )


def _assumptions(seen: Survey, terms: Terms) -> tuple[str, ...]:
    said = [
        "The policy mirrors everything but drafts. One that leaves mail out costs less.",
        (
            f"Of {terms.units_per_minute} units a minute {60 * terms.rate:.0f} may be spent steadily, and nobody else"
            f" spends them. A turn lasts {terms.step_seconds:g} s."
        ),
        (
            f"The bytes of a message ({MESSAGE_BYTES}, its text and html {BODY_BYTES}) and of a thread ({THREAD_BYTES})"
            " are typical ones, not measured: that would cost as much as the sync."
        ),
        (
            f"There are {LABELS} labels. Mail that comes during the sync is not counted, nor are bodies over 200 kB,"
            " which are objects in Cloud Storage."
        ),
        "Prices are Firestore's list prices when this was written, without the free quota of each day.",
    ]
    if not seen.complete:
        said.append(
            "Threads look shorter in a sample than they are, where older messages of theirs are beyond it: rather"
            " fewer units are needed than said."
        )
    return tuple(said)
