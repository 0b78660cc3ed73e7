"""Two at a time at one mailbox: what happens between two calls of one of them, in the order that hurts."""

import uuid

import pytest
from mailmirror import mailboxes
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.engine import Errand
from mailmirror.model import Lease, MailboxId, Mode, Policy, RunRequest

from tests.contract.worker import firestore_client
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail


def test_a_lease_taken_twice_in_the_same_moment_is_held_once(firestore_emulator: str) -> None:
    """Two turns of one process that both find the lease free, at the same time to the microsecond: one gets it.

    A worker whose answer was lost recognises its own lease by name and time; another's must not look the same.
    """

    class Contended(FirestoreStore):
        def lease(self, mailbox: MailboxId) -> Lease | None:
            found = super().lease(mailbox)
            if not holds:
                holds.append(None)
                holds[0] = engine._take(state, errand)
            return found

    holds: list[object] = []
    with firestore_client(firestore_emulator, f"test-{uuid.uuid4().hex[:12]}") as client:
        world = World(store=Contended(client))
        world.app.connect(ADA, None)
        engine, state, errand = world.app.engine, world.state(), Errand(ADA, world.clock.now())
        late = engine._take(state, errand)
    assert holds[0] is not None
    assert late is None


def test_a_turn_goes_on_from_the_level_that_the_turn_before_left() -> None:
    """Who reads the mailbox before another spends, and takes the lease after, does not spend the same units again."""
    world = World(units_per_minute=6_000)
    world.connect()
    world.clock.advance(60)
    spent, first = world.accounts.spent, world.worker("worker-1")

    def spend() -> None:
        world.ada.deliver(mail("First"))
        assert world.notify(app=first) == 204
        world.ada.deliver(mail("Second"))

    world.store = Meanwhile(world.sqlite, "mailbox", spend)
    assert world.notify(app=world.worker("worker-2")) == 204
    assert world.differences() == []
    # The bucket was full: 2 % of 6,000 units.
    quota = world.state().quota
    assert quota is not None
    assert quota.units <= 120 - (world.accounts.spent - spent)


def test_a_mailbox_that_is_connected_twice_at_once_has_both_wishes() -> None:
    """The one that comes second stores its policy all the same, and says what is stored."""
    world = World()
    wish = Policy(include_spam_trash=False)

    def connect(method: str, subject: str) -> None:
        world.accounts.before = None
        assert world.app.connect(ADA, None)[1]

    world.accounts.before = connect
    mailbox, created = world.app.connect(ADA, wish)
    assert not created
    assert mailbox.policy == wish
    assert world.state().policy == wish
    assert world.state().pending_request is not None


@pytest.mark.parametrize(("mine", "theirs"), [("full", "audit"), ("audit", "full"), ("full", "full")])
def test_runs_asked_for_at_once_are_one(mine: Mode, theirs: Mode) -> None:
    """Neither request is lost: both have the id of the run that will be, and it is a full one if one of them is."""
    world = World()
    world.connect()

    def ask() -> None:
        assert mailboxes.request_run(world.sqlite, world.clock, ADA, theirs, "theirs") == "theirs"

    store = Meanwhile(world.sqlite, "mailbox", ask)
    assert mailboxes.request_run(store, world.clock, ADA, mine, "mine") == "theirs"
    assert world.state().pending_request == RunRequest("theirs", "full", world.clock.now())


def test_a_run_asked_for_while_another_starts_is_a_run_of_its_own() -> None:
    """A full sync that would have joined a waiting audit does not vanish in it when that begins in the same moment."""
    world = World()
    world.connect()
    mailboxes.request_run(world.sqlite, world.clock, ADA, "audit", "audit")

    def work() -> None:
        world.outbox.publish(ADA, "sync")
        world.work()

    store = Meanwhile(world.sqlite, "mailbox", work)
    assert mailboxes.request_run(store, world.clock, ADA, "full", "full") == "full"
    assert world.state().pending_request == RunRequest("full", "full", world.clock.now())


def test_a_policy_stored_while_a_run_is_asked_for_gets_an_audit() -> None:
    """Another policy and another's request for a run, at once: the run comes after the policy, whoever asked for it."""
    world = World()
    world.connect()

    def ask() -> None:
        mailboxes.request_run(world.sqlite, world.clock, ADA, "full", "theirs")

    world.store = Meanwhile(world.sqlite, "mailbox", ask, number=2)
    world.worker("worker-2").connect(ADA, Policy(include_spam_trash=False))
    assert world.state().pending_request == RunRequest("theirs", "full", world.clock.now())
