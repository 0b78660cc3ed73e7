"""Reconcile: first sync, lost history, full sync and audit end with a mirror equal to the mailbox."""

import json
from datetime import timedelta

import pytest
from mailmirror import mailboxes, planner
from mailmirror.errors import GmailUnavailable
from mailmirror.model import Policy

from tests.killing import Killed, KillingStore
from tests.world import ADA, World, mail, push


def filled(messages: int = 30, *, policy: Policy | None = None, seed: int = 1) -> World:
    """A mailbox with messages, some of them in threads of several, not yet connected."""
    world = World(seed)
    for number in range(messages):
        thread = None
        if number % 3:
            thread = next(reversed(world.ada.truth()["messages"].values()))["threadId"]
        world.ada.deliver(mail(f"Number {number}"), thread_id=thread)
    if policy is not None:
        world.connect(policy)
    return world


def connected(messages: int = 30) -> World:
    """The same, connected and mirrored."""
    return filled(messages, policy=Policy())


def some(world: World, count: int) -> list[str]:
    """Some message ids."""
    return sorted(world.ada.truth()["messages"])[:count]


def origins(world: World) -> set[str]:
    """What the delta log says brought the changes."""
    return {delta["origin"] for delta in world.documents("deltas").values()}


def left_by_runs(world: World) -> int:
    """How many manifest and plan documents are in the store."""
    rows = world.sqlite._connection.execute("SELECT count(*) FROM documents WHERE collection LIKE '%/runs/%'")
    (count,) = rows.fetchone()
    return int(count)


def test_first_sync_mirrors_everything() -> None:
    """The first sync ends with an equal mirror, coverage that says so, and deltas marked as backfill."""
    world = connected()
    state = world.state()
    assert world.differences() == []
    assert state.phase == "live"
    assert state.coverage is not None
    assert (state.coverage.listed, state.coverage.mirrored, state.coverage.missing) == (30, 30, 0)
    assert origins(world) == {"backfill"}


def test_a_finished_run_leaves_only_its_report() -> None:
    """Manifest and plan are removed; the run document says what was done."""
    world = connected()
    (run,) = world.documents("runs").values()
    assert (run["mode"], run["stage"], run["messagesProcessed"], run["error"]) == ("first", "finished", 30, None)
    assert run["units"] > 0
    rows = world.sqlite._connection.execute("SELECT count(*) FROM documents WHERE collection LIKE '%/runs/%'")
    assert rows.fetchone() == (0,)


def test_an_empty_mailbox_is_live_at_once() -> None:
    """A mailbox without mail finishes its first sync."""
    world = World()
    world.connect()
    assert world.state().phase == "live"
    assert world.differences() == []


def test_threads_are_fetched_the_cheaper_way() -> None:
    """Threads of three or more messages take one threads.get, smaller ones a messages.get for each."""
    world = World()
    for _ in range(4):
        first = world.ada.deliver(mail("Long thread"))
        for _ in range(4):
            world.ada.deliver(mail("Long thread"), thread_id=first)
    pair = world.ada.deliver(mail("Pair"))
    world.ada.deliver(mail("Pair"), thread_id=pair)
    world.connect()
    assert world.accounts.made("users.threads.get") == 4
    assert world.accounts.made("users.messages.get") == 2
    assert world.differences() == []


def test_newest_threads_come_first() -> None:
    """The first delta of a first sync holds newer threads than the last."""
    world = World()
    ids = []
    for number in range(planner.GROUP_FETCHES + 20):
        ids.append(world.ada.deliver(mail(f"Number {number}")))
        world.clock.advance(60)
    world.connect()
    deltas = world.documents("deltas")
    first, last = deltas[min(deltas)]["changes"], deltas[max(deltas)]["changes"]
    assert min(ids.index(c["messageId"]) for c in first) > max(ids.index(c["messageId"]) for c in last)


def test_changes_during_the_first_sync_are_not_lost() -> None:
    """Mail that comes, changes and goes at every call of the first sync ends up as in the mailbox."""
    world = filled(60)
    turn = 0

    def change(method: str, subject: str) -> None:
        nonlocal turn
        turn += 1
        ids = sorted(world.ada.truth()["messages"])
        match turn % 5:
            case 0:
                world.ada.deliver(mail(f"During {turn}"))
            case 1:
                world.ada.modify(ids[turn % len(ids) :][:3], ["STARRED"], ["UNREAD"])
            case 2:
                world.ada.delete([ids[turn * 7 % len(ids)]])
            case 3:
                world.ada.trash(ids[turn * 5 % len(ids)])
            case _:
                world.ada.modify(ids[:2], [], ["STARRED"])

    world.accounts.before = change
    world.connect()
    world.accounts.before = None
    assert turn > 30
    world.notify()
    assert world.differences() == []


def test_expired_history_is_recovered_without_a_gap() -> None:
    """After a 404 everything that happened in the gap is in the mirror, and the cursor was never ahead of it."""
    world = connected(60)
    before = world.state().cursor
    first, second, third, fourth, *_ = some(world, 6)
    world.ada.deliver(mail("In the gap"))
    world.ada.modify([first], ["STARRED"], ["UNREAD"])
    world.ada.delete([second])
    world.ada.trash(third)
    world.ada.expire_history()
    world.ada.modify([fourth], ["IMPORTANT"])
    assert world.notify() == 204
    state = world.state()
    assert state.phase == "recovering"
    assert state.run is not None
    assert state.run.anchor == before
    world.work()
    assert world.state().phase == "live"
    assert world.differences() == []
    assert origins(world) == {"backfill", "repair"}


def test_recovery_costs_hundreds_of_units() -> None:
    """Recovering 3,000 messages of which five changed costs the listing and those five, not 3,000 fetches."""
    world = connected(3000)
    world.ada.modify(some(world, 5), ["STARRED"])
    world.ada.expire_history()
    world.notify()
    world.work()
    run = world.state().run
    assert run is not None
    assert run.units < 400
    assert world.differences() == []


def pairs(messages: int) -> World:
    """A mailbox of messages in threads of two, connected and mirrored."""
    world = World()
    for number in range(messages):
        thread = None if number % 2 == 0 else next(reversed(world.ada.truth()["messages"]))
        world.ada.deliver(mail(f"Number {number}"), thread_id=thread)
    world.connect()
    world.accounts.calls.clear()
    world.accounts.spent = 0
    return world


def test_recovery_fetches_no_message_that_did_not_change() -> None:
    """Of a thread that changed in the gap only labels are read, where that costs no more than its messages."""
    world = pairs(1200)
    world.ada.modify([i for n, i in enumerate(some(world, 1200)) if n % 300 == 0], ["STARRED"])
    world.ada.expire_history()
    world.notify()
    world.work()
    assert world.accounts.made("users.messages.get") == 0
    # Messages, drafts, threads, the four threads; history when it is lost, before planning and in between; profile and
    # labels.
    assert world.accounts.spent == 3 * 5 + 5 + 2 * 10 + 4 * 40 + 3 * 2 + 2
    assert world.differences() == []


def test_an_audit_pays_for_its_listings_and_little_else() -> None:
    """Beside the pages of messages, drafts and threads an audit without findings pays for two looks at history, before
    it begins and before it compares, and for the label list.
    """
    world = pairs(1200)
    world.app.trigger_sync(ADA, "audit", 50)
    assert world.accounts.spent == 3 * 5 + 5 + 2 * 10 + 2 * 2 + 1
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.mirrored, coverage.missing, coverage.extra) == (1200, 1200, 0, 0)


def damage(world: World, message_id: str) -> None:
    """Change what the mirror has of a message, so that no application of history can mend it."""
    world.sqlite._connection.execute(
        "UPDATE documents SET data = json_set(data, '$.body.text', 'damaged') WHERE collection = ? AND id = ?",
        (f"mailboxes/{ADA}/messages", message_id),
    )


def test_a_full_recovery_trusts_nothing() -> None:
    """Where recovery is `full`, a run after lost history fetches everything again, and lists no threads."""
    world = connected(20)
    world.app.engine.recovery = "full"
    damage(world, some(world, 1)[0])
    world.ada.modify(some(world, 3)[1:], ["STARRED"])
    world.ada.delete(some(world, 4)[3:])
    before = world.state().cursor
    world.ada.expire_history()
    world.accounts.calls.clear()
    world.notify()
    run = world.state().run
    assert run is not None
    assert (run.mode, run.anchor, world.state().phase) == ("full", before, "recovering")
    world.work()
    assert world.accounts.made("users.threads.list") == 0
    assert world.state().phase == "live"
    assert world.differences() == []


def test_a_full_recovery_in_the_middle_of_a_run_trusts_nothing() -> None:
    """History that is lost while another run is under way makes that run fetch everything again."""
    world = connected(20)
    world.app.engine.recovery = "full"
    damage(world, some(world, 1)[0])
    lost = False

    def lose(method: str, subject: str) -> None:
        nonlocal lost
        if method == "users.messages.list" and not lost:
            lost = True
            world.ada.expire_history()

    world.accounts.before = lose
    world.app.trigger_sync(ADA, "audit", 50)
    world.work()
    assert lost
    assert world.differences() == []


def test_a_run_that_started_again_leaves_only_its_report() -> None:
    """A run that had a plan already when history expired removes all that it left, and brings the labels in the end."""
    world = filled(40)
    created: list[str] = []

    def expire(method: str, subject: str) -> None:
        if method in ("users.messages.get", "users.threads.get") and not created:
            created.append(world.ada.create_label("Unused"))
            world.ada.expire_history()
            assert world.notify() == 204

    world.accounts.before = expire
    world.connect()
    run = world.state().run
    assert run is not None
    assert (run.stage, run.reason, run.removed) == ("finished", "Gmail's history had expired.", 0)
    assert run.first_plan > 0
    assert left_by_runs(world) == 0
    assert world.documents("labels")[created[0]]["name"] == "Unused"
    assert world.differences() == []


@pytest.mark.parametrize("times", [1, 2, 3])
def test_history_may_expire_again_and_again(times: int) -> None:
    """History that expires during the first sync and during its recovery only makes the run list again."""
    world = filled(40)
    listings = 0

    def expire(method: str, subject: str) -> None:
        nonlocal listings
        if method == "users.messages.list":
            listings += 1
            if listings % 2 == 0 and listings // 2 <= times:
                ids = some(world, 8)
                world.ada.modify(ids[listings : listings + 2], ["STARRED"], ["UNREAD"])
                world.ada.delete([ids[0]])
                world.ada.expire_history()
                world.notify()

    world.accounts.before = expire
    world.connect()
    world.accounts.before = None
    world.sweep()
    assert world.differences() == []
    assert world.state().phase == "live"


def test_live_changes_after_a_gap_do_not_hide_the_gap() -> None:
    """A label lost in the gap is found although a later live change has raised the thread's history id."""
    world = connected(10)
    message = some(world, 1)[0]
    world.ada.modify([message], [], ["INBOX"])
    world.ada.expire_history()
    changed = False

    def change(method: str, subject: str) -> None:
        nonlocal changed
        if method == "users.messages.list" and not changed:
            changed = True
            world.ada.modify([message], ["STARRED"])

    world.accounts.before = change
    world.notify()
    world.work()
    assert changed
    assert world.differences() == []


def test_a_message_trashed_in_the_gap_and_touched_since_is_looked_at() -> None:
    """With trash excluded, a message trashed in the gap leaves the mirror even if it is touched afterwards."""
    world = filled(10, policy=Policy(include_spam_trash=False))
    message = some(world, 1)[0]
    world.ada.trash(message)
    world.ada.expire_history()
    world.notify()
    world.ada.modify([message], ["IMPORTANT"])
    world.work()
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_a_message_that_comes_back_before_extras_are_deleted_stays() -> None:
    """An extra that is taken out of the trash after the comparison is not deleted."""
    world = filled(10, policy=Policy(include_spam_trash=False))
    message = some(world, 1)[0]
    world.ada.trash(message)
    other = some(world, 3)[2]
    world.ada.modify([other], ["STARRED"])
    world.ada.expire_history()
    back = False

    def untrash(method: str, subject: str) -> None:
        nonlocal back
        if method.endswith("s.get") and not back:
            back = True
            world.ada.untrash(message)
            world.store.raise_hint(ADA, world.head(), world.clock.now())

    world.accounts.before = untrash
    world.notify()
    world.work()
    assert back
    assert world.differences(lambda labels: "TRASH" not in labels) == []


def test_a_full_sync_fetches_everything_again() -> None:
    """`full` rewrites bodies that were damaged and leaves no delta for what an application could not see."""
    world = connected(20)
    message = some(world, 1)[0]
    path = f"mailboxes/{ADA}/messages"
    world.sqlite._connection.execute(
        "UPDATE documents SET data = json_set(data, '$.body.text', 'damaged') WHERE collection = ? AND id = ?",
        (path, message),
    )
    deltas = len(world.documents("deltas"))
    assert world.differences() != []
    done = world.app.trigger_sync(ADA, "full", 50)
    assert (done.status, done.messages_processed) == ("done", 20)
    assert world.differences() == []
    assert len(world.documents("deltas")) == deltas


def test_an_audit_finds_and_mends_what_is_missing_extra_and_stale() -> None:
    """An audit reports what the mirror lacked and had too much, mends it, and the next one finds nothing."""
    world = connected(20)
    lost, changed, *_ = some(world, 4)
    threads = world.documents("threads")
    database = world.sqlite._connection
    thread = next(t for t, d in threads.items() if lost in d["messages"])
    messages, listed = f"mailboxes/{ADA}/messages", f"mailboxes/{ADA}/threads"
    database.execute("DELETE FROM documents WHERE collection = ? AND id = ?", (messages, lost))
    database.execute(
        "UPDATE documents SET data = json_remove(data, ?) WHERE collection = ? AND id = ?",
        (f'$.messages."{lost}"', listed, thread),
    )
    ghost = world.ada.deliver(mail("Ghost"))
    world.notify()
    world.ada.delete([ghost])
    world.ada.modify([changed], ["STARRED"])
    # The mirror is made to believe that it has seen all of this.
    state = world.state()
    database.execute(
        "UPDATE documents SET data = json_set(data, '$.cursor', ?) WHERE collection = 'mailboxes' AND id = ?",
        (world.head(), ADA),
    )
    assert state.cursor < world.head()
    world.app.trigger_sync(ADA, "audit", 50)
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.missing, coverage.extra) == (1, 1)
    messages_now = world.documents("messages")
    assert messages_now.keys() == world.ada.truth()["messages"].keys()
    assert "STARRED" in messages_now[changed]["labelIds"]
    world.app.trigger_sync(ADA, "audit", 50)
    again = world.state().coverage
    assert again is not None
    assert (again.missing, again.extra) == (0, 0)


def test_what_was_parked_and_brought_before_the_run_ends_is_not_missing() -> None:
    """A message that failed early in a run, and came when it was tried again before its end, is no longer missing."""
    world = filled(400)
    world.app = world.worker("hasty", step=timedelta(0))
    # The plan is gone through from the newest on.
    failing = max(world.ada.truth()["messages"])

    def refuse(method: str, subject: str) -> None:
        if method in ("users.messages.get", "users.threads.get") and subject == failing:
            raise GmailUnavailable("Not now.")

    world.accounts.before = refuse
    world.app.connect(ADA, None)
    while not world.state().counts.parked:
        world.work_once()
    run = world.state().active_run
    assert run is not None
    assert run.stage == "fetching"
    world.accounts.before = None
    world.clock.advance(90)
    world.work()
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.mirrored, coverage.missing, coverage.parked) == (400, 400, 0, 0)
    assert world.differences() == []


def test_an_audit_of_a_healthy_mirror_fetches_nothing() -> None:
    """An audit while mail arrives fetches nothing but the new mail and finds nothing missing."""
    world = connected(40)
    arrived = 0

    def arrive(method: str, subject: str) -> None:
        nonlocal arrived
        if method in ("users.messages.list", "users.threads.list"):
            arrived += 1
            world.ada.deliver(mail(f"Arrived {arrived}"))

    world.accounts.before = arrive
    world.accounts.calls.clear()
    done = world.app.trigger_sync(ADA, "audit", 50)
    assert done.status == "done"
    assert world.accounts.made("users.messages.get") <= arrived
    assert world.accounts.made("users.threads.get") == 0
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.missing, coverage.extra) == (0, 0)


def test_pages_of_an_older_version_are_listed_again() -> None:
    """A run that an older version left behind, whose pages have another form, concludes nothing from them."""
    world = connected()
    mailboxes.request_run(world.store, world.clock, ADA, "audit", "older")
    hasty = world.worker("worker-2", step=timedelta(0))
    while (run := world.state().active_run) is None or run.stage == "listing":
        hasty.run_work(push({"mailbox": ADA, "task": "sync"}))
    older = json.dumps({"listing": "messages", "rows": "18c0ffee 18c0ffee"})
    world.sqlite._connection.execute("UPDATE documents SET data = ? WHERE collection LIKE '%/older/pages'", (older,))
    world.app.run_work(push({"mailbox": ADA, "task": "sync"}))
    assert world.state().active_run is None
    assert world.state().counts.messages == 30
    assert world.differences() == []


def test_extras_are_deleted_only_against_the_listing() -> None:
    """Mail that arrives after the signpost is not taken for extra because the listing has passed its place."""
    world = connected(20)
    arrived: list[str] = []

    def arrive(method: str, subject: str) -> None:
        if method == "users.threads.list" and not arrived:
            arrived.append(world.ada.deliver(mail("After the listing")))

    world.accounts.before = arrive
    world.app.trigger_sync(ADA, "audit", 50)
    world.notify()
    assert arrived[0] in world.documents("messages")
    assert world.differences() == []


def test_an_expired_page_token_starts_the_listing_again() -> None:
    """A refused page token repeats the listing; nothing is missing and nothing of the first attempt is left."""
    world = filled(1200)
    expired = False

    def expire(method: str, subject: str) -> None:
        nonlocal expired
        if method == "users.messages.list" and world.accounts.made(method) == 2 and not expired:
            expired = True
            world.ada.expire_page_tokens()

    world.accounts.before = expire
    world.connect()
    assert expired
    assert world.differences() == []
    rows = world.sqlite._connection.execute("SELECT count(*) FROM documents WHERE collection LIKE '%/runs/%'")
    assert rows.fetchone() == (0,)


def test_a_large_mailbox_finishes_within_its_quota_while_new_mail_passes() -> None:
    """At 6,000 units a minute a run goes on over many steps, and mail that arrives is mirrored before the run ends."""
    world = World(units_per_minute=6000, step=timedelta(seconds=60))
    for number in range(900):
        world.ada.deliver(mail(f"Number {number}"))
    world.app.connect(ADA, None)
    world.work_once()
    assert world.state().phase == "backfilling"
    new = world.ada.deliver(mail("New"))
    world.notify()
    assert new in world.documents("messages")
    assert world.state().phase == "backfilling"
    world.work()
    assert world.differences() == []
    run = world.state().run
    assert run is not None
    assert run.rejected == 0


def test_a_thread_that_cannot_be_read_whole_is_read_message_by_message() -> None:
    """A failing threads.get is replaced by messages.get for each message, and only what fails there is parked."""
    world = World()
    first = world.ada.deliver(mail("Thread"))
    bad = [world.ada.deliver(mail("Thread"), thread_id=first) for _ in range(4)][-1]

    def fail(method: str, subject: str) -> None:
        if method == "users.threads.get" or (method == "users.messages.get" and subject == bad):
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.connect()
    assert len(world.documents("messages")) == 4
    assert world.documents("parked")[bad]["origin"] == "backfill"
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.missing, coverage.parked) == (1, 1)
    world.accounts.before = None
    world.sweep()
    assert world.differences() == []


def test_a_changed_policy_is_followed() -> None:
    """Another policy is stored and an audit makes the mirror follow it, both ways."""
    world = connected(6)
    world.ada.trash(some(world, 1)[0])
    world.ada.save_draft(mail("Draft"))
    world.notify()
    world.app.connect(ADA, Policy(include_spam_trash=False, drafts=True))
    world.work()
    assert world.differences(lambda labels: "TRASH" not in labels) == []
    world.app.connect(ADA, Policy())
    world.work()
    assert world.differences() == []


def test_gmail_moving_messages_between_threads_is_followed_by_an_audit() -> None:
    """Two threads that Gmail merges are one thread in the mirror after an audit."""
    world = connected(12)
    threads = sorted(world.documents("threads"))
    world.ada.merge_threads(threads[0], threads[1])
    world.notify()
    world.app.trigger_sync(ADA, "audit", 50)
    assert world.differences() == []


def test_a_message_that_gmail_moves_during_a_run_does_not_hold_it_up() -> None:
    """A thread that turns out to have a message which the mirror has elsewhere is fetched again in the same step."""
    world = World()
    moved = world.ada.deliver(mail("Old"))
    for number in range(60):
        world.ada.deliver(mail(f"Number {number}"))
    newest = world.ada.deliver(mail("Newest"))
    for _ in range(3):
        world.ada.deliver(mail("Newest"), thread_id=newest)
    world.connect()
    # History keeps quiet about the move, so that no catch up between the steps can help.
    world.clock.advance(3600)
    world.ada.history_lag = timedelta(hours=1)
    merged = False

    def merge(method: str, subject: str) -> None:
        nonlocal merged
        if method == "users.threads.get":
            world.clock.advance(5)
            if not merged:
                merged = True
                world.ada.merge_threads(newest, moved)

    world.accounts.before = merge
    hasty = world.worker("worker-2", step=timedelta(seconds=1))
    hasty.trigger_sync(ADA, "full", 1)
    world.work(hasty)
    assert merged
    assert world.state().active_run is None
    assert world.documents("messages")[moved]["threadId"] == newest
    assert world.differences() == []


def test_a_listed_message_that_is_only_late_is_not_forgotten() -> None:
    """A message that the listing names and messages.get does not find yet is parked and brought later."""
    world = World()
    late = world.ada.deliver(mail("Late"))
    world.ada.get_lag = timedelta(seconds=30)
    world.connect()
    assert world.documents("parked").keys() == {late}
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences() == []


def test_a_message_deleted_during_a_long_run_is_not_tried_again() -> None:
    """What is not found long after it was listed is gone: it is neither parked nor missed."""
    world = filled(5)
    gone = some(world, 1)[0]

    def delete(method: str, subject: str) -> None:
        if method == "users.messages.get" and gone in world.ada.truth()["messages"]:
            world.clock.advance(11 * 60)
            world.ada.delete([gone])

    world.accounts.before = delete
    world.connect()
    assert world.documents("parked") == {}
    world.notify()
    assert world.differences() == []


def test_a_message_deleted_right_after_the_listing_is_not_tried_again() -> None:
    """A listed message that is not found is settled at once when history tells that it was deleted."""
    world = filled(5)
    gone = some(world, 1)[0]

    def delete(method: str, subject: str) -> None:
        if method == "users.messages.get" and gone in world.ada.truth()["messages"]:
            world.ada.delete([gone])

    world.accounts.before = delete
    world.connect()
    assert gone not in world.ada.truth()["messages"]
    assert world.documents("parked") == {}
    world.notify()
    assert world.differences() == []


def test_a_slice_of_several_commits_is_resumed_within() -> None:
    """A worker killed between the commits of one slice leaves the checkpoint before it, so that nothing is left out."""
    world = World()
    for number in range(40):
        world.ada.deliver(mail(f"Number {number}", text="x" * 150_000))
    brought = 0

    def when(name: str, *, after: bool) -> bool:
        nonlocal brought
        brought += name == "commit" and after and bool(world.documents("messages"))
        return brought == 1

    world.store = KillingStore(world.sqlite, when)
    doomed = world.worker("doomed")
    world.store = world.sqlite
    doomed.connect(ADA, None)
    with pytest.raises(Killed):
        world.work(doomed)
    assert 0 < len(world.documents("messages")) < 40
    world.outbox.publish(ADA, "sync")
    world.clock.advance(121)
    world.work()
    assert world.differences() == []


def test_mail_deleted_during_an_audit_is_no_finding() -> None:
    """What is deleted between signpost and listing was not too much in the mirror, and an audit does not say so."""
    world = connected(20)
    deleted = False

    def delete(method: str, subject: str) -> None:
        nonlocal deleted
        if method == "users.messages.list" and not deleted:
            deleted = True
            world.ada.delete(some(world, 2))

    world.accounts.before = delete
    world.app.trigger_sync(ADA, "audit", 50)
    coverage = world.state().coverage
    assert deleted
    assert coverage is not None
    assert (coverage.missing, coverage.extra) == (0, 0)
    assert world.differences() == []


def test_mail_that_history_does_not_show_yet_is_no_finding() -> None:
    """A message that an audit's listing has before history tells of it was not missing from the mirror."""
    world = connected(5)
    world.ada.history_lag = timedelta(seconds=30)
    world.ada.deliver(mail("Listed before history tells"))
    world.app.trigger_sync(ADA, "audit", 50)
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.missing) == (6, 0)
    assert world.differences() == []


def test_many_extras_are_deleted_in_slices() -> None:
    """Hundreds of messages deleted in the gap leave the mirror in several commits; a death between them is harmless."""
    world = connected(400)
    world.ada.delete(some(world, 330))
    world.ada.expire_history()
    world.notify()

    def when(name: str, *, after: bool) -> bool:
        return name == "commit" and after and 100 < len(world.documents("messages")) < 300

    world.store = KillingStore(world.sqlite, when)
    doomed = world.worker("doomed")
    world.store = world.sqlite
    with pytest.raises(Killed):
        world.work(doomed)
    world.sweep()
    assert world.differences() == []
    run = world.state().run
    assert run is not None
    assert run.removed == 330


def test_a_message_that_moves_between_the_threads_of_a_slice_keeps_its_body() -> None:
    """Of two copies that one slice fetches, the older in the trash, the newer counts: its large body stays readable."""
    world = World()
    old, new = world.ada.deliver(mail("Old")), world.ada.deliver(mail("New"))
    for _ in range(3):
        world.ada.deliver(mail("Old"), thread_id=old)
        world.ada.deliver(mail("New"), thread_id=new)
    large = world.ada.deliver(mail("Long", text="All work and no play. " * 20_000), thread_id=old)
    world.connect(Policy(include_spam_trash=False))
    fetched: list[str] = []

    def meanwhile(method: str, subject: str) -> None:
        if method == "users.threads.get":
            fetched.append(subject)
            if len(fetched) == 1:
                world.ada.trash(large)
            else:
                world.ada.untrash(large)
                world.ada.merge_threads(new, old)

    world.accounts.before = meanwhile
    world.app.trigger_sync(ADA, "full", 50)
    world.accounts.before = None
    world.sweep()
    assert sorted(fetched) == sorted([old, new])
    assert world.differences() == []


def deaths(world: World, poison: str) -> int:
    """Let a message kill whoever asks for it until the run under way ends; return how many died."""

    def die(method: str, subject: str) -> None:
        truth = world.ada.truth()["messages"]
        if subject == poison or (method == "users.threads.get" and subject == truth[poison]["threadId"]):
            raise Killed

    world.accounts.before = die
    killed = 0
    while world.state().active_run is not None and killed < 20:
        try:
            world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
        except Killed:
            killed += 1
            world.clock.advance(121)
    return killed


def test_only_the_message_of_a_thread_that_kills_is_parked() -> None:
    """A full sync finds the one message among those of its thread that kills its workers, and so does the next."""
    world = World()
    first = world.ada.deliver(mail("Thread"))
    poison = [world.ada.deliver(mail("Thread"), thread_id=first) for _ in range(5)][2]
    world.connect()
    # Three times unnoticed, twice in hand; in the second run a retry that becomes due takes the place of one in hand.
    for killed in (5, 6):
        world.app.trigger_sync(ADA, "full", 0)
        assert deaths(world, poison) == killed
        assert world.documents("parked").keys() == {poison}
        assert (world.state().phase, world.state().suspect) == ("live", {})


def test_an_extra_that_came_back_and_kills_is_parked() -> None:
    """A run gets over an extra that kills whoever looks whether it is to stay."""
    world = filled(5, policy=Policy(include_spam_trash=False))
    poison = some(world, 3)[2]
    world.ada.trash(poison)
    world.ada.expire_history()
    world.notify()
    hasty = world.worker("worker-2", step=timedelta(0))
    while (run := world.state().active_run) is not None and run.stage != "deleting":
        hasty.push(hasty.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert run is not None
    world.ada.untrash(poison)
    # Three times unnoticed, twice in hand.
    assert deaths(world, poison) == 5
    assert world.documents("parked").keys() == {poison}
    assert world.state().phase == "live"


def test_retries_do_not_hide_the_message_that_kills() -> None:
    """What is counted against a parked message while a run has it in hand stays when others are due before it."""
    world = connected(3)
    unreadable = [world.ada.deliver(mail("Poison"))]
    poison, killed = unreadable[0], 0

    def fail(method: str, subject: str) -> None:
        if subject in unreadable:
            raise GmailUnavailable("500")

    def die(method: str, subject: str) -> None:
        if subject == poison:
            raise Killed
        fail(method, subject)

    world.accounts.before = fail
    world.notify()
    for _ in range(3):
        world.sweep()
    # From now on its retry is an hour away.
    world.accounts.before = die
    world.app.trigger_sync(ADA, "full", 0)
    while world.state().active_run is not None and killed < 20:
        try:
            world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
        except Killed:
            killed += 1
            world.clock.advance(121)
            unreadable.append(world.ada.deliver(mail("Unreadable")))
            world.notify()
    # Three times unnoticed, twice in hand.
    assert killed == 5
    assert world.documents("parked")[poison]["deadly"]


def test_a_run_in_careful_hands_passes_what_the_policy_does_not_want() -> None:
    """While workers keep dying, a message of a thread that is excluded by now does not stop the run."""
    world = World()
    first = world.ada.deliver(mail("First"))
    world.clock.advance(1)
    second = world.ada.deliver(mail("Second"), thread_id=first)
    world.app.connect(ADA, Policy(include_spam_trash=False))

    def die(method: str, subject: str) -> None:
        if method == "users.messages.get":
            raise Killed

    world.accounts.before = die
    for _ in range(3):
        with pytest.raises(Killed):
            world.work_once()
        world.outbox.publish(ADA, "sync")
        world.clock.advance(121)
    world.ada.trash(second)
    world.accounts.before = None
    world.work(limit=5)
    assert world.documents("messages").keys() == {first}
    assert (world.state().phase, world.state().counts.parked, world.state().takeovers) == ("live", 0, 0)
