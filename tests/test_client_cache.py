"""A cache against the mirror: the real application with its HTTP routes, and a life that goes on meanwhile.

Knows: what a cache promises to be equal in, and how to compare it with the database. Does not know: how it does it. The
client shares nothing with the functions but HTTP.
"""

import io
import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import count, islice
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from flask import Request
from mailmirror import read_api
from mailmirror.model import Policy
from requests.adapters import BaseAdapter
from werkzeug.test import EnvironBuilder

from mailmirror_client import cache as module
from mailmirror_client.cache import Cache
from mailmirror_client.copies import DeltaMissing
from mailmirror_client.reader import Change, CursorExpired, Delta, Reader
from mailmirror_client.service import Service, ServiceError
from tests.killing import Killed, KillingStore, When, at_call
from tests.world import ADA, World, mail

POLICIES = (
    Policy(),
    Policy(drafts=True),
    Policy(include_spam_trash=False),
    Policy(label_ids=("INBOX",)),
    Policy(exclude_label_ids=("STARRED",), bodies=False),
)


class InProcess(BaseAdapter):
    """What requests sends is answered by read_mailboxes in this process.

    Attributes:
        before, after: happen before each request, and when it is answered.
        when: whether whoever asks dies, before the request or before the answer is there.
        paths: what was asked for.
    """

    def __init__(
        self, world: World, before: Callable[[], object], after: Callable[[], object], when: When | None
    ) -> None:
        super().__init__()
        self.world = world
        self.before = before
        self.after = after
        self.when: When = when or at_call(0)
        self.paths: list[str] = []

    def send(self, request: requests.PreparedRequest, *_: Any, **__: Any) -> requests.Response:
        """Answer."""
        if self.when("request", after=False):
            raise Killed
        self.before()
        url = urlsplit(request.url or "")
        self.paths.append(url.path.removeprefix("/mailboxes/ada%40example.com"))
        query = dict(parse_qsl(url.query))
        # Small pages, so that there are many.
        if "limit" in query or url.path.endswith("/deltas"):
            query["limit"] = "3"
        environ = EnvironBuilder(url.path, query_string=query, headers=list(request.headers.items())).get_environ()
        given = read_api.read_mailboxes(self.world.app, Request(environ))
        answer = requests.Response()
        answer.status_code, answer.url, answer.request = given.status_code, url.geturl(), request
        answer.headers.update(given.headers)
        answer.raw = io.BytesIO(given.get_data())
        self.after()
        if self.when("request", after=True):
            raise Killed
        return answer

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class Keeper:
    """Whoever keeps a cache of Ada's mailbox in a file, and writes down what was applied to it."""

    world: World
    path: Path
    before: Callable[[], object] = lambda: None
    after: Callable[[], object] = lambda: None

    def reader(self, when: When | None = None) -> Reader:
        """Return a reader that asks the world."""
        service = Service("http://127.0.0.1:1", patience=0)
        service._session.mount("http://", InProcess(self.world, self.before, self.after, when))
        return Reader(service, ADA)

    def open(self, when: When | None = None, **changes: Any) -> Cache:
        """Open the cache; who keeps it may die at a request or at a statement."""
        cache = Cache(self.path, self.reader(when), applied=write_down, **changes)
        if when is not None:
            database: Any = KillingStore(cache._copies._database, when)
            cache._copies._database = database
        return cache

    def catch_up(self, when: When | None = None) -> None:
        """Let somebody catch up, and die where `when` says so."""
        with self.open(when) as cache:
            cache.catch_up()

    def differences(self) -> list[str]:
        """Compare the cache with the mirror."""
        with self.open() as cache:
            return differences(self.world, cache)

    def journal(self) -> list[int]:
        """The deltas applied, in order."""
        with closing(sqlite3.connect(self.path)) as database:
            database.execute("CREATE TABLE IF NOT EXISTS journal (seq INTEGER)")
            return [seq for (seq,) in database.execute("SELECT seq FROM journal ORDER BY rowid")]


def check_journal(keeper: Keeper) -> list[int]:
    """Check that each delta was applied once and in order, from the first one to the newest."""
    journal, last = keeper.journal(), keeper.world.state().delta_seq
    assert journal == list(range(last + 1 - len(journal), last + 1))
    return journal


def write_down(database: sqlite3.Connection, delta: Delta) -> None:
    """Write down that a delta is applied."""
    database.execute("CREATE TABLE IF NOT EXISTS journal (seq INTEGER)")
    database.execute("INSERT INTO journal VALUES (?)", (delta.seq,))


def differences(world: World, cache: Cache) -> list[str]:
    """Compare a cache with the documents in the database."""
    mirrored = {key: plain(document) for key, document in world.documents("messages").items()}
    cached = {document["id"]: document for document in cache.messages()}
    found = [f"missing {key}" for key in mirrored.keys() - cached.keys()]
    found += [f"extra {key}" for key in cached.keys() - mirrored.keys()]
    for key in mirrored.keys() & cached.keys():
        for name in ("threadId", "labelIds", "internalDate", "headers", "snippet", "sizeEstimate"):
            if mirrored[key][name] != cached[key][name]:
                found.append(f"{name} of {key}: {mirrored[key][name]} != {cached[key][name]}")
    threads = {key: document["messageIds"] for key, document in world.documents("threads").items()}
    if threads != cache.threads():
        found.append("threads")
    return found


def plain(value: Any) -> Any:
    """Return a stored value as HTTP has it."""
    if isinstance(value, dict):
        if value.keys() == {"$time"}:
            return datetime.fromisoformat(value["$time"]).isoformat()
        return {name: plain(item) for name, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


@dataclass
class Life:
    """What Ada does, what arrives, what operators do; the mirror follows at once.

    Attributes:
        left: how often something more happens.
        rare: whether now and then deltas expire, policies change, or the mailbox is deleted and connected anew.
    """

    world: World
    rng: Random
    left: int = 0
    rare: bool = True
    number: Iterator[int] = field(default_factory=count)
    policy: Policy = field(default_factory=Policy)

    def maybe(self) -> None:
        """Something happens, or not."""
        if self.left > 0 and self.rng.random() < 0.4:
            self.left -= 1
            self.act()

    def act(self) -> None:
        """Something happens, and the mirror has it."""
        self.world.clock.advance(self.rng.choice([0, 1, 60]))
        chance = self.rng.random()
        if self.rare and chance < 0.03:
            self.expire()
        elif self.rare and chance < 0.06:
            self.policy = self.rng.choice(POLICIES)
            self.world.app.connect(ADA, self.policy)
            self.world.work()
        elif self.rare and chance < 0.08:
            self.anew()
        else:
            for _ in range(self.rng.choice([1, 1, 1, 6])):
                self.change()
            self.world.notify()
            self.world.work()

    def change(self) -> None:
        """Ada does something, or mail arrives."""
        ada, chance = self.world.ada, self.rng.random()
        messages = ada.truth()["messages"]
        drafts = [key for key, message in messages.items() if "DRAFT" in message["labelIds"]]
        threads = sorted({message["threadId"] for message in messages.values()})
        some = self.rng.choice(list(messages)) if messages else None
        if some is None or chance < 0.35:
            # Into a thread, be it an old one, or a new one; also of long ago.
            thread = self.rng.choice(threads) if threads and self.rng.random() < 0.6 else None
            ago = timedelta(days=self.rng.choice([0, 0, 1, 300]))
            ada.deliver(
                mail(f"Number {next(self.number)}"), thread_id=thread, internal_date=self.world.clock.now() - ago
            )
        elif chance < 0.6:
            label = self.rng.choice(["STARRED", "UNREAD", "INBOX", "SPAM"])
            has = label in messages[some]["labelIds"]
            ada.modify([some], remove=[label]) if has else ada.modify([some], add=[label])
        elif chance < 0.7:
            ada.untrash(some) if "TRASH" in messages[some]["labelIds"] else ada.trash(some)
        elif chance < 0.8:
            ada.delete([some])
        elif chance < 0.9 and len(threads) > 1:
            ada.merge_threads(*self.rng.sample(threads, 2))
        else:
            ada.save_draft(mail("Draft"), self.rng.choice(drafts) if drafts else None)

    def expire(self) -> None:
        """All deltas up to now are deleted, as they are after 30 days."""
        self.world.sqlite._connection.execute(
            "DELETE FROM documents WHERE collection = ?", (f"mailboxes/{ADA}/deltas",)
        )

    def anew(self) -> None:
        """The mailbox is deleted with its mirror, and connected again."""
        self.world.app.delete(ADA, 0)
        self.world.work()
        assert self.world.store.mailbox(ADA) is None
        self.world.clock.advance(1)
        self.world.connect(self.policy)


@pytest.fixture(autouse=True)
def few_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """So that a delta takes several."""
    monkeypatch.setattr(module, "_FETCHED_AT_ONCE", 2)


@pytest.fixture
def world() -> World:
    """A connected mailbox with threads."""
    return filled(Random(7))


def filled(rng: Random, changes: int = 60) -> World:
    """Return a world with a mailbox that has lived, connected."""
    world = World()
    life = Life(world, rng, rare=False)
    for _ in range(changes):
        world.clock.advance(60)
        life.change()
    world.connect()
    return world


def test_a_cache_from_nothing(world: World, tmp_path: Path) -> None:
    """What was there is listed, over many pages; nothing is asked for message by message."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    with keeper.open() as cache:
        cache.catch_up()
        assert differences(world, cache) == []
        adapter: Any = cache._reader.service._session.get_adapter("http://")
    assert len(world.documents("messages")) > 9
    assert set(adapter.paths) == {"/deltas/latest-cursor", "/messages", "/deltas"}


def test_the_questions_of_an_application(world: World, tmp_path: Path) -> None:
    """Messages newest first, by label, by thread oldest first, and one."""
    with Keeper(world, tmp_path / "ada.sqlite").open() as cache:
        assert list(cache.messages()) == []
        assert cache.threads() == {}
        cache.catch_up()
        messages = list(cache.messages())
        assert [each["internalDate"] for each in messages] == sorted(
            (each["internalDate"] for each in messages), reverse=True
        )
        inbox = [each for each in messages if "INBOX" in each["labelIds"]]
        assert list(cache.labelled("INBOX")) == inbox != messages
        threads = cache.threads()
        thread_id = max(threads, key=lambda each: len(threads[each]))
        assert [each["id"] for each in cache.thread(thread_id)] == threads[thread_id]
        assert cache.thread("none") == []
        assert cache.message(messages[3]["id"]) == messages[3]
        assert cache.message("none") is None
        assert messages[3].keys() == {
            *("id", "threadId", "labelIds", "internalDate"),
            *("headers", "snippet", "sizeEstimate"),
        }


@pytest.mark.parametrize("seed", range(25))
def test_lives(seed: int, tmp_path: Path) -> None:
    """Whatever happens before, between and during its requests, a cache that caught up is the mirror."""
    rng = Random(seed)
    world = filled(rng, rng.choice([0, 3, 60]))
    life = Life(world, rng)
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=life.maybe)
    for _ in range(6):
        life.left = rng.choice([0, 1, 8])
        try:
            keeper.catch_up()
        except CursorExpired:
            # More expired at once than a cache believes.
            assert life.left == 0
        life.left = 0
        keeper.catch_up()
        assert keeper.differences() == []
        for _ in range(rng.choice([1, 5])):
            life.act()


@pytest.mark.parametrize("seed", range(15))
def test_lives_of_whoever_is_killed(seed: int, tmp_path: Path) -> None:
    """Killed again and again at any request or statement, it misses no delta, applies none twice, and is the mirror."""
    rng = Random(1_000 + seed)
    world = filled(rng)
    life = Life(world, rng, rare=False)
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=life.maybe)
    life.left = 60
    killed = 0
    while life.left > 0:
        life.maybe()
        try:
            keeper.catch_up(at_call(rng.randrange(1, 120)))
        except Killed:
            killed += 1
    keeper.catch_up()
    assert keeper.differences() == []
    assert killed > 5
    check_journal(keeper)


@pytest.mark.parametrize("seed", range(10))
def test_a_kill_anywhere_with_everything_else(seed: int, tmp_path: Path) -> None:
    """Also while policies change, deltas expire and the mailbox is connected anew."""
    rng = Random(2_000 + seed)
    world = filled(rng)
    life = Life(world, rng)
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=life.maybe)
    for _ in range(15):
        life.left = 5
        try:
            keeper.catch_up(at_call(rng.randrange(1, 300)))
        except (Killed, CursorExpired):
            continue
    life.left = 0
    keeper.catch_up()
    assert keeper.differences() == []


def test_a_kill_at_every_call(tmp_path: Path) -> None:
    """At each request and each statement of a first build and of deltas behind it, before and after."""
    world = World()
    ada = world.ada
    threads = [ada.deliver(mail(f"Number {number}")) for number in range(7)]
    world.connect()
    for number in count(1):
        added: list[str] = []

        def deliver(added: list[str] = added) -> None:
            thread = ada.truth()["messages"][threads[0]]["threadId"]
            added.extend(ada.deliver(mail("New"), thread_id=thread) for _ in range(4))

        acts = iter([None, None, deliver, lambda: ada.trash(threads[1]), lambda: ada.untrash(threads[1]), deliver])

        def before(acts: Iterator[Callable[[], object] | None] = acts) -> None:
            act = next(acts, None)
            if act is not None:
                act()
                world.notify()

        keeper, when = Keeper(world, tmp_path / f"{number}.sqlite", before), at_call(number)
        killed = False
        try:
            keeper.catch_up(when)
            ada.delete([added.pop()])
            world.notify()
            keeper.catch_up(when)
        except Killed:
            killed = True
        keeper.before = lambda: None
        keeper.catch_up()
        assert keeper.differences() == [], number
        check_journal(keeper)
        ada.delete(added)
        world.notify()
        if not killed:
            break
    assert number > 150


def test_a_listing_goes_on_where_it_was(world: World, tmp_path: Path) -> None:
    """Who is killed in the middle of a long one does not begin again, however often."""
    made: list[None] = []
    Keeper(world, tmp_path / "whole.sqlite", before=lambda: made.append(None)).catch_up()
    pages = len(made) - 2
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=lambda: made.append(None))
    for _ in range(pages):
        made.clear()
        with pytest.raises(Killed):
            # When its second request is answered: one page further.
            keeper.catch_up(lambda name, *, after: name == "request" and after and len(made) == 2)
    made.clear()
    keeper.catch_up()
    assert len(made) == 2
    assert pages > 4
    assert keeper.differences() == []


def test_what_arrives_in_an_old_thread_during_the_listing_hides_nothing(world: World, tmp_path: Path) -> None:
    """Mail that makes an old thread the newest, behind the listing's back: its older mail is listed all the same."""
    old = world.ada.deliver(mail("Old"), internal_date=world.clock.now() - timedelta(days=3_000))
    world.sweep()
    thread = world.documents("messages")[old]["threadId"]

    def reply() -> None:
        # Behind the first page.
        keeper.before = lambda: None
        world.ada.deliver(mail("New"), thread_id=thread)
        world.notify()

    requests_made = count()
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=lambda: reply() if next(requests_made) == 2 else None)
    keeper.catch_up()
    assert keeper.differences() == []


def test_a_message_that_moved_is_deleted_from_the_old_thread_alone(tmp_path: Path) -> None:
    """One delta takes it from one thread and gives it to another, and the cache may know the newer one already."""
    world = World()
    first, second = (world.ada.deliver(mail(f"Thread {number}")) for number in range(2))
    world.connect()
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    threads = {key: message["threadId"] for key, message in world.ada.truth()["messages"].items()}
    other = world.ada.deliver(mail("Third"))
    world.notify()
    world.ada.merge_threads(threads[second], threads[first])
    world.notify()
    world.ada.merge_threads(world.ada.truth()["messages"][other]["threadId"], threads[second])
    world.notify()
    types = [change["type"] for delta in world.documents("deltas").values() for change in delta["changes"]]
    assert types.count("messageDeleted") >= 2
    keeper.catch_up()
    assert keeper.differences() == []


def test_what_is_gone_when_it_is_fetched_leaves_the_cache(tmp_path: Path) -> None:
    """Moved and then deleted before the cache asks: the deletion names a thread in which the cache never had it."""
    world = World()
    first, second = (world.ada.deliver(mail(f"Thread {number}")) for number in range(2))
    world.connect()
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    threads = {key: message["threadId"] for key, message in world.ada.truth()["messages"].items()}
    world.ada.merge_threads(threads[second], threads[first])
    world.notify()
    world.ada.delete([first])
    world.notify()
    keeper.catch_up()
    assert keeper.differences() == []


def test_a_404_of_somebody_else_is_no_message_gone(world: World, tmp_path: Path) -> None:
    """A page of a proxy on the way ends the catching up, and the message comes later."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    world.ada.deliver(mail("New"))
    world.notify()
    with keeper.open() as cache:
        adapter: Any = cache._reader.service._session.get_adapter("http://")
        send = adapter.send

        def answer(request: requests.PreparedRequest, **kwargs: Any) -> requests.Response:
            given: requests.Response = send(request, **kwargs)
            if "/messages/" in (request.url or ""):
                given.status_code, given.raw = 404, io.BytesIO(b"<html>Not here.</html>")
            return given

        adapter.send = answer
        with pytest.raises(ServiceError) as caught:
            cache.catch_up()
    assert (caught.value.code, caught.value.status) == (404, "UNKNOWN")
    assert keeper.differences() != []
    keeper.catch_up()
    assert keeper.differences() == []


def test_the_old_copy_is_seen_until_the_new_one_is_complete(world: World, tmp_path: Path) -> None:
    """Readers see what was, then what is, and nothing between; what the listing does not have any more is gone."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    life = Life(world, Random(5))
    before = set(world.documents("messages"))
    seen = []
    with keeper.open() as other:
        seen.append({each["id"] for each in other.messages()})
        life.expire()
        world.ada.delete([next(iter(before))])
        world.ada.deliver(mail("New"))
        world.notify()
        life.expire()
        keeper.before = lambda: seen.append({each["id"] for each in other.messages()})
        keeper.catch_up()
        assert len(seen) > 5
        assert all(ids == before for ids in seen)
        keeper.before = lambda: None
        assert {each["id"] for each in other.messages()} == set(world.documents("messages")) != before


def test_a_copy_that_was_dropped_is_not_completed(world: World, tmp_path: Path) -> None:
    """Who begins anew while another ends what it had begun takes nothing away: the old copy stays what is seen."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    before = set(world.documents("messages"))
    seen = []
    with Keeper(world, keeper.path).open() as other:
        asked = count()

        def begin_anew() -> None:
            seen.append({each["id"] for each in other.messages()})
            # Its listing is through, and the answer says that there are no deltas behind it.
            if last[0] is not None and last[0].stage == "following" and next(asked) == 0:
                other.rebuild()

        with Keeper(world, keeper.path, after=begin_anew).open() as cache:
            newest = cache._copies.newest
            last = [newest()]

            def noted() -> Any:
                last[0] = newest()
                return last[0]

            cache._copies.newest = noted  # type: ignore[method-assign]
            cache.rebuild()
            cache.catch_up()
            assert next(asked) > 1
        assert all(ids == before for ids in seen)
    assert keeper.differences() == []


def test_nothing_is_laid_by_for_a_copy_that_was_dropped(world: World, tmp_path: Path) -> None:
    """What is fetched for it would stay in the file for ever."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    world.ada.deliver(mail("New"))
    world.notify()
    begun: list[str] = []
    with Keeper(world, keeper.path).open() as other:

        def begin_anew() -> None:
            if not begun and any("/messages/" in path for path in paths):
                begun.append("anew")
                other.rebuild()
                other.catch_up()

        keeper.after = begin_anew
        with keeper.open() as cache:
            paths = cache._reader.service._session.get_adapter("http://").paths  # type: ignore[attr-defined]
            cache.catch_up()
    assert begun
    with closing(sqlite3.connect(keeper.path)) as database:
        assert database.execute("SELECT count(*) FROM fetched").fetchone() == (0,)
    keeper.after = lambda: None
    assert keeper.differences() == []


@pytest.mark.parametrize("column", ["cursor", "page"])
def test_what_the_server_does_not_know_any_more(world: World, tmp_path: Path, column: str) -> None:
    """A cursor or a page token of another time is answered 400 for ever: the copy is built anew."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    with closing(sqlite3.connect(keeper.path)) as database:
        stage = {"cursor": "complete", "page": "listing"}[column]
        database.execute(f"UPDATE copies SET {column} = 'of another time', stage = ?", (stage,))
        database.commit()
    keeper.catch_up()
    assert keeper.differences() == []


def test_fields_that_the_server_does_not_know(world: World, tmp_path: Path) -> None:
    """To begin anew does not help against a name that is wrong: it is told, and what the cache has stays."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    with keeper.open(fields=["nothing"]) as cache:
        with pytest.raises(ServiceError, match="fields must be names"):
            cache.catch_up()
        assert len(list(cache.messages())) == len(world.documents("messages"))


def test_a_mailbox_that_is_deleted(world: World, tmp_path: Path) -> None:
    """409, then 404, reach the application; what the cache has stays, and is replaced when the mailbox is back."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    known = len(world.documents("messages"))
    world.app.delete(ADA, 0)
    for code in (409, 404):
        with keeper.open() as cache:
            with pytest.raises(ServiceError) as caught:
                cache.catch_up()
            assert caught.value.code == code
            assert len(list(cache.messages())) == known
        world.work()
    world.ada.delete([next(iter(world.ada.truth()["messages"]))])
    world.clock.advance(1)
    world.connect()
    keeper.catch_up()
    assert keeper.differences() == []


class Again(Reader):
    """Gives deltas again that it gave before, or leaves one out."""

    def __init__(self, reader: Reader, change: Callable[[tuple[Delta, ...]], tuple[Delta, ...]]) -> None:
        super().__init__(reader.service, reader.mailbox)
        self.change = change

    def deltas(self, *args: Any, **kwargs: Any) -> Any:
        """Return another page than there is."""
        page = super().deltas(*args, **kwargs)
        return replace(page, deltas=self.change(page.deltas))


def test_a_delta_given_again_has_no_effect(world: World, tmp_path: Path) -> None:
    """Not above the last one applied it is passed by."""
    given: list[Delta] = []

    def again(deltas: tuple[Delta, ...]) -> tuple[Delta, ...]:
        given.extend(deltas)
        return tuple(each for each in deltas for _ in range(2)) + tuple(given[-4:])

    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    life = Life(world, Random(9), rare=False)
    with Cache(keeper.path, Again(keeper.reader(), again), applied=write_down) as cache:
        for _ in range(10):
            life.act()
            cache.catch_up()
            assert differences(world, cache) == []
    check_journal(keeper)


def test_a_delta_left_out_is_told(world: World, tmp_path: Path) -> None:
    """Nothing behind a hole is applied; a new copy helps."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    for _ in range(3):
        world.ada.deliver(mail("New"))
        world.notify()
    last = world.state().delta_seq

    def hole(deltas: tuple[Delta, ...]) -> tuple[Delta, ...]:
        return tuple(each for each in deltas if each.seq != last - 1)

    with Cache(keeper.path, Again(keeper.reader(), hole), applied=write_down) as cache:
        for _ in range(2):
            with pytest.raises(DeltaMissing, match=f"After delta {last - 2} came {last}"):
                cache.catch_up()
    assert keeper.journal() == [last - 2]
    with keeper.open() as cache:
        cache.rebuild()
    keeper.catch_up()
    assert keeper.differences() == []


def test_what_the_application_writes_comes_and_goes_with_the_delta(world: World, tmp_path: Path) -> None:
    """Where it fails, the delta is not applied either."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    new = world.ada.deliver(mail("New"))
    world.notify()

    def fail(database: sqlite3.Connection, delta: Delta) -> None:
        write_down(database, delta)
        raise ZeroDivisionError

    with Cache(keeper.path, keeper.reader(), applied=fail) as cache:
        with pytest.raises(ZeroDivisionError):
            cache.catch_up()
        assert cache.message(new) is None
    keeper.catch_up()
    assert keeper.journal() == [world.state().delta_seq]
    assert keeper.differences() == []


def test_two_who_keep_one_file(world: World, tmp_path: Path) -> None:
    """Whoever is overtaken at any request goes on from where the other is; each delta is applied once."""
    life = Life(world, Random(11), rare=False)
    for number in range(20):
        calls, other = count(), Keeper(world, tmp_path / f"{number}.sqlite")

        def overtake(calls: Iterator[int] = calls, number: int = number, other: Keeper = other) -> None:
            # What was answered is old by now.
            if next(calls) in (number, number + 3):
                for _ in range(4):
                    life.act()
                other.catch_up()

        keeper = Keeper(world, other.path, after=overtake)
        keeper.catch_up()
        life.act()
        keeper.catch_up()
        keeper.after = lambda: None
        keeper.catch_up()
        assert keeper.differences() == [], number
        check_journal(keeper)


def test_a_message_deleted_from_another_thread_stays(world: World, tmp_path: Path) -> None:
    """A delta that takes it from where it was once does not take it from where it is."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    message_id = next(iter(world.documents("messages")))
    world.ada.deliver(mail("New"))
    world.notify()
    taken = Change("messageDeleted", message_id, "another")

    def more(deltas: tuple[Delta, ...]) -> tuple[Delta, ...]:
        return tuple(replace(each, changes=(*each.changes, taken)) for each in deltas)

    with Cache(keeper.path, Again(keeper.reader(), more), applied=write_down) as cache:
        cache.catch_up()
        assert differences(world, cache) == []


def test_a_known_message_that_is_gone_when_it_is_fetched(world: World, tmp_path: Path) -> None:
    """Added elsewhere and deleted there, before the cache asks: the deletion names no thread in which it knows it."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    message_id = next(iter(world.documents("messages")))
    world.ada.delete([message_id])
    world.notify()
    moved = (Change("messageAdded", message_id, "another"), Change("messageDeleted", message_id, "another"))

    def other(deltas: tuple[Delta, ...]) -> tuple[Delta, ...]:
        return tuple(replace(each, changes=moved) for each in deltas)

    with Cache(keeper.path, Again(keeper.reader(), other), applied=write_down) as cache:
        cache.catch_up()
        assert differences(world, cache) == []


def test_following(world: World, tmp_path: Path) -> None:
    """Each delta is given after it is applied, also over a log that expires meanwhile."""
    life = Life(world, Random(13), rare=False)
    keeper = Keeper(world, tmp_path / "ada.sqlite", before=life.maybe)
    with keeper.open() as cache:
        life.left = 40
        deltas = cache.follow(stream=False)
        seqs = []
        for delta in islice(deltas, 10):
            seqs.append(delta.seq)
            assert keeper.journal()[-1] == delta.seq
        life.left = 0
        for _ in range(3):
            life.act()
        life.expire()
        life.left = 5
        next(deltas)
    life.left = 0
    keeper.catch_up()
    assert keeper.differences() == []
    assert seqs == list(range(seqs[0], seqs[0] + 10))


def test_a_log_that_always_expires_is_told(world: World, tmp_path: Path) -> None:
    """It is not listed for ever."""

    def always(_: tuple[Delta, ...]) -> tuple[Delta, ...]:
        raise CursorExpired(410, "OUT_OF_RANGE", "Gone.")

    keeper = Keeper(world, tmp_path / "ada.sqlite")
    with Cache(keeper.path, Again(keeper.reader(), always)) as cache, pytest.raises(CursorExpired):
        cache.catch_up()
    keeper.catch_up()
    assert keeper.differences() == []


def test_other_fields_make_it_anew(world: World, tmp_path: Path) -> None:
    """What the application asks for from now on every message has, also an old one."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    with keeper.open(fields=("headers.subject", "body")) as cache:
        cache.catch_up()
        messages = list(cache.messages())
        assert messages
        assert all(each.keys() == {*messages[0]} >= {"body", "headers"} for each in messages)
        assert messages[0]["body"]["text"].strip() == "Hi."
    keeper.catch_up()
    assert keeper.differences() == []


def test_a_file_of_another_mailbox(world: World, tmp_path: Path) -> None:
    """Nobody's mail gets into somebody else's cache."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    with pytest.raises(ValueError, match=r"The file is the cache of ada@example\.com"):
        Cache(keeper.path, Reader(Service("http://127.0.0.1:1"), "bob@example.com"))
    assert keeper.differences() == []


def test_a_file_of_another_version(world: World, tmp_path: Path) -> None:
    """A later version's file is not touched."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    with closing(sqlite3.connect(keeper.path)) as database:
        database.execute("PRAGMA user_version = 2")
    with pytest.raises(ValueError, match="another version, 2"):
        keeper.open()
    with closing(sqlite3.connect(keeper.path)) as database:
        assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)


def test_documents_survive_the_file(world: World, tmp_path: Path) -> None:
    """Anybody may read the file with SQLite: the view has JSON."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    keeper.catch_up()
    with closing(sqlite3.connect(keeper.path)) as database:
        query = "SELECT id, thread, labels, document ->> '$.headers.subject' FROM messages"
        rows = {row[0]: row[1:] for row in database.execute(query)}
    expected = {
        key: (document["threadId"], document["labelIds"], document["headers"]["subject"])
        for key, document in world.documents("messages").items()
    }
    assert {key: (thread, json.loads(labels), subject) for key, (thread, labels, subject) in rows.items()} == expected
