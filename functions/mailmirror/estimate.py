"""The estimate: what a first sync of a mailbox will take, before it is connected; each figure with its formula.

Knows: how reconcile lists, plans and cuts slices, and so what it reads, writes and spends. Does not know: the store; of
Gmail it asks what `survey` asks, 21 units at the most. Nothing is fetched or written.

It says what it cannot know: the size of messages, the number of labels, and mail during the run.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil

from mailmirror import planner
from mailmirror.errors import InvalidInput
from mailmirror.model import MailboxId, ThreadId
from mailmirror.planner import Item
from mailmirror.ports import Gmail
from mailmirror.quota import bucket

# Messages on a page, and pages looked at: the newest 2,000 messages.
PAGE = 500
SAMPLE_PAGES = 4

# US dollars for a document read, written or deleted, and a GiB in a month: Firestore in nam5, a multi-region; one
# region costs about half (https://cloud.google.com/firestore/pricing).
READ_USD, WRITE_USD, DELETE_USD, GIB_USD = 0.06e-5, 0.18e-5, 0.02e-5, 0.18
# Typical bytes with index entries, most of it without a body (https://cloud.google.com/firestore/docs/storage-size). A
# real sample would cost as much as its sync.
MESSAGE_BYTES, BODY_BYTES, ENTRY_BYTES, THREAD_BYTES = 10_000, 20_000, 500, 6_000
# Gmail's, and some of the user's.
LABELS = 20
# Besides a run's documents: mailbox, lease, watch, start and end.
FIRST_READS, FIRST_WRITES = 8, 14
TURN_READS, TURN_WRITES = 4, 4
MINUTES_A_DAY = 24 * 60


@dataclass(frozen=True, slots=True)
class Survey:
    """What Gmail says of a mailbox; `sizes`: listed messages of each listed thread."""

    messages: int
    threads: int
    sizes: tuple[int, ...]
    complete: bool

    @property
    def sample(self) -> tuple[int, ...]:
        """What others are inferred from; if none is listed, threads of one message."""
        return self.sizes or (1,) * min(self.messages, SAMPLE_PAGES * PAGE)


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure, and how it was worked out."""

    value: float
    formula: str


@dataclass(frozen=True, slots=True)
class Estimate:
    """What the first sync of a mailbox takes; what depends on threads' sizes is extrapolated unless `complete`."""

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
    """A deployment's settings."""

    prices: Mapping[str, int]
    units_per_minute: int
    step_seconds: float
    units_per_day: int | None = None
    bodies: bool = True

    @property
    def rate(self) -> float:
        """Units a second that a run spends for hours."""
        return bucket(self.units_per_minute).rate


def survey(gmail: Gmail, mailbox: MailboxId) -> Survey:
    """Look at the newest messages. Raises `InvalidInput`: an alias."""
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
    # Mail may have arrived since the profile.
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
    get, whole = prices["users.messages.get"], prices["users.threads.get"]
    return [Item("", ("",) * size, way="thread" if size * get > whole else "messages") for size in sizes]


def _slices(seen: Survey, terms: Terms) -> int:
    units = int(planner.SLICE_SECONDS * terms.rate)
    items = _items(seen.sample, terms.prices)
    slices = 0
    for first in range(0, len(items), planner.PLAN_THREADS):
        rest = items[first : first + planner.PLAN_THREADS]
        while rest:
            rest = rest[planner.take(rest, terms.prices, units=units) :]
            slices += 1
    return slices


def _scale(seen: Survey) -> float:
    """The mailbox's messages for each listed one."""
    return seen.messages / sum(seen.sample) if seen.sample else 0.0


def _minutes(units: float, terms: Terms) -> Figure:
    a_minute = 60 * terms.rate
    paid = f"{a_minute:g} units a minute"
    if terms.units_per_day is None or units <= terms.units_per_day:
        return Figure(round(units / a_minute, 1), f"{units:.0f} units / {paid}")
    # Days begin at midnight UTC; the last has the rest.
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
            f"There are {LABELS} labels. Mail that comes during the sync is not counted, nor are bodies over 200 kB and"
            " attachments whose bytes are kept, which are objects in Cloud Storage; Gmail takes some units for each of"
            " those attachments."
        ),
        "Prices are Firestore's list prices when this was written, without the free quota of each day.",
    ]
    if not seen.complete:
        said.append(
            "Threads look shorter in a sample than they are, where older messages of theirs are beyond it: rather"
            " fewer units are needed than said."
        )
    return tuple(said)
