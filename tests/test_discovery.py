"""Discovery: everybody a directory lists is connected, confirmed, skipped or failed; nobody is left out, ever."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.discovery import PURGED, STOPPED, Crowd, Discovery, Found, Place
from mailmirror.errors import (
    AccessRevoked,
    DirectoryRejected,
    DirectoryUnavailable,
    GmailUnavailable,
    MailmirrorError,
    Throttled,
)
from mailmirror.model import Mailbox, PeoplePage, Person, Policy, Watch

from local.gmail.mailbox import Mailbox as GmailMailbox
from tests.clock import VirtualClock
from tests.inprocess import InProcessAccounts
from tests.world import Outbox

SALES = Crowd("group", "sales@example.com")
UNIT = Crowd("org_unit", "/Sales")


@dataclass
class PagedDirectory:
    """A directory of a few pages.

    Attributes:
        people: everybody, in the order of the pages.
        size: how many are on a page.
        rng: a page lists its people in another order each time.
        failures: what the next calls fail with; None succeeds.
        nameless: entries without an address, which a page leaves out.
        asked: each call: of what, and which page.
    """

    people: list[Person]
    size: int = 3
    rng: Random = field(default_factory=lambda: Random(1))
    failures: list[MailmirrorError | None] = field(default_factory=list)
    nameless: set[str] = field(default_factory=set)
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    def members(self, group: str, page_token: str | None) -> PeoplePage:
        return self._page("members", group, page_token)

    def users(self, org_unit: str, page_token: str | None) -> PeoplePage:
        return self._page("users", org_unit, page_token)

    def _page(self, kind: str, name: str, token: str | None) -> PeoplePage:
        self.asked.append((kind, name, token))
        failure = self.failures.pop(0) if self.failures else None
        if failure is not None:
            raise failure
        start = int(token or 0)
        page = [person for person in self.people[start : start + self.size] if person.address not in self.nameless]
        self.rng.shuffle(page)
        more = start + self.size < len(self.people)
        return PeoplePage(tuple(page), str(start + self.size) if more else None)


class Office:
    """People with mailboxes, an empty store, and a discovery of them. It opens their mailboxes itself.

    Attributes:
        seconds: how long each call of Gmail takes.
        broken: the failure of whoever's mailbox cannot be read.
    """

    def __init__(self, count: int) -> None:
        self.clock = VirtualClock()
        self.names = [f"p{number:02d}@example.com" for number in range(count)]
        self.directory = PagedDirectory([Person(name) for name in self.names])
        boxes = {name: GmailMailbox(name, clock=self.clock, rng=Random(1)) for name in self.names}
        self.accounts = InProcessAccounts(self.clock, boxes)
        self.accounts.before = self._before
        self.store = SqliteStore(":memory:")
        self.outbox = Outbox()
        self.seconds = 0.0
        self.broken: dict[str, MailmirrorError] = {}

    def _before(self, _method: str, _subject: str) -> None:
        self.clock.advance(self.seconds)

    def open(self, mailbox: str, quota: object) -> object:
        """Open a mailbox, unless it is broken."""
        if mailbox in self.broken:
            self.clock.advance(self.seconds)
            raise self.broken[mailbox]
        return self.accounts.open(mailbox, None)

    def discover(
        self, crowd: Crowd = UNIT, place: Place | None = None, *, wait: float = 1e6, **changes: object
    ) -> Found:
        """Discover once."""
        discovery = Discovery(self.store, self, self.outbox, self.clock, self.directory, **changes)  # type: ignore[arg-type]
        return discovery.run(crowd, place or Place(), self.clock.now() + timedelta(seconds=wait))

    def discover_all(self, wait: float) -> list[Found]:
        """Discover until nothing is left."""
        rounds = [self.discover(wait=wait)]
        while (place := rounds[-1].next) is not None:
            assert len(rounds) < 1_000, "The discovery does not end."
            rounds.append(self.discover(place=place, wait=wait))
        return rounds

    def put(self, name: str, **changes: object) -> None:
        """Have a mailbox in the store."""
        now = self.clock.now()
        mailbox = Mailbox(name, now, Watch(expires_at=now), now)
        assert self.store.create_mailbox(replace(mailbox, **changes))  # type: ignore[arg-type]

    def stored(self) -> list[str]:
        """The connected mailboxes."""
        return [mailbox.email_address for mailbox in self.store.mailboxes(limit=1_000)]


@pytest.fixture
def office() -> Iterator[Office]:
    """Seven people, none of them connected."""
    office = Office(7)
    yield office
    office.store.close()


def test_everybody_is_connected(office: Office) -> None:
    """All pages are worked through: each person has a mailbox document and a work message."""
    found = office.discover()
    assert (found.connected, found.next, found.problem) == (office.names, None, None)
    assert office.stored() == office.names
    assert sorted(office.outbox.work) == [(name, "renew") for name in office.names]


@pytest.mark.parametrize(("crowd", "kind"), [(SALES, "members"), (UNIT, "users")])
def test_whom(office: Office, crowd: Crowd, kind: str) -> None:
    """A group is asked for its members, an organisational unit for its users."""
    office.discover(crowd)
    assert office.directory.asked == [(kind, crowd.name, token) for token in (None, "3", "6")]


def test_the_same_again(office: Office) -> None:
    """A second discovery confirms everybody, publishes nothing and asks Gmail nothing."""
    office.discover()
    office.outbox.work.clear()
    office.accounts.calls.clear()
    found = office.discover()
    assert (found.connected, found.confirmed) == ([], office.names)
    assert office.outbox.work == []
    assert office.accounts.calls == []


def test_a_policy(office: Office) -> None:
    """The policy is that of all who are connected."""
    policy = Policy(include_spam_trash=False)
    office.discover(policy=policy)
    assert {mailbox.policy for mailbox in office.store.mailboxes()} == {policy}


def test_a_dry_run(office: Office) -> None:
    """A dry run tells what would be done; it writes nothing, publishes nothing and asks Gmail nothing."""
    office.put(office.names[2])
    office.directory.people[4] = Person(office.names[4], "suspended")
    office.broken[office.names[5]] = AccessRevoked("No.")
    found = office.discover(dry_run=True)
    assert found.connected == [name for number, name in enumerate(office.names) if number not in (2, 4)]
    assert (found.confirmed, [skipped.address for skipped in found.skipped]) == ([office.names[2]], [office.names[4]])
    assert found.failed == []
    assert office.stored() == [office.names[2]]
    assert office.outbox.work == []
    assert office.accounts.calls == []


@pytest.mark.parametrize(
    ("standing", "words"),
    [
        ("suspended", "suspended"),
        ("archived", "archived"),
        ("no_mailbox", "no Gmail mailbox"),
        ("external", "no active user"),
        ("group", "group"),
    ],
)
def test_who_has_no_mailbox_to_connect(office: Office, standing: str, words: str) -> None:
    """They are skipped with the reason, and the others are connected."""
    office.directory.people[1] = Person(office.names[1], standing)  # type: ignore[arg-type]
    found = office.discover()
    assert [(skipped.address, words in skipped.reason) for skipped in found.skipped] == [(office.names[1], True)]
    assert office.stored() == [name for name in office.names if name != office.names[1]]


@pytest.mark.parametrize(("wanted", "reason"), [("stopped", STOPPED), ("purged", PURGED)])
@pytest.mark.parametrize("dry_run", [False, True])
def test_what_somebody_stopped_stays_stopped(office: Office, wanted: str, reason: str, *, dry_run: bool) -> None:
    """A mailbox that was stopped or is being deleted is not made live by a discovery."""
    office.put(office.names[0], wanted=wanted, phase="stopped")
    found = office.discover(dry_run=dry_run)
    assert [(skipped.address, skipped.reason) for skipped in found.skipped] == [(office.names[0], reason)]
    state = office.store.mailbox(office.names[0])
    assert state is not None
    assert state.wanted == wanted


@pytest.mark.parametrize(
    "error", [AccessRevoked("Gone."), GmailUnavailable("Down."), Throttled("Quota."), DirectoryRejected("Odd.")]
)
def test_one_failure_stops_nobody_else(
    office: Office, error: MailmirrorError, caplog: pytest.LogCaptureFixture
) -> None:
    """Who fails is named with code, reason and next step, in the answer and in the log; the others are connected."""
    office.broken[office.names[1]] = error
    with caplog.at_level(logging.INFO, "mailmirror"):
        found = office.discover()
    assert [(missed.address, missed.code) for missed in found.failed] == [(office.names[1], type(error).__name__)]
    assert found.failed[0].message == f"{error} {error.action}"
    assert office.stored() == [name for name in office.names if name != office.names[1]]
    named = [record.__dict__["fields"] for record in caplog.records if record.message == "mailbox_not_connected"]
    assert named == [{"mailbox": office.names[1], "error": type(error).__name__, "reason": str(error)}]


def test_an_address_that_is_none(office: Office) -> None:
    """What cannot be a mailbox's id fails by itself."""
    office.directory.people[0] = Person("a/b@example.com")
    found = office.discover()
    assert [missed.code for missed in found.failed] == ["InvalidInput"]
    assert len(found.connected) == 6


def test_somebody_listed_twice_on_a_page(office: Office) -> None:
    """A person who is in a group in two ways is one person."""
    office.directory.people.insert(1, office.directory.people[0])
    assert office.discover().connected == office.names


@pytest.mark.parametrize("other", ["external", "suspended", "group"])
@pytest.mark.parametrize("first", [False, True])
def test_somebody_listed_in_two_ways(office: Office, other: str, *, first: bool) -> None:
    """Who is an active user in one of them is one, whichever comes first."""
    same = Person(office.names[0], other)  # type: ignore[arg-type]
    office.directory.people.insert(0 if first else 1, same)
    office.directory.rng.shuffle = lambda page: None  # type: ignore[method-assign,assignment]
    found = office.discover()
    assert (found.connected, found.skipped) == (office.names, [])


def test_the_time_is_over(office: Office) -> None:
    """Who is not done is done from the place that is returned, and nobody is asked for twice."""
    office.seconds = 2.0
    rounds = office.discover_all(wait=3.0)
    assert [found.connected for found in rounds] == [
        office.names[0:2],
        office.names[2:4],
        office.names[4:6],
        office.names[6:],
    ]
    assert office.accounts.made("users.getProfile") == len(office.names)


def test_no_time_at_all(office: Office) -> None:
    """Each call does one person at least, so that a discovery ends however long one of them takes."""
    office.seconds = 60.0
    rounds = office.discover_all(wait=0.0)
    assert [name for found in rounds for name in found.connected] == office.names


def test_a_page_of_failures_is_left_behind(office: Office) -> None:
    """People whose mailboxes fail slowly are tried once each, and do not keep a discovery on their page for ever."""
    office.seconds = 60.0
    office.broken = {name: AccessRevoked("No.") for name in office.names[:6]}
    rounds = office.discover_all(wait=0.0)
    assert [missed.address for found in rounds for missed in found.failed] == office.names[:6]
    assert rounds[-1].connected == office.names[6:]


def test_the_directory_fails_at_once(office: Office) -> None:
    """Nothing was done, and the failure is the answer."""
    office.directory.failures = [DirectoryUnavailable("Down.")]
    with pytest.raises(DirectoryUnavailable):
        office.discover()
    assert office.stored() == []


def test_the_directory_fails_on_the_way(office: Office) -> None:
    """What was done is told, with the problem in words and the place to go on from."""
    office.directory.failures = [None, DirectoryUnavailable("Down.")]
    found = office.discover()
    assert found.connected == office.names[:3]
    assert found.problem == f"Down. {DirectoryUnavailable.action}"
    assert found.next is not None
    assert office.discover(place=found.next).connected == office.names[3:]


def test_an_empty_page_in_the_middle(office: Office) -> None:
    """A page without people leads to the next one."""
    office.directory.nameless = set(office.names[3:6])
    assert office.discover().connected == [*office.names[:3], office.names[6]]


@given(
    count=st.integers(1, 12),
    size=st.integers(1, 5),
    seconds=st.lists(st.sampled_from([0.0, 1.0, 5.0]), min_size=1, max_size=4),
    broken=st.sets(st.integers(0, 11)),
    failing=st.lists(st.booleans(), max_size=6),
    seed=st.integers(0, 1_000),
)
def test_nobody_is_left_out(
    count: int, size: int, seconds: list[float], broken: set[int], failing: list[bool], seed: int
) -> None:
    """However the pages are cut, shuffled and interrupted, each person is told of exactly once."""
    office = Office(count)
    office.directory.size, office.directory.rng = size, Random(seed)
    office.directory.rng.shuffle(office.directory.people)
    office.broken = {office.names[number]: AccessRevoked("No.") for number in broken if number < count}
    office.directory.failures = [DirectoryUnavailable("Down.") if fails else None for fails in failing]
    told: list[str] = []
    place: Place | None = Place()
    for turn in range(200):
        office.seconds = seconds[turn % len(seconds)]
        try:
            found = office.discover(place=place, wait=4.0)
        except DirectoryUnavailable:
            continue
        told += found.connected + found.confirmed + [missed.address for missed in found.failed]
        place = found.next
        if place is None:
            break
    office.store.close()
    assert place is None
    assert sorted(told) == office.names
