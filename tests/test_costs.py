"""What a notification costs, counted on Google's Firestore emulator below the store and in Gmail's quota units."""

import uuid
from collections.abc import Iterator

import pytest
from mailmirror.adapters.firestore import FirestoreStore

from tests.contract.counting import CountingFirestore
from tests.contract.worker import firestore_client
from tests.world import World, mail, push


class Priced:
    """A connected mailbox on Firestore, and what has been paid since `start`."""

    def __init__(self, world: World, counting: CountingFirestore) -> None:
        self.world = world
        self._counting = counting

    def start(self) -> None:
        """Forget what was paid so far."""
        self._counting.reset()
        self.world.accounts.spent = 0
        self.world.accounts.calls.clear()

    @property
    def paid(self) -> tuple[int, int, int]:
        """Firestore reads, Firestore writes and quota units."""
        return self._counting.reads, self._counting.writes, self.world.accounts.spent


@pytest.fixture
def priced(firestore_emulator: str) -> Iterator[Priced]:
    """A connected mailbox of three messages."""
    with firestore_client(firestore_emulator, f"cost-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=FirestoreStore(client))
        for number in range(3):
            world.ada.deliver(mail(f"Old {number}"))
        world.connect()
        yield Priced(world, CountingFirestore(client))


def test_a_new_message(priced: Priced) -> None:
    """One notification with one new message takes at most 4 reads, 6 writes and 22 units."""
    world = priced.world
    world.ada.deliver(mail("New"))
    priced.start()
    assert world.notify() == 204
    assert priced.paid == (4, 6, 22)
    assert world.state().counts.messages == 4


def test_a_new_message_in_a_known_thread(priced: Priced) -> None:
    """A reply costs no more than a message of its own thread."""
    world = priced.world
    world.ada.deliver(mail("Reply"), thread_id=min(world.ada.truth()["messages"]))
    priced.start()
    assert world.notify() == 204
    assert priced.paid == (4, 6, 22)


def test_a_stale_notification(priced: Priced) -> None:
    """A notification below the cursor takes 1 read, no write and no unit."""
    priced.start()
    assert priced.world.notify(priced.world.state().cursor - 1) == 204
    reads, writes, units = priced.paid
    # One of the reads is this test's own look at the cursor.
    assert (reads - 1, writes, units) == (1, 0, 0)


def test_a_duplicate_notification(priced: Priced) -> None:
    """A notification equal to the cursor still lists, for at most 3 reads, 2 writes and 2 units."""
    head = priced.world.head()
    priced.start()
    assert priced.world.notify(head) == 204
    assert priced.paid == (3, 2, 2)


def test_a_notification_for_an_unknown_mailbox(priced: Priced) -> None:
    """A mailbox nobody connected costs the read that finds that out."""
    priced.start()
    body = push({"emailAddress": "nobody@example.com", "historyId": 1})
    assert priced.world.app.push(priced.world.app.sync_history, body) == 204
    assert priced.paid == (1, 0, 0)


def test_a_thousand_label_toggles(priced: Priced) -> None:
    """1,000 label toggles in one catch-up take at most 4 history pages and not one messages.get."""
    world = priced.world
    message = min(world.ada.truth()["messages"])
    for number in range(1000):
        world.ada.modify([message], [] if number % 2 else ["STARRED"], ["STARRED"] if number % 2 else [])
    priced.start()
    assert world.notify() == 204
    assert world.accounts.made("users.history.list") <= 4
    assert world.accounts.made("users.messages.get") == 0
    _, writes, _ = priced.paid
    assert writes <= 12


def test_a_thousand_toggles_of_as_many_messages(priced: Priced) -> None:
    """1,000 label changes on 1,000 messages take at most 4 history pages and not one messages.get."""
    world = priced.world
    ids = [world.ada.deliver(mail(f"Number {number}")) for number in range(1000)]
    world.notify()
    world.work()
    world.ada.modify(ids, ["STARRED"])
    priced.start()
    assert world.notify() == 204
    assert world.accounts.made("users.history.list") <= 4
    assert world.accounts.made("users.messages.get") == 0
    assert world.state().cursor == world.head()
