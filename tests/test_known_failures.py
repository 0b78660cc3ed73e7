"""The failures that other mirrors of Gmail are known for, one by one and by name.

Knows: how each of them shows elsewhere, and what Mailmirror promises instead. Does not know: the details, which have
their tests beside each module; these go from a push to the mirror. What lives in the Gmail client is tried with the
real client, over HTTP, against a Gmail that refuses, fails and hangs up; the rest in one process. The promise is the
first of the design: nothing is missing while the account looks healthy.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from datetime import timedelta
from itertools import count
from typing import Any

import google.auth.exceptions
import pytest
from mailmirror import planner
from mailmirror.adapters.gmail.calls import FIRST_IN_FLIGHT
from mailmirror.model import Message
from mailmirror.parked import DEADLY

from tests.contract.gmail import TOPIC, Fake, Token
from tests.killing import Killed, KillingStore
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail

DAY = 86_400
FAR = 2**62


class OverHttp(World):
    """The same world with Gmail behind HTTP: the real client, and a server that has faults and counts calls."""

    def __init__(self, fake: Fake, step: timedelta = timedelta(seconds=480), **changes: Any) -> None:
        """Let Ada's mailbox be the server's; `changes` are settings of `GmailApiAccounts`."""
        super().__init__()
        self.fake = fake
        self.clock = fake.clock
        self.ada = fake.world.add(ADA)
        # The world of one process opens its mailboxes itself, and has nothing else to do with its accounts.
        self.accounts = fake.accounts(**{"units_per_minute": 6_000_000} | changes)  # type: ignore[assignment]
        self.app = self.worker("worker-1", step)

    def account(self) -> Mapping[str, Any]:
        """What Gmail counted for Ada's mailbox."""
        account: Mapping[str, Any] = self.fake.world.quota.account()["mailboxes"][ADA]
        return account


@pytest.fixture
def fake() -> Iterator[Fake]:
    """Gmail as a server."""
    running = Fake()
    yield running
    running.stop()


@pytest.fixture
def world() -> World:
    """A connected mailbox of five messages, in one process."""
    world = World()
    deliver(world, 5)
    world.connect()
    return world


def deliver(world: World, number: int) -> list[str]:
    """Let so much mail arrive, and nobody be told; return its ids."""
    return [world.ada.deliver(mail(f"Number {index}")) for index in range(number)]


# What is inside a batch


@pytest.mark.parametrize("live", [False, True], ids=["first sync", "live"])
def test_item_lost_inside_a_batch(fake: Fake, live: bool) -> None:
    """Whatever becomes of the single calls of a batch, each of its messages is mirrored or parked by name.

    Elsewhere: a batch answers 200 while calls inside it fail, the client library tries none of them again, and what
    did not come is not missed (taylorwilsdon/google_workspace_mcp#1009, googleapis/google-api-dotnet-client#1982).
    """
    world = OverHttp(fake)
    if live:
        world.connect()
    ids = deliver(world, 40)
    fake.faults("users.messages.get", "429", "500", "403", "503", "429:concurrent", "502")
    fake.faults("users.messages.get", {"id": ids[17], "status": 500, "times": -1})
    if live:
        assert world.notify() == 204
    else:
        world.connect()
    assert fake.world.faults.account()["users.messages.get"]["waiting"] == []
    assert world.documents("messages").keys() == set(ids) - {ids[17]}
    assert world.documents("parked").keys() == {ids[17]}
    fake.world.faults.clear()
    world.sweep()
    assert world.differences() == []


def test_batch_over_the_limit(fake: Fake) -> None:
    """However many messages are wanted at once, no batch holds more than 25 calls, and all of them come.

    Elsewhere: the client library lets 1,000 calls into a batch, and Gmail refuses one of more than 100 as a whole, or
    one of 100 for its calls at a time (mhasbini/gmail_analyzer#12, amd/gaia#2720).
    """
    fake.world.quota.concurrent = 25
    world = OverHttp(fake)
    ids = deliver(world, 250)
    world.connect()
    found = world.accounts.open(ADA, None).messages(ids, None)
    assert [message_id for message_id in ids if isinstance(found[message_id], Message)] == ids
    assert world.account()["totalRejected"] == 0
    assert world.differences() == []


def test_inner_429(fake: Fake) -> None:
    """A call that is refused inside a batch is made again, and fewer are under way at a time until none is refused.

    Elsewhere: it counts as success, or the same batch is sent again and again until the user is locked out.
    """
    world = OverHttp(fake)
    world.connect()
    ids = deliver(world, 100)
    fake.world.quota.concurrent = 3
    assert world.notify() == 204
    assert world.documents("messages").keys() == set(ids)
    assert world.differences() == []
    # Of each batch of the first wave all but 3, at least; then few, because a refusal halves what is under way, and it
    # grows little by little.
    assert FIRST_IN_FLIGHT - 8 * 3 <= world.account()["totalRejected"] < 2 * FIRST_IN_FLIGHT


def test_inner_429_that_names_a_time(fake: Fake) -> None:
    """Locked out until a time that Gmail names, the mailbox says so, calls nothing, and loses nothing.

    Elsewhere: tries from one minute on are used up before the door opens again after fifteen, and the mail that was
    waiting is given up (twentyhq/twenty#17850).
    """
    world = OverHttp(fake)
    world.connect()
    cursor = world.state().cursor
    deliver(world, 30)
    fake.faults("users.messages.get", "retry-after:900")
    assert world.notify() == 503
    assert (world.state().phase, world.state().cursor) == ("throttled", cursor)
    calls = world.account()["calls"]
    assert [world.notify() for _ in range(5)] == [204] * 5
    assert world.account()["calls"] == calls
    world.sweep()
    assert world.state().phase == "live"
    assert world.differences() == []


# History that is gone


def test_404_unhandled(fake: Fake) -> None:
    """History that Gmail does not keep any more is acknowledged, said, and mended by a run of its own.

    Elsewhere: the answer is the one for a message that is gone, nobody expects it of a list, and the mailbox stands
    still with an error from then on (LogicLabs-OU/OpenArchiver#443).
    """
    world = OverHttp(fake)
    deliver(world, 5)
    world.connect()
    deliver(world, 2)
    world.ada.expire_history()
    assert world.notify() == 204
    assert world.state().phase == "recovering"
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_404_handled_by_jumping(world: World) -> None:
    """What happened in the gap is found and told, although history does not tell it any more.

    Elsewhere: the cursor is set to where the notification or the profile is, and all that lies between is lost while
    everything looks well (elie222/inbox-zero#1174, kenn-io/msgvault#697).
    """
    before = world.state().cursor
    changed, deleted, *_ = sorted(world.documents("messages"))
    (added,) = deliver(world, 1)
    world.ada.modify([changed], ["STARRED"])
    world.ada.delete([deleted])
    world.ada.expire_history()
    assert world.notify() == 204
    # The cursor is ahead of the gap only together with the run that says where the gap begins.
    run = world.state().active_run
    assert run is not None
    assert run.anchor == before < world.state().cursor
    world.work()
    assert world.differences() == []
    repairs = [delta for delta in world.documents("deltas").values() if delta["origin"] == "repair"]
    assert {change["messageId"] for delta in repairs for change in delta["changes"]} == {added, changed, deleted}


def test_404_loop_with_the_same_dead_cursor(world: World) -> None:
    """A cursor that Gmail does not know any more is asked for once, however often history expires.

    Elsewhere: the full sync that follows the 404 leaves the old cursor, or never starts, and each notification asks for
    it again (xagent#704, relaticle#610, Wino#581).
    """
    dead: list[tuple[int, str]] = []

    def expire() -> None:
        deliver(world, 1)
        world.ada.expire_history()
        dead.append((len(world.accounts.calls), str(world.state().cursor)))

    def expire_again(method: str, subject: str) -> None:
        if method == "users.messages.list" and len(dead) < 3:
            expire()

    expire()
    world.accounts.before = expire_again
    for _ in range(5):
        assert world.notify() == 204
        world.work()
    assert len(dead) == 3
    for since, cursor in dead:
        assert world.accounts.calls[since:].count(("users.history.list", cursor)) == 1
    assert world.state().phase == "live"
    assert world.differences() == []


# The cursor


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
@pytest.mark.parametrize("number", range(11))
def test_cursor_before_success(world: World, number: int, after: bool) -> None:
    """Wherever a worker dies, the cursor it leaves is not above any message that is not mirrored.

    Elsewhere: the cursor is stored first, against double work, or last but in a write of its own; who dies in between
    loses what it had in hand (botpress/botpress#14809).
    """
    calls = count()
    store = KillingStore(world.sqlite, lambda name, after, dies=after: after == dies and next(calls) == number)
    deliver(world, 2 * planner.GROUP_FETCHES + 10)
    world.store = store
    with pytest.raises(Killed):
        world.notify(app=world.worker("doomed"))
    world.store = world.sqlite
    cursor = world.state().cursor
    applied = {i for i, message in world.ada.truth()["messages"].items() if message["historyId"] <= cursor}
    assert applied <= world.documents("messages").keys()
    world.sweep()
    assert world.differences() == []


def test_push_id_used_as_start(world: World) -> None:
    """History is read from where the mirror is, wherever a notification says that the mailbox is.

    Elsewhere: the notification's id is the start, after which there is nothing yet (googleworkspace/python-samples#200,
    corsairdev/corsair#450), or it is stored as the cursor, and one id from the far future hides all mail to come.
    """
    cursor = world.state().cursor
    deliver(world, 3)
    world.accounts.calls.clear()
    # Only the last of the three is announced.
    assert world.notify() == 204
    assert ("users.history.list", str(cursor)) in world.accounts.calls
    assert world.differences() == []
    assert world.notify(FAR) == 503
    assert world.state().cursor == world.head()
    deliver(world, 1)
    assert world.notify() == 204
    assert world.differences() == []
    starts = [int(start) for method, start in world.accounts.calls if method == "users.history.list"]
    assert starts == sorted(starts)
    assert max(starts) < world.head()


# Losses that nobody sees


def test_silent_selective_loss(fake: Fake) -> None:
    """Mail of every kind comes, whatever labels it has and however much happened since the last notification.

    Elsewhere: history is listed for INBOX, which leaves out what arrives without labels, or for messagesAdded alone
    (vhco-pro/postbode); or a gap of more than 3,000 ids is skipped as too large, though ids are no count.
    """
    world = OverHttp(fake)
    kinds: list[list[str]] = [["INBOX", "UNREAD"], [], ["SENT"], ["SPAM"], ["TRASH"], ["CATEGORY_PROMOTIONS"]]
    ids = [world.ada.deliver(mail(f"Of kind {kind}"), label_ids=kind) for kind in kinds]
    world.connect()
    assert world.differences() == []
    cursor = world.state().cursor
    for kind in kinds:
        world.ada.deliver(mail(f"Later of kind {kind}"), label_ids=kind)
    for _ in range(150):
        world.ada.modify(ids[:1], ["STARRED"], ["UNREAD"])
        world.ada.modify(ids[:1], ["UNREAD"], ["STARRED"])
    world.ada.modify(ids[1:3], ["IMPORTANT"])
    world.ada.delete(ids[3:4])
    assert world.head() - cursor > 3_000
    assert world.notify() == 204
    assert world.differences() == []


def test_silent_selective_loss_of_what_failed(fake: Fake) -> None:
    """A message that is left behind is counted on its mailbox, named with its reason, and brought when it can be.

    Elsewhere: the failure of one item is logged, the push is answered 200 and the cursor moves on, over and beyond it
    (elie222/inbox-zero, process-history.ts).
    """
    world = OverHttp(fake)
    world.connect()
    lost, *_ = deliver(world, 3)
    fake.faults("users.messages.get", {"id": lost, "status": 503, "times": -1})
    assert world.notify() == 204
    assert world.state().cursor == world.head()
    assert world.state().counts.parked == 1
    assert "503" in world.documents("parked")[lost]["reason"]
    world.app.trigger_sync(ADA, "audit", 50)
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.mirrored, coverage.parked) == (3, 2, 1)
    fake.world.faults.clear()
    world.sweep()
    assert world.differences() == []


# Pushes

# Every call of the store that one push makes which brings one new message.
CALLS = [
    ("mailbox", 1),
    ("acquire", 1),
    ("threads", 1),
    ("documents", 1),
    ("documents", 2),
    ("commit", 1),
    ("mailbox", 2),
]


def pushed_twice(world: World, call: str, number: int, seconds: float) -> list[int]:
    """Push, and right after one call of the store, so many seconds later, push the same to another worker."""
    deliver(world, 1)
    head, second, answers = world.head(), world.worker("worker-2"), list[int]()

    def again() -> None:
        world.clock.advance(seconds)
        answers.append(world.notify(head, second))

    world.store = Meanwhile(world.sqlite, call, again, number=number)
    answers.append(world.notify(head, world.worker("worker-3")))
    world.store = world.sqlite
    return answers


@pytest.mark.parametrize(("call", "number"), CALLS)
def test_concurrent_duplicate_pushes(world: World, call: str, number: int) -> None:
    """Two workers with the same push, wherever the second meets the first: one fetch, one delta, both acknowledged.

    Elsewhere: both list from the same cursor, everything is processed twice, and the slower one sets the cursor back
    (elie222/inbox-zero#1292, botpress/botpress#14809).
    """
    deltas, cursor = len(world.documents("deltas")), world.state().cursor
    world.accounts.calls.clear()
    assert pushed_twice(world, call, number, 0) == [204, 204]
    assert len(world.documents("deltas")) == deltas + 1
    assert world.accounts.made("users.messages.get") == 1
    assert cursor < world.state().cursor == world.head()
    assert world.differences() == []


@pytest.mark.parametrize(("call", "number"), CALLS[1:-2])
def test_concurrent_duplicate_pushes_beyond_the_lease(world: World, call: str, number: int) -> None:
    """When the first worker sleeps past its lease, the second brings the message, and what the first holds is void.

    Elsewhere: a lock that has expired is still believed by the one that took it, because no write asks for it.
    """
    deltas = len(world.documents("deltas"))
    assert pushed_twice(world, call, number, 121) == [204, 503]
    assert len(world.documents("deltas")) == deltas + 1
    assert world.differences() == []


def test_concurrent_duplicate_pushes_meet_at_every_call(world: World) -> None:
    """No call of a push is left out above."""
    made: Counter[str] = Counter()
    calls: list[tuple[str, int]] = []

    def note(name: str, *, after: bool) -> bool:
        if not after:
            made[name] += 1
            calls.append((name, made[name]))
        return False

    deliver(world, 1)
    world.store = KillingStore(world.sqlite, note)
    assert world.notify(app=world.worker("worker-2")) == 204
    assert calls == CALLS


def test_stale_push_refused_for_ever(world: World) -> None:
    """A push with an id that the mirror has passed, or is at, is acknowledged at once and moves nothing.

    Elsewhere: stale notifications are refused, and Pub/Sub brings them back for ever (openclaw/gogcli#271); or equal
    ones are dropped unseen, though history may still hold what they announced (openclaw/gogcli#1140).
    """
    before = world.state()
    world.accounts.calls.clear()
    assert [world.notify(stale) for stale in (1, before.cursor - 1)] == [204, 204]
    assert world.accounts.calls == []
    assert world.notify(before.cursor) == 204
    assert world.accounts.calls == [("users.history.list", str(before.cursor))]
    assert world.state().cursor == before.cursor


def test_stale_push_refused_while_gmail_lags(world: World) -> None:
    """A push that is ahead of Gmail's own history comes back until history has caught up, and no longer.

    Elsewhere: the empty answer counts as done, and the mail waits for the next notification (openclaw/gogcli#379).
    """
    world.ada.history_lag = timedelta(seconds=90)
    deliver(world, 1)
    announced = world.ada.truth()["historyId"]
    answers: list[int] = []
    while not answers or answers[-1] != 204:
        answers.append(world.notify(announced))
        world.clock.advance(30)
    assert answers == [503, 503, 503, 204]
    assert world.differences() == []


def test_stale_push_refused_for_ten_minutes(world: World) -> None:
    """A push with an id that never comes true is refused for ten minutes and then acknowledged; mail passes meanwhile.

    Elsewhere: one forged or broken notification is delivered until its retention ends, a week later.
    """
    answers = [world.notify(FAR)]
    while answers[-1] == 503 and len(answers) < 20:
        world.clock.advance(60)
        deliver(world, 1)
        assert world.notify() == 204
        assert world.differences() == []
        answers.append(world.notify(FAR))
    # Besides the minute in between, each push waits seven seconds for Gmail.
    assert answers == [503] * 9 + [204]
    assert world.state().cursor == world.head()


# The watch


def test_watch_lapse(world: World) -> None:
    """After a watch has lapsed unnoticed, the sweep brings what nobody announced and takes the watch again.

    Elsewhere: the renewal runs inside a process that was scaled to zero, the watch is gone after seven days, and with
    it every sync (elie222/inbox-zero#2980, xagent#1278).
    """
    heard: list[int] = []
    world.ada.on_notification = lambda notification: heard.append(notification.history_id)
    world.clock.advance(8 * DAY)
    deliver(world, 2)
    assert (world.ada.active_watch(), heard) == (None, [])
    world.sweep()
    assert world.differences() == []
    deliver(world, 1)
    assert world.notify(heard[-1]) == 204
    assert world.differences() == []


def test_watch_lapse_prevented(world: World) -> None:
    """The daily renewal keeps the watch for good, even if nothing of it gets through for four days in a row."""
    for day in range(30):
        world.clock.advance(DAY)
        world.app.renew_watches()
        if 10 <= day < 14:
            world.outbox.work.clear()
        world.work()
        assert world.ada.active_watch() is not None


def test_watch_lapse_mended_without_a_gap(world: World) -> None:
    """The history id that a new watch tells does not become the cursor: what came before the watch is mirrored.

    Elsewhere: each renewal stores its own history id, and what was not yet read is lost (openclaw/gogcli#930).
    """
    cursor = world.state().cursor
    deliver(world, 2)
    world.clock.advance(8 * DAY)
    world.accounts.calls.clear()
    world.app.renew_watches()
    world.work()
    assert world.state().watch.history_id > cursor
    assert ("users.history.list", str(cursor)) in world.accounts.calls
    assert world.differences() == []


def test_only_one_user_push_notification_client(fake: Fake) -> None:
    """A watch that another deployment took is taken back by the next renewal: one stop, one watch, and no mail lost.

    Elsewhere: every renewal fails with this sentence until somebody calls stop (elie222/inbox-zero#2487); who stops
    before each renewal, without need, has no watch in between.
    """
    world = OverHttp(fake)
    world.connect()
    thief = fake.accounts(topic="projects/mirror/topics/staging").open(ADA, None)
    thief.watch()
    stops = world.account()["calls"]["users.stop"]
    deliver(world, 1)
    for _ in range(3):
        world.clock.advance(DAY)
        world.app.renew_watches()
        world.work()
        active = world.ada.active_watch()
        assert active is not None
        assert active.topic == TOPIC
    assert world.account()["calls"]["users.stop"] == stops + 1
    assert world.state().watch.error is None
    assert world.differences() == []


# Access


@pytest.mark.parametrize("how", ["401", "invalid_grant"])
def test_dead_token(fake: Fake, how: str) -> None:
    """Without access each push is acknowledged unasked, the document says what to do, and nothing is lost meanwhile.

    Elsewhere: the token's failure is a 500, Pub/Sub brings each push back, and the storm goes on until somebody sees it
    (openclaw/gogcli#930); or the account is switched off for good.
    """
    token, opened = Token("good"), list[str]()

    def credentials(mailbox: str) -> Token:
        opened.append(mailbox)
        return token

    world = OverHttp(fake, credentials=credentials)
    world.connect()
    cursor = world.state().cursor
    deliver(world, 3)
    if how == "401":
        fake.world.revoke(world.ada)
    else:
        expired = google.auth.exceptions.RefreshError("invalid_grant: Token has been expired or revoked.", {})
        token.token, token.outcomes = None, [expired]
    opened.clear()
    assert [world.notify() for _ in range(20)] == [204] * 20
    assert opened == [ADA]
    state = world.state()
    assert (state.phase, state.cursor) == ("reauth_required", cursor)
    assert state.problem is not None
    assert {"401": "Give access again", "invalid_grant": "consent (again)"}[how] in state.problem.action
    fake.world.restore(world.ada)
    token.outcomes = ["new"]
    world.clock.advance(3_600)
    world.sweep()
    assert (world.state().phase, world.state().problem) == ("live", None)
    assert world.differences() == []


def test_dead_token_told_from_a_late_one(fake: Fake) -> None:
    """When only the way to a token is blocked, the push comes back and nobody is asked for consent again."""
    token = Token("good")
    world = OverHttp(fake, credentials=lambda _: token)
    world.connect()
    deliver(world, 1)
    token.token, token.outcomes = None, [google.auth.exceptions.TransportError("The token endpoint answers 503.")]
    assert world.notify() == 503
    assert world.state().phase == "live"
    token.outcomes = ["new"]
    assert world.notify() == 204
    assert world.differences() == []


# Large mailboxes


def test_large_mailbox_that_never_finishes(fake: Fake) -> None:
    """Many times larger than a step, in quota for five mails a second and killed now and then, a first sync finishes.

    Each message is fetched once, but for those in a dying worker's hands, and Gmail refuses not one call. Elsewhere:
    each timeout begins the listing anew, and a backfill that runs into 429s never gets to its end (amd/gaia#2720).
    """
    fake.world.quota.units_per_minute = 6_000
    world = OverHttp(fake, units_per_minute=6_000)
    ids = deliver(world, 2_100)
    calls, steps, deaths = count(1), 0, 0
    world.store = KillingStore(world.sqlite, lambda name, after: after and next(calls) % 131 == 0)
    world.app = world.worker("mortal", timedelta(seconds=10))
    world.app.connect(ADA, None)
    world.store = world.sqlite
    while world.state().phase != "live" and steps < 100:
        steps += 1
        try:
            world.work_once()
        except Killed:
            # With the worker its message is gone as well: the sweep after the lease has expired is all there is.
            deaths += 1
            world.clock.advance(121)
            world.app.sweep_mailboxes()
    assert world.differences() == []
    assert steps > 25
    assert deaths >= 4
    assert 0 <= world.account()["calls"]["users.messages.get"] - len(ids) <= 30 * deaths
    assert world.account()["totalRejected"] == 0


# Deletions


@pytest.mark.parametrize("number", [1, 450])
@pytest.mark.parametrize("told", [True, False], ids=["history", "no history"])
def test_deletes_never_reconciled(world: World, number: int, told: bool) -> None:
    """What was deleted leaves the mirror, be it one message or hundreds, and also when no history tells of it.

    Elsewhere: a full sync adds and updates only, and what was deleted in the gap stays for ever (kenn-io/msgvault#697).
    """
    deliver(world, 500)
    world.notify()
    doomed = sorted(world.documents("messages"))[:number]
    world.ada.delete(doomed)
    if not told:
        world.ada.expire_history()
    assert world.notify() == 204
    world.work()
    assert len(world.documents("messages")) == 505 - number
    assert world.differences() == []
    changes = [change for delta in world.documents("deltas").values() for change in delta["changes"]]
    assert sorted(change["messageId"] for change in changes if change["type"] == "messageDeleted") == doomed


def test_deletes_never_reconciled_during_a_run(world: World) -> None:
    """What is deleted while a full sync runs, before its own turn or after it, is not in the mirror afterwards.

    Elsewhere: what was listed before it was deleted comes back, or is asked for again and again.
    """
    deliver(world, 40)
    world.notify()
    turns = count()

    def delete(method: str, subject: str) -> None:
        turn = next(turns)
        if turn % 3 == 0:
            # The newest are fetched first: they have had their turn when it is still to come for the oldest.
            ids = sorted(world.ada.truth()["messages"])
            world.ada.delete([ids[-(turn % 2)]])

    world.accounts.before = delete
    world.app.trigger_sync(ADA, "full", 50)
    world.accounts.before = None
    assert len(world.ada.truth()["messages"]) < 35
    assert world.documents("parked") == {}
    assert world.notify() == 204
    assert world.differences() == []


# Poison


@pytest.mark.parametrize("fault", ["500", "timeout:30", "400:invalidArgument"])
def test_poison_message(fake: Fake, fault: str) -> None:
    """A message that never comes is parked; the mail before it, with it and after it arrives at its first push.

    Elsewhere: the cursor waits for it, and with it all mail to come; or it is given up, and nobody ever asks again.
    """
    world = OverHttp(fake)
    world.connect()
    _, poison, _ = deliver(world, 3)
    fake.faults("users.messages.get", {"id": poison, "status": fault, "times": -1})
    for mails in (3, 4):
        assert world.notify() == 204
        assert world.documents("parked").keys() == {poison}
        assert len(world.documents("messages")) == mails - 1
        deliver(world, 1)
    world.sweep()
    assert world.documents("parked")[poison]["attempts"] > 1
    fake.world.faults.clear()
    world.sweep()
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_poison_message_that_kills_its_worker(world: World) -> None:
    """A message that takes every worker with it is found out and parked, and the mail around it arrives.

    Elsewhere: the process dies before it can count anything, so that no number of attempts is ever reached.
    """
    before, poison, after = deliver(world, 3)

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed

    world.accounts.before = die
    deaths = 0
    while not world.documents("parked") and deaths < 10:
        world.app.sweep_mailboxes()
        world.outbox.work[:] = [(ADA, "sync")]
        try:
            world.work_once()
        except Killed:
            deaths += 1
            world.clock.advance(121)
    assert world.documents("parked")[poison]["reason"] == DEADLY
    world.accounts.before = None
    world.work()
    assert {before, after} <= world.documents("messages").keys()
    world.sweep()
    assert world.differences() == []
