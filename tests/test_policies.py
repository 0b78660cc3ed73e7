"""Policies: a connected mailbox follows another policy, at the price of the difference and of nothing else."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror import planner
from mailmirror.errors import GmailUnavailable
from mailmirror.model import Policy, Run

from tests.clock import VirtualClock
from tests.killing import Killed, KillingStore, at_call
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail, push

ALL = Policy()
STARTED = VirtualClock().now()
LARGE = "All work and no play. " * 20_000
FETCHES = ("users.messages.get", "users.threads.get")


def finished(world: World) -> Run:
    """The run that ended last."""
    run = world.state().run
    assert run is not None
    assert run.stage == "finished"
    return run


def fetched(world: World) -> list[str]:
    """The messages and threads asked for since the calls were cleared."""
    return [subject for method, subject in world.accounts.calls if method in FETCHES]


def follow(world: World, policy: Policy) -> list[str]:
    """Change the policy, let the mirror follow it, and return what was asked for."""
    world.accounts.calls.clear()
    world.app.connect(ADA, policy)
    world.work()
    assert world.differences(policy=policy) == []
    assert world.orphans() == []
    assert finished(world).mode == "policy"
    return fetched(world)


def since(world: World, message_id: str) -> datetime:
    """The time at which Gmail accepted a message."""
    date = world.ada.truth()["messages"][message_id]["internalDate"]
    return datetime.fromtimestamp(date / 1000, tz=world.clock.now().tzinfo)


@pytest.fixture
def world() -> World:
    """A connected mailbox: threads of one, two and four messages, a day between any two messages, some labelled,
    starred, trashed, drafts or large.
    """
    world = World()
    work, play = world.ada.create_label("Work"), world.ada.create_label("Play")
    for number in range(6):
        labels = ["INBOX", work] if number % 2 else ["INBOX", play]
        first = world.ada.deliver(mail(f"Number {number}"), label_ids=labels)
        for reply in range((0, 1, 3)[number % 3]):
            world.clock.advance(24 * 3600)
            world.ada.deliver(
                mail(f"Number {number}", text=LARGE if number == 5 and reply == 2 else "Hi."),
                thread_id=first,
                label_ids=[labels[reply % 2], "UNREAD"],
            )
        world.clock.advance(24 * 3600)
    ids = sorted(world.ada.truth()["messages"])
    world.ada.trash(ids[3])
    world.ada.save_draft(mail("Draft"))
    world.connect(ALL)
    assert world.differences(policy=ALL) == []
    return world


def ids_with(world: World, label: str) -> set[str]:
    """The messages that carry a label."""
    return {i for i, m in world.ada.truth()["messages"].items() if label in m["labelIds"]}


def label_named(world: World, name: str) -> str:
    """A label's id."""
    names: dict[str, str] = {label["name"]: i for i, label in world.ada.truth()["labels"].items()}
    return names[name]


def narrowed(world: World, name: str) -> Policy:
    """One policy for each thing that a policy can leave out."""
    messages = world.ada.truth()["messages"]
    middle = sorted(messages, key=lambda i: messages[i]["internalDate"])[len(messages) // 2]
    return {
        "label": replace(ALL, label_ids=(label_named(world, "Work"),)),
        "labels": replace(ALL, label_ids=(label_named(world, "Work"), "UNREAD")),
        "excluded": replace(ALL, exclude_label_ids=(label_named(world, "Play"),)),
        "both": replace(ALL, label_ids=("INBOX",), exclude_label_ids=("UNREAD", label_named(world, "Play"))),
        "date": replace(ALL, since=since(world, middle)),
        "days": replace(ALL, newest_days=5),
        "date and label": replace(ALL, since=since(world, middle), label_ids=("UNREAD",)),
        "part of a second": replace(ALL, since=since(world, middle) + timedelta(milliseconds=1)),
        "trash": replace(ALL, include_spam_trash=False),
        "nothing left": replace(ALL, label_ids=("STARRED",)),
        "a label that is not there": replace(ALL, label_ids=("Label_99",)),
        "trash alone, without trash": replace(ALL, label_ids=("TRASH",), include_spam_trash=False),
    }[name]


NARROWED = (
    "label",
    "labels",
    "excluded",
    "both",
    "date",
    "days",
    "date and label",
    "part of a second",
    "trash",
    "nothing left",
    "a label that is not there",
    "trash alone, without trash",
)


@pytest.mark.parametrize("name", NARROWED)
def test_narrowing_removes_the_difference_and_widening_brings_it_back(world: World, name: str) -> None:
    """Each field, narrowed, removes exactly what it leaves out without asking for a message; widened again, exactly
    that is fetched, as backfill.
    """
    policy = narrowed(world, name)
    before, deltas = set(world.documents("messages")), len(world.documents("deltas"))
    assert follow(world, policy) == []
    left = set(world.documents("messages"))
    assert finished(world).removed == len(before - left) > 0
    assert follow(world, ALL) != []
    assert finished(world).messages_processed >= len(before - left)
    assert finished(world).threads_processed == len(
        {world.ada.truth()["messages"][i]["threadId"] for i in before - left}
    )
    new = [delta for seq, delta in sorted(world.documents("deltas").items())][deltas:]
    assert {delta["origin"] for delta in new} == {"backfill"}
    changed = [change["messageId"] for delta in new for change in delta["changes"]]
    assert sorted(changed) == sorted([*(before - left), *(before - left)])


def test_widening_fetches_only_the_difference(world: World) -> None:
    """Another label besides the one before costs one fetch for each message that it alone brings."""
    work, play = label_named(world, "Work"), label_named(world, "Play")
    follow(world, Policy(label_ids=(work,)))
    asked = follow(world, Policy(label_ids=(play, work)))
    assert sorted(asked) == sorted(ids_with(world, play) - ids_with(world, work))


def test_a_search_that_shows_too_much_changes_no_coverage(world: World) -> None:
    """Gmail's search for a date knows whole seconds: what is a little too old is looked at and counted nowhere."""
    policy = narrowed(world, "part of a second")
    follow(world, policy)
    world.accounts.calls.clear()
    world.app.trigger_sync(ADA, "audit", 50)
    coverage = world.state().coverage
    assert coverage is not None
    assert len(fetched(world)) == 1
    assert coverage.listed == coverage.mirrored == len(world.documents("messages"))
    assert (coverage.missing, coverage.extra) == (0, 0)


def test_drafts_come_and_go(world: World) -> None:
    """With drafts wanted each of them is fetched, and without them all are removed, for no call at all."""
    drafts = ids_with(world, "DRAFT")
    assert follow(world, replace(ALL, drafts=True)) == sorted(drafts)
    assert follow(world, ALL) == []
    assert finished(world).removed == len(drafts)


def test_bodies_go_and_come_back(world: World) -> None:
    """Without bodies all of them are taken away, objects and attachments too, for no call of Gmail and no delta; with
    bodies again they are fetched, and no application is told of a change.
    """
    attached = world.ada.deliver(
        b"From: a@example.com\r\nSubject: Attached\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
        b"--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\n"
        b"Notes.\r\n--x--\r\n"
    )
    world.notify()
    deltas, count = len(world.documents("deltas")), len(world.documents("messages"))
    assert len(world.blobs.objects) == 1
    assert len(world.documents("messages")[attached]["attachments"]) == 1
    assert follow(world, replace(ALL, bodies=False)) == []
    messages = world.documents("messages")
    assert world.blobs.objects == {}
    assert {m["body"]["stored"] for m in messages.values()} == {"none"}
    assert [m for m in messages.values() if m["attachments"] or m["body"]["text"] or m["body"]["uri"]] == []
    assert {m["snippet"] for m in messages.values()} != {""}
    # The cheaper way here as anywhere.
    assert len(follow(world, ALL)) < count
    assert {m["body"]["stored"] for m in world.documents("messages").values()} == {"inline", "storage"}
    assert len(world.documents("messages")[attached]["attachments"]) == 1
    assert len(world.documents("deltas")) == deltas
    assert world.state().counts.messages == count


def test_without_bodies_none_is_stored(world: World) -> None:
    """What is fetched without bodies, live or by a run, has none; a later change of labels brings none."""
    policy = replace(ALL, bodies=False)
    follow(world, policy)
    new = world.ada.deliver(mail("New", text=LARGE))
    world.notify()
    world.ada.modify([new], ["STARRED"])
    world.notify()
    world.app.trigger_sync(ADA, "full", 50)
    assert world.differences(policy=policy) == []
    assert world.blobs.objects == {}


def test_bodies_of_messages_that_are_not_wanted_are_not_stored(world: World) -> None:
    """A large message that comes along with its thread, or turns out to be too old, leaves no object behind."""
    policy = Policy(include_spam_trash=False, since=world.clock.now())
    follow(world, policy)
    world.ada.deliver(mail("Imported", text=LARGE), internal_date=world.clock.now() - timedelta(days=300))
    first = world.ada.deliver(mail("Thread", text=LARGE))
    world.ada.trash(first)
    for _ in range(4):
        world.ada.deliver(mail("Thread"), thread_id=first)
    world.ada.expire_history()
    world.notify()
    world.work()
    assert world.differences(policy=policy) == []
    assert world.accounts.made("users.threads.get") == 1
    assert world.blobs.objects == {}


def test_a_changed_policy_lists_no_threads(world: World) -> None:
    """Following a policy costs listings of messages, and nothing else where nothing changes."""
    follow(world, replace(ALL, exclude_label_ids=("CATEGORY_PROMOTIONS",)))
    run = finished(world)
    # Messages, drafts and promotions, history once, and before the promotions and at the end the label list with the
    # colours of two labels.
    assert run.units == 3 * 5 + 2 + 2 * (1 + 2)
    assert world.accounts.made("users.threads.list") == 0
    assert run.removed == run.messages_processed == 0


# Live


def test_live_changes_enter_and_leave_a_policy_by_label(world: World) -> None:
    """What gets a wanted label comes, what loses it leaves, and mail outside costs nothing."""
    policy = Policy(label_ids=("STARRED",), exclude_label_ids=("UNREAD",))
    follow(world, policy)
    first, second, *rest = sorted(ids_with(world, "INBOX") - ids_with(world, "UNREAD"))
    world.accounts.calls.clear()
    world.ada.modify([first, second], ["STARRED"])
    world.ada.modify(rest, ["IMPORTANT"])
    world.ada.deliver(mail("Outside"))
    world.notify()
    assert sorted(fetched(world)) == [first, second]
    assert world.documents("messages").keys() == {first, second}
    world.ada.modify([first], [], ["STARRED"])
    world.ada.modify([second], ["UNREAD"])
    world.notify()
    assert world.documents("messages") == {}
    world.ada.modify([second], [], ["UNREAD"])
    world.notify()
    assert world.documents("messages").keys() == {second}
    assert world.differences(policy=policy) == []


def test_old_mail_costs_nothing_under_a_date(world: World) -> None:
    """Labels put on all old mail fetch none of it; old mail that is imported is looked at once and left out."""
    policy = Policy(since=world.clock.now())
    follow(world, policy)
    new = world.ada.deliver(mail("New"))
    world.notify()
    world.accounts.calls.clear()
    world.ada.modify(sorted(world.ada.truth()["messages"]), ["STARRED"])
    imported = world.ada.deliver(mail("Imported"), internal_date=world.clock.now() - timedelta(days=30))
    world.ada.modify([imported], ["STARRED"])
    world.notify()
    assert fetched(world) == [imported]
    assert world.documents("messages").keys() == {new}
    assert world.differences(policy=policy) == []


def test_a_message_that_moves_and_leaves_the_policy_is_removed(world: World) -> None:
    """A message that loses its label and is moved to another thread between two syncs leaves its old thread."""
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    policy = Policy(label_ids=("INBOX",))
    follow(world, policy)
    world.ada.modify([second], [], ["INBOX"])
    world.ada.merge_threads(first, second)
    world.notify()
    assert second not in world.documents("messages")
    assert world.differences(policy=policy) == []


def test_a_message_that_moves_between_labels_while_they_are_listed_stays(world: World) -> None:
    """A message that changes from one wanted label to the other is in neither listing and is not lost."""
    work, play = label_named(world, "Work"), label_named(world, "Play")
    policy = Policy(label_ids=(work, play))
    moved = min(ids_with(world, play) - ids_with(world, work))
    listings = 0

    def change(method: str, subject: str) -> None:
        nonlocal listings
        if method == "users.messages.list":
            listings += 1
            if listings == 2:
                # The first listing was of work: Gmail's ids of labels grow.
                assert work < play
                world.ada.modify([moved], [work], [play])

    world.accounts.before = change
    follow(world, policy)
    assert listings == 3
    assert moved in world.documents("messages")


# In the middle of a run


def large(policy: Policy, messages: int = 700) -> World:
    """A mailbox whose first sync takes a while, with its backfill begun."""
    world = World(units_per_minute=6000, step=timedelta(seconds=40))
    work = world.ada.create_label("Work")
    for number in range(messages):
        world.ada.deliver(mail(f"Number {number}"), label_ids=["INBOX", *([work] if number % 10 == 0 else [])])
        world.clock.advance(60)
    world.app.connect(ADA, policy)
    world.work_once()
    run = world.state().active_run
    assert run is not None
    assert (run.stage, world.state().phase) == ("fetching", "backfilling")
    return world


def test_narrowing_in_the_middle_of_a_backfill_stops_the_waste() -> None:
    """What a narrower policy does not want is not fetched any more, from the next slice on, and what was is removed."""
    world = large(ALL)
    work = label_named(world, "Work")
    policy = Policy(label_ids=(work,))
    before = set(world.documents("messages"))
    world.accounts.calls.clear()
    world.app.connect(ADA, policy)
    world.work()
    assert sorted(fetched(world)) == sorted(ids_with(world, work) - before)
    assert world.differences(policy=policy) == []
    first, asked = world.documents("runs").values()
    assert {first["mode"], asked["mode"]} == {"first", "policy"}
    # The run that was asked for finds nothing left to do, and only lists.
    quick = first if first["mode"] == "policy" else asked
    assert (quick["messagesProcessed"], quick["removed"]) == (0, 0)
    assert quick["units"] < 20


def test_widening_in_the_middle_of_a_backfill_fetches_nothing_twice() -> None:
    """What a wider policy wants is in the listing that the run makes anew, and no message is fetched again."""
    world = large(Policy(exclude_label_ids=("STARRED",)))
    before = set(world.documents("messages"))
    assert before
    world.accounts.calls.clear()
    world.app.connect(ADA, ALL)
    world.work()
    assert sorted(fetched(world)) == sorted(world.ada.truth()["messages"].keys() - before)
    assert world.differences(policy=ALL) == []


def test_a_policy_changed_while_a_run_closes_is_followed_by_the_next() -> None:
    """A run that has only its own documents left to remove ends, and the one that was asked for follows the policy."""
    world = World()
    for number in range(20):
        world.ada.deliver(mail(f"Number {number}"), label_ids=["INBOX"] if number % 2 else ["SENT"])
    policy, changed = Policy(label_ids=("SENT",)), False

    def change(method: str, subject: str) -> None:
        nonlocal changed
        if method == "users.labels.list" and not changed and world.documents("messages"):
            changed = True
            world.app.connect(ADA, policy)

    world.accounts.before = change
    world.connect(ALL)
    assert changed
    assert world.differences(policy=policy) == []
    assert sorted(run["mode"] for run in world.documents("runs").values()) == ["first", "policy"]
    # Messages and drafts, once for each run.
    assert world.accounts.made("users.messages.list") == 4


def test_history_that_expires_while_a_policy_is_followed(world: World) -> None:
    """A gap in a run for another policy is closed by the same run, which then compares threads as well."""
    policy = Policy(label_ids=("INBOX",))
    victim = min(ids_with(world, "INBOX"))
    expired = False

    def expire(method: str, subject: str) -> None:
        nonlocal expired
        if method == "users.messages.list" and not expired:
            expired = True
            world.ada.modify([victim], ["STARRED"], ["UNREAD"])
            world.ada.expire_history()

    world.accounts.before = expire
    follow(world, policy)
    assert expired
    assert finished(world).anchor > 0
    assert world.accounts.made("users.threads.list") == 1


def test_a_page_token_that_expires_in_the_second_label_starts_with_the_first(world: World) -> None:
    """A refused page token repeats the listing of all labels; nothing of any of them is missing."""
    work, play = label_named(world, "Work"), label_named(world, "Play")
    ids = [world.ada.deliver(mail(f"More {number}"), label_ids=[play]) for number in range(600)]
    world.notify()
    world.work()
    expired = False

    def expire(method: str, subject: str) -> None:
        nonlocal expired
        # The third page is the second of the second label.
        if method == "users.messages.list" and world.accounts.made(method) == 3 and not expired:
            expired = True
            world.ada.expire_page_tokens()

    world.accounts.before = expire
    assert follow(world, Policy(label_ids=(work, play))) == []
    assert expired
    assert world.documents("messages").keys() >= set(ids)


def test_a_label_that_somebody_deletes_does_not_hold_a_run_up(world: World) -> None:
    """A policy may name a label that is gone: Gmail refuses to list by it, so it is not asked. What a label that is
    gone kept out is then brought by a run for the policy.
    """
    work = label_named(world, "Work")
    policy = Policy(label_ids=(work, "STARRED"), exclude_label_ids=(label_named(world, "Play"),))
    follow(world, policy)
    world.ada.delete_label(work)
    world.ada.delete_label(label_named(world, "Play"))
    world.app.trigger_sync(ADA, "audit", 50)
    assert [run["mode"] for run in world.documents("runs").values()].count("audit") == 1
    assert finished(world).mode == "policy"
    assert world.differences(policy=policy) == []


def test_parked_messages_follow_the_policy_too(world: World) -> None:
    """A parked message is brought as the policy wants it when it can be read: without a body, or not at all."""
    wanted = world.ada.deliver(mail("Wanted", text=LARGE), label_ids=["INBOX"])
    unwanted = world.ada.deliver(mail("Unwanted", text=LARGE), label_ids=["SENT"])

    def fail(method: str, subject: str) -> None:
        if subject in (wanted, unwanted):
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.notify()
    assert world.documents("parked").keys() == {wanted, unwanted}
    policy = Policy(label_ids=("INBOX",), bodies=False)
    world.app.connect(ADA, policy)
    world.work()
    world.accounts.before = None
    world.sweep()
    world.sweep()
    assert world.documents("parked") == {}
    assert world.differences(policy=policy) == []
    assert world.blobs.objects == {}


# What Gmail's search is trusted with


def forgetful(world: World, forgotten: Sequence[str]) -> Callable[[], None]:
    """Make listings by date miss some messages; return how to end that."""
    listed = world.ada.list_messages

    def list_messages(*args: object) -> dict[str, object]:
        answer: dict[str, object] = listed(*args)  # type: ignore[arg-type]
        if args[4]:
            shown = answer.get("messages", [])
            assert isinstance(shown, list)
            answer["messages"] = [ref for ref in shown if ref["id"] not in forgotten]
        return answer

    world.ada.list_messages = list_messages  # type: ignore[method-assign,assignment]

    def end() -> None:
        del world.ada.list_messages

    return end


def test_a_search_that_misses_a_message_deletes_nothing(world: World) -> None:
    """A mirrored message that the listing by date does not have is looked at before it is removed, and stays if it is
    there; one that is gone is removed, without waiting whether it is only late.
    """
    messages = world.ada.truth()["messages"]
    by_age = sorted(messages, key=lambda i: messages[i]["internalDate"])
    policy = replace(ALL, since=since(world, by_age[4]))
    follow(world, policy)
    missed, gone = by_age[6], by_age[7]
    end = forgetful(world, [missed])
    world.ada.delete([gone])
    world.ada.expire_history()
    world.accounts.calls.clear()
    world.notify()
    world.work()
    end()
    assert sorted(fetched(world)) == sorted([missed, gone])
    assert world.differences(policy=policy) == []
    assert (finished(world).removed, world.state().counts.parked) == (1, 0)


def test_an_extra_that_came_back_in_another_thread_leaves_that_thread_whole() -> None:
    """An extra that turns out to have moved joins the messages which its new thread has in the mirror."""
    world = World()
    first, second = world.ada.deliver(mail("One")), world.ada.deliver(mail("Two"))
    world.connect(Policy(include_spam_trash=False))
    world.ada.trash(second)
    world.ada.expire_history()
    world.notify()
    hasty = world.worker("worker-2", step=timedelta(0))
    while (run := world.state().active_run) is not None and run.stage != "deleting":
        hasty.push(hasty.run_work, push({"mailbox": ADA, "task": "sync"}))
    assert run is not None
    world.ada.untrash(second)
    merged = False

    def merge(method: str, subject: str) -> None:
        nonlocal merged
        if (method, subject) == ("users.messages.get", second) and not merged:
            merged = True
            world.ada.merge_threads(first, second)
            # History keeps quiet about it: what the run writes now has to be whole.
            world.clock.advance(5)
            world.ada.history_lag = timedelta(hours=1)

    world.accounts.before = merge
    world.work()
    assert merged
    assert world.differences(lambda labels: "TRASH" not in labels) == []


# Deaths


def dies_at_call(name: str, number: int) -> bool:
    """Let a worker that follows a policy die at its `number`th call, before or after it, and others end what it began;
    return whether it came that far.
    """
    world = World()
    work = world.ada.create_label("Work")
    for message in range(6):
        labels = ["INBOX", work] if message % 2 else ["INBOX"]
        world.ada.deliver(mail(f"Number {message}", text=LARGE if message == 2 else "Hi."), label_ids=labels)
        world.clock.advance(3600)
    before, policy = {
        "label": (ALL, Policy(label_ids=(work,))),
        "excluded": (ALL, Policy(exclude_label_ids=(work,))),
        "date and labels": (ALL, Policy(since=world.clock.now() - timedelta(hours=4), label_ids=(work, "STARRED"))),
        "bodies": (ALL, Policy(bodies=False)),
        "back": (Policy(label_ids=(work,), bodies=False), ALL),
    }[name]
    world.connect(before)
    world.app.connect(ADA, policy)
    world.store = KillingStore(world.sqlite, at_call(number))
    doomed = world.worker("doomed")
    world.store = world.sqlite
    try:
        world.work(doomed)
    except Killed:
        world.clock.advance(121)
        world.outbox.publish(ADA, "sync")
        world.work()
        world.sweep()
        assert world.differences(policy=policy) == []
        return True
    return False


@pytest.mark.parametrize("name", ["label", "excluded", "date and labels", "bodies", "back"])
def test_a_death_between_any_two_calls_is_harmless(name: str) -> None:
    """Wherever the worker that follows a policy dies, the mirror follows it in the end."""
    number = 1
    while dies_at_call(name, number):
        number += 1
    assert number > 30


# Whatever happens

POLICIES = st.builds(
    Policy,
    include_spam_trash=st.booleans(),
    drafts=st.booleans(),
    label_ids=st.sampled_from([(), (), ("INBOX",), ("Label_1", "STARRED")]),
    exclude_label_ids=st.sampled_from([(), (), ("UNREAD",), ("Label_1", "SPAM")]),
    # Before, within and after the mail of a mailbox, in the middle of a second.
    since=st.none() | st.integers(-5, 10).map(lambda hours: STARTED + timedelta(hours=hours, seconds=0.5)),
    newest_days=st.sampled_from([None, None, None, 1, 2]),
    bodies=st.booleans(),
)
ACTS = st.tuples(
    st.sampled_from(["deliver", "import", "label", "trash", "untrash", "delete", "merge", "draft", "expire", "day"]),
    st.integers(0, 20),
    st.sampled_from(["INBOX", "UNREAD", "STARRED", "Label_1", "SPAM"]),
)
HAPPENINGS = st.lists(POLICIES | st.lists(ACTS, min_size=1, max_size=4), min_size=1, max_size=8)


def happen(world: World, act: tuple[str, int, str]) -> None:
    """Something happens in the mailbox, if it can."""
    kind, which, label = act
    truth = world.ada.truth()["messages"]
    ids = sorted(truth)
    world.clock.advance(600)
    if kind in ("deliver", "import") or not ids:
        thread = truth[ids[which % len(ids)]]["threadId"] if ids and which % 2 else None
        date = world.clock.now() - timedelta(hours=which) if kind == "import" else None
        text = LARGE if which == 7 else "Hi."
        world.ada.deliver(mail("New", text=text), thread_id=thread, label_ids=[label], internal_date=date)
        return
    chosen = ids[which % len(ids)]
    match kind:
        case "label" if label in truth[chosen]["labelIds"]:
            world.ada.modify([chosen], [], [label])
        case "label":
            world.ada.modify([chosen], [label])
        case "trash":
            world.ada.trash(chosen)
        case "untrash":
            world.ada.untrash(chosen)
        case "delete":
            world.ada.delete([chosen])
        case "merge":
            threads = sorted({message["threadId"] for message in truth.values()})
            if len(threads) > 1:
                world.ada.merge_threads(threads[which % len(threads)], threads[which % len(threads) - 1])
        case "draft":
            world.ada.save_draft(mail("Draft"))
        case "day":
            world.clock.advance(24 * 3600)
        case _:
            world.ada.expire_history()


@given(st.lists(ACTS, max_size=12), POLICIES, HAPPENINGS, st.booleans())
@settings(max_examples=120, deadline=None)
def test_the_mirror_is_what_the_policy_wants_of_the_mailbox(
    before: list[tuple[str, int, str]],
    policy: Policy,
    happenings: list[Policy | list[tuple[str, int, str]]],
    hasty: bool,
) -> None:
    """After any life of a mailbox under any policies, the mirror equals the mailbox as the last policy wants it."""
    world = World(step=timedelta(0) if hasty else timedelta(seconds=480))
    world.ada.create_label("Work")
    for act in before:
        happen(world, act)
    world.connect(policy)
    for happening in happenings:
        if isinstance(happening, Policy):
            policy = happening
            world.app.connect(ADA, policy)
            # In hasty hands the next thing happens while the mirror follows.
            if not hasty:
                world.work()
        else:
            for act in happening:
                happen(world, act)
            world.notify()
            if world.outbox.work:
                world.work_once()
    world.work(limit=1_000)
    world.sweep()
    world.sweep()
    assert world.differences(policy=policy) == []
    assert world.state().counts.parked == 0


def test_an_empty_listing_is_not_taken_for_the_one_after_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A policy that is widened again while its empty listing is compared removes nothing."""
    world = World()
    for number in range(4):
        world.ada.deliver(mail(f"Number {number}"))
    world.connect()
    monkeypatch.setattr(planner, "PLAN_THREADS", 1)
    mirrored, deltas = set(world.documents("messages")), len(world.documents("deltas"))
    world.app.connect(ADA, Policy(label_ids=("Label_99",)))

    def widen() -> None:
        # While the second thread is compared with a listing that has no page, because there is no such label.
        world.clock.advance(1)
        world.app.connect(ADA, Policy())

    world.app.engine.store = Meanwhile(world.store, "scan_threads", widen, number=2)
    world.work()
    assert set(world.documents("messages")) == mirrored
    assert len(world.documents("deltas")) == deltas
    assert world.differences() == []
