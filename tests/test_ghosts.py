"""Ghosts: a label that its user deletes leaves the mirror, whether or not Gmail has a word of history for it."""

from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mailmirror import tidying
from mailmirror.errors import GmailUnavailable
from mailmirror.labels import ABSENT, GONE, UNLISTED
from mailmirror.model import Policy

from tests.killing import Killed, KillingStore, at_call, doomed
from tests.world import ADA, World, mail, push

DAY = 24 * 3600


def forget(world: World, label: str) -> None:
    """Delete a label in Gmail without a record of history: what Gmail does about that is documented nowhere."""
    world.ada._state.labels.remove(label)
    for message in world.ada._state.messages.values():
        message.label_ids = [carried for carried in message.label_ids if carried != label]


def connected(policy: Policy | None = None, *, messages: int = 6) -> tuple[World, str]:
    """A mailbox with a label on every message but the first, two to a thread, and that label."""
    world = World()
    label = world.ada.create_label("Work")
    first = world.ada.deliver(mail("Without"))
    for number in range(messages):
        if number % 2 == 0:
            first = ""
        new = world.ada.deliver(mail(f"Number {number}"), thread_id=first or None, label_ids=["INBOX", label])
        first = first or new
    world.connect(policy)
    assert label in world.documents("labels")
    return world, label


def renewed(world: World) -> None:
    """Let a day pass and renew the watch."""
    world.clock.advance(DAY)
    world.app.renew_watches()
    world.work()


def carriers(world: World, label: str) -> list[str]:
    """The mirrored messages and threads that carry a label, whatever document says so."""
    messages, threads = world.documents("messages"), world.documents("threads")
    found = [i for i, message in messages.items() if label in message["labelIds"]]
    for thread_id, thread in threads.items():
        found += [thread_id] if label in thread["labelIds"] else []
        found += [i for i, entry in thread["messages"].items() if label in entry["labelIds"]]
    return found


def new_deltas(world: World, before: int) -> list[dict[str, Any]]:
    """The deltas since there were so many."""
    return [delta for _, delta in sorted(world.documents("deltas").items())][before:]


# When it is found out


def at_a_renewal(world: World) -> None:
    """The daily renewal comes."""
    renewed(world)


def at_an_unknown_label(world: World) -> None:
    """A message comes with a label that the mirror does not know."""
    world.ada.deliver(mail("New"), label_ids=["INBOX", world.ada.create_label(f"Unknown {world.head()}")])
    assert world.notify() == 204
    assert world.outbox.work == []


def at_the_end_of_a_run(world: World) -> None:
    """Somebody asks for an audit."""
    assert world.app.trigger_sync(ADA, "audit", 50).status == "done"


@pytest.mark.parametrize("when", [at_a_renewal, at_an_unknown_label, at_the_end_of_a_run])
def test_a_deleted_label_leaves_no_ghost(when: Callable[[World], None]) -> None:
    """At a renewal, when an unknown label appears and at the end of a run: its document goes, it is taken off every
    message and thread in one turn, applications are told, and Gmail is asked for one message because of it.
    """
    world, label = connected()
    forget(world, label)
    before, fetched = len(world.documents("deltas")), world.accounts.made("users.messages.get")
    when(world)
    assert carriers(world, label) == []
    assert label not in world.documents("labels")
    assert world.differences() == []
    lost = [d for d in new_deltas(world, before) if d["changes"][0]["type"] == "labelsChanged"]
    assert {delta["origin"] for delta in lost} == {"live"}
    changes = [change for delta in lost for change in delta["changes"]]
    assert [change["labelsRemoved"] for change in changes] == [[label]] * 6
    # What came with the unknown label, and what was asked because of this one.
    new = len(world.documents("messages")) - 7
    assert world.accounts.made("users.messages.get") - fetched == new + 1


@pytest.mark.parametrize("when", [at_a_renewal, at_an_unknown_label, at_the_end_of_a_run])
def test_names_and_colours_follow(when: Callable[[World], None]) -> None:
    """A label that is renamed or gets other colours is mirrored as it is at the same moments."""
    world, label = connected()
    assert world.documents("labels")[label]["color"] is None
    world.ada.rename_label(label, "Play")
    world.ada.recolor_label(label, {"textColor": "#ffffff", "backgroundColor": "#a46a21"})
    when(world)
    document = world.documents("labels")[label]
    assert (document["name"], document["color"]) == ("Play", {"textColor": "#ffffff", "backgroundColor": "#a46a21"})
    assert document["type"] == "user"
    world.ada.recolor_label(label, None)
    when(world)
    assert world.documents("labels")[label]["color"] is None


@pytest.mark.parametrize("when", [at_a_renewal, at_an_unknown_label, at_the_end_of_a_run])
def test_a_colour_that_cannot_be_read(when: Callable[[World], None]) -> None:
    """A colour that Gmail does not tell stays as the mirror has it, whatever else of the label is new, until it does.

    A label that the mirror does not have yet comes without one.
    """
    world, label = connected()
    world.ada.recolor_label(label, {"textColor": "#ffffff", "backgroundColor": "#a46a21"})
    when(world)
    known = world.documents("labels")[label]

    def fail(method: str, subject: str) -> None:
        if method == "users.labels.get":
            raise GmailUnavailable("500")

    world.accounts.before = fail
    world.ada.rename_label(label, "Play")
    world.ada.recolor_label(label, {"textColor": "#000000", "backgroundColor": "#ffffff"})
    new = world.ada.create_label("New")
    when(world)
    assert world.documents("labels")[label] == known | {"name": "Play"}
    assert world.documents("labels")[new]["color"] is None
    world.accounts.before = None
    when(world)
    assert world.documents("labels")[label]["color"] == {"textColor": "#000000", "backgroundColor": "#ffffff"}


def test_what_history_took_off_already() -> None:
    """Where Gmail tells of each message, catching up does it all, and nothing is told twice."""
    world, label = connected()
    world.ada.delete_label(label)
    world.notify()
    before = len(world.documents("deltas"))
    renewed(world)
    assert (carriers(world, label), len(world.documents("deltas"))) == ([], before)
    assert world.state().labels[label] == GONE
    assert world.differences() == []


def test_history_that_comes_afterwards() -> None:
    """Records of a label that is off already change nothing more."""
    world, label = connected()
    mirrored = sorted(world.ada.truth()["messages"])
    forget(world, label)
    renewed(world)
    before = len(world.documents("deltas"))
    for message_id in mirrored:
        message = world.ada._state.messages[message_id]
        world.ada._announce([world.ada._state.relabel(message, [], [label])])
    world.notify()
    assert (carriers(world, label), len(world.documents("deltas"))) == ([], before)
    assert world.differences() == []


# What it costs


class Counting:
    """Passes calls on to a store and counts them by name."""

    def __init__(self, store: object) -> None:
        self._store = store
        self.calls: list[str] = []

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls.append(name)
            return method(*args, **kwargs)

        return call


def test_a_label_that_is_gone_costs_nothing_more() -> None:
    """Once it is off, no turn looks for it again, renewals and runs included."""
    world, label = connected()
    forget(world, label)
    renewed(world)
    counting = Counting(world.sqlite)
    world.app.engine.store = counting
    world.ada.deliver(mail("New"))
    world.notify()
    renewed(world)
    world.app.trigger_sync(ADA, "audit", 50)
    assert "threads_labelled" not in counting.calls
    assert world.state().labels[label] == GONE


def test_labels_that_do_not_change_cost_one_look() -> None:
    """A renewal reads the label list once while nothing is missing in it, and a notification does not at all."""
    world, _ = connected()
    world.accounts.calls.clear()
    renewed(world)
    assert world.accounts.made("users.labels.list") == 1
    world.ada.deliver(mail("New"))
    world.notify()
    assert world.accounts.made("users.labels.list") == 1


# What is not gone


def listing_without(world: World, label: str, times: int) -> None:
    """Let Gmail forget a label in its next few lists, and no longer."""
    listed, left = world.ada.list_labels, times

    def list_labels() -> dict[str, Any]:
        nonlocal left
        answer = listed()
        if left:
            left -= 1
            answer["labels"] = [each for each in answer["labels"] if each["id"] != label]
        return answer

    world.ada.list_labels = list_labels  # type: ignore[method-assign]


def test_a_list_that_lacks_a_label_is_asked_for_again() -> None:
    """A label that one list lacks and the next one, seconds later, has, is not gone: nothing is taken off."""
    world, label = connected()
    before, documents = carriers(world, label), world.documents("labels")
    listing_without(world, label, 1)
    renewed(world)
    assert (carriers(world, label), world.documents("labels")) == (before, documents)
    assert len(before) > 6


def test_a_label_that_comes_back_before_it_is_off() -> None:
    """A label that Gmail lists again before any worker got to take it off stays where it is."""
    world, label = connected()
    before = carriers(world, label)
    listing_without(world, label, 2)
    world.store = KillingStore(world.sqlite, lambda name, *, after: name == "threads_labelled")
    dying = world.worker("doomed")
    world.store = world.sqlite
    world.clock.advance(DAY)
    world.app.renew_watches()
    with pytest.raises(Killed):
        world.work(dying)
    assert world.state().labels[label] == ABSENT
    assert label not in world.documents("labels")
    # Whoever comes next has not taken it off before the label is named again.
    world.clock.advance(121)
    unknown = world.ada.create_label("Unknown")
    world.ada.modify(sorted(world.ada.truth()["messages"])[:1], [unknown])
    world.notify()
    assert (carriers(world, label), label in world.documents("labels")) == (before, True)
    assert world.differences() == []


@pytest.mark.parametrize("times", [2, 3, 5])
@pytest.mark.parametrize("known", [True, False])
def test_a_list_that_lags_takes_nothing_off(known: bool, times: int) -> None:
    """A label that lists lack for longer than a worker waits, while messages have it, stays on all of them, and has its
    document again a day later: what was taken off would be missing for ever, and no audit would find it.
    """
    world, label = connected()
    if not known:
        label = world.ada.create_label("New")
        world.ada.modify(sorted(world.ada.truth()["messages"])[:3], [label])
    listing_without(world, label, times)
    renewed(world)
    assert world.differences() == []
    for _ in range(3):
        renewed(world)
    assert world.documents("labels").keys() == world.ada.truth()["labels"].keys()
    assert world.differences() == []
    # And when it is deleted for good, it goes.
    forget(world, label)
    renewed(world)
    assert carriers(world, label) == []


@pytest.mark.parametrize("times", [2, 3, 5])
def test_a_list_that_lags_takes_nothing_out_of_a_listing(times: int) -> None:
    """A run under a policy of a label that lists lack for a while lists its messages all the same."""
    policy = Policy(label_ids=("Label_1",))
    world, label = connected(policy)
    assert len(world.documents("messages")) == 6
    listing_without(world, label, times)
    assert world.app.trigger_sync(ADA, "audit", 50).status == "done"
    coverage = world.state().coverage
    assert coverage is not None
    assert (coverage.listed, coverage.extra) == (6, 0)
    assert world.differences(policy=policy) == []
    forget(world, label)
    assert world.app.trigger_sync(ADA, "audit", 50).status == "done"
    assert world.documents("messages") == {}
    assert world.differences(policy=policy) == []


def test_a_message_that_does_not_come_takes_nothing_off_and_stops_nothing() -> None:
    """While Gmail does not give the message that is asked for, a label that is not listed stays, and mail comes in."""
    world, label = connected()

    def refuse(method: str, subject: str) -> None:
        if method == "users.messages.get" and subject != new:
            raise GmailUnavailable("Not now.")

    new = ""
    world.accounts.before = refuse
    forget(world, label)
    renewed(world)
    assert world.state().labels[label] == UNLISTED
    new = world.ada.deliver(mail("New"))
    world.notify()
    assert new in world.documents("messages")
    world.accounts.before = None
    renewed(world)
    assert (carriers(world, label), world.differences()) == ([], [])


def test_a_label_of_gmails_own_is_never_taken_off() -> None:
    """Should Gmail not list one of its own labels any more, messages keep it as Gmail says."""
    world, _ = connected()
    before = carriers(world, "INBOX")
    listing_without(world, "INBOX", 10)
    renewed(world)
    assert carriers(world, "INBOX") == before
    assert "INBOX" not in world.documents("labels")
    assert world.state().labels["INBOX"] == UNLISTED
    world.ada.list_labels = type(world.ada).list_labels.__get__(world.ada)  # type: ignore[method-assign]
    renewed(world)
    assert "INBOX" in world.documents("labels")


# What comes later


@pytest.mark.parametrize("times", [1, 3])
def test_an_old_copy_does_not_bring_it_back(times: int) -> None:
    """A message that Gmail still gives with the label, long after that is gone, does not keep it: it is off at once,
    or at the next renewal if Gmail says the same when it is asked again.
    """
    world, label = connected()
    forget(world, label)
    renewed(world)
    answer = world.ada.get_message

    left = times

    def old_copy(message_id: str, form: str = "full") -> dict[str, Any]:
        nonlocal left
        found = answer(message_id, form)
        left -= 1
        if left >= 0:
            found["labelIds"] = [*found.get("labelIds", ()), label]
        return found

    world.ada.get_message = old_copy  # type: ignore[method-assign,assignment]
    new = world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert new in world.documents("messages")
    if times > 1:
        assert world.state().labels[label] == UNLISTED
        left = 0
        renewed(world)
    assert carriers(world, label) == []
    assert world.differences() == []
    assert world.state().labels[label] == GONE


def test_a_label_that_was_taken_for_gone_is_carried_again() -> None:
    """A label that no list had, and no message when that was looked at, stays on the message that then comes with it,
    however long lists still lack it.
    """
    world, _ = connected()
    first = min(world.ada.truth()["messages"])
    label = world.ada.create_label("New")
    listing_without(world, label, 20)
    world.ada.modify([first], [label])
    world.notify()
    world.ada.modify([first], [], [label])
    renewed(world)
    assert world.state().labels[label] == GONE
    world.ada.deliver(mail("New"), label_ids=["INBOX", label])
    world.notify()
    assert world.differences() == []
    for _ in range(12):
        renewed(world)
    assert world.differences() == []
    assert label in world.documents("labels")


def test_history_from_before_does_not_bring_it_back() -> None:
    """History of the label being put on messages, read only after it was deleted, leaves nothing of it."""
    world, label = connected()
    without = min(world.ada.truth()["messages"])
    world.ada.modify([without], [label])
    forget(world, label)
    world.notify()
    world.sweep()
    renewed(world)
    assert carriers(world, label) == []
    assert world.differences() == []


def test_labels_of_old_threads_do_not_bring_it_back() -> None:
    """An audit that compares labels with an old answer of Gmail's for whole threads leaves nothing of it."""
    world, label = connected()
    forget(world, label)
    renewed(world)
    touched = sorted(world.ada.truth()["messages"])[1:]
    answer = world.ada.get_thread

    def old_thread(thread_id: str, form: str = "full") -> dict[str, Any]:
        found = answer(thread_id, form)
        for message in found["messages"]:
            message["labelIds"] = [*message.get("labelIds", ()), label]
        return found

    world.ada.get_thread = old_thread  # type: ignore[method-assign,assignment]
    world.ada.modify(touched, ["STARRED"])
    world.ada.expire_history()
    world.notify()
    world.work()
    assert world.accounts.made("users.threads.get") > 0
    assert carriers(world, label) == []
    assert world.differences() == []


def test_a_label_that_came_and_went_unseen() -> None:
    """A label that history puts on messages, and that was deleted before anybody could look at the list, goes at the
    next renewal; one that is only late in the list has its document by then, and stays.
    """
    world, _ = connected()
    first, second, *_ = sorted(world.ada.truth()["messages"])
    brief, late = world.ada.create_label("Brief"), world.ada.create_label("Late")
    world.ada.modify([first], [brief])
    world.ada.modify([second], [late])
    forget(world, brief)
    listing_without(world, late, 1)
    world.notify()
    assert (world.state().labels[brief], world.state().labels[late]) == (UNLISTED, UNLISTED)
    renewed(world)
    assert (carriers(world, brief), len(carriers(world, late))) == ([], 3)
    assert late in world.documents("labels")
    assert world.differences() == []


# Policies


def test_what_a_policy_wants_by_a_label_that_is_gone() -> None:
    """Messages that were mirrored for the label alone leave, those with another wanted one stay."""
    world, label = connected(Policy(label_ids=("Label_1", "STARRED")))
    assert label == "Label_1"
    starred = max(world.documents("messages"))
    world.ada.modify([starred], ["STARRED"])
    world.notify()
    forget(world, label)
    renewed(world)
    assert world.documents("messages").keys() == {starred}
    assert world.differences(policy=world.state().policy) == []
    assert world.orphans() == []


def test_what_a_label_that_is_gone_kept_out_comes() -> None:
    """Messages that were left out for the label alone are brought by a run, once."""
    world, label = connected(Policy(exclude_label_ids=("Label_1",)))
    assert label == "Label_1"
    assert len(world.documents("messages")) == 1
    forget(world, label)
    renewed(world)
    assert len(world.documents("messages")) == 7
    assert world.differences(policy=world.state().policy) == []
    runs = world.documents("runs")
    assert sorted(run["mode"] for run in runs.values()) == ["first", "policy"]
    renewed(world)
    assert world.documents("runs") == runs


# Slices


def test_each_turn_does_what_it_has_time_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """A turn that is over before it begins takes the label off some threads all the same, and the next one goes on."""
    monkeypatch.setattr(tidying, "THREADS", 3)
    world, label = connected(messages=40)
    hasty = world.worker("hasty", step=timedelta(0))
    forget(world, label)
    world.clock.advance(DAY)
    world.app.renew_watches()
    left = [len(carriers(world, label))]
    while world.outbox.work:
        mailbox, task = world.outbox.work.pop(0)
        assert hasty.push(hasty.run_work, push({"mailbox": mailbox, "task": task})) == 204
        left.append(len(carriers(world, label)))
    assert left == sorted(left, reverse=True)
    # 20 threads of two messages.
    assert len(set(left)) == 1 + 7
    assert world.differences() == []


def test_new_mail_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Mail that is announced while a label is taken off waits for one slice of that and no more."""
    monkeypatch.setattr(tidying, "THREADS", 3)
    world, label = connected(messages=40)
    other, arrived, seen = world.worker("other"), list[str](), list[bool]()

    def arrive(name: str, *, after: bool) -> bool:
        if name == "threads_labelled" and not after:
            seen.append(bool(arrived) and arrived[0] in world.documents("messages"))
            if not arrived:
                arrived.append(world.ada.deliver(mail("New")))
                assert world.notify(app=other) == 204
        return False

    world.app.engine.store = KillingStore(world.sqlite, arrive)
    forget(world, label)
    renewed(world)
    assert seen == [False, *[True] * 8]
    assert world.differences() == []


def test_more_labels_than_a_commit_holds() -> None:
    """Hundreds of labels that are deleted at once lose their documents and leave."""
    world = World()
    made = [world.ada.create_label(f"Label {number}") for number in range(800)]
    for start in range(0, 800, 100):
        world.ada.deliver(mail(f"Number {start}"), label_ids=["INBOX", *made[start : start + 100]])
    world.connect()
    for label in made[:750]:
        forget(world, label)
    renewed(world)
    assert [label for label in made if label in world.documents("labels")] == made[750:]
    assert world.differences() == []
    assert list(world.state().labels.values()).count(GONE) == 750


# Deaths, and whatever else happens


def dies_at_call(number: int) -> bool:
    """Let a worker that takes two labels off die at its `number`th call of anything, and others end what it began;
    return whether it came that far.
    """
    world = World()
    labels = [world.ada.create_label("Work"), world.ada.create_label("Play")]
    for which in range(4):
        world.ada.deliver(mail(f"Number {which}"), label_ids=["INBOX", labels[0], *labels[1 : 1 + which % 2]])
    policy = Policy(exclude_label_ids=(labels[1],))
    world.connect(policy)
    for label in labels:
        forget(world, label)
    dying = doomed(world, at_call(number))
    world.clock.advance(DAY)
    world.app.renew_watches()
    try:
        world.work(dying)
    except Killed:
        world.clock.advance(121)
        world.outbox.publish(ADA, "renew")
        world.work()
        world.sweep()
        assert [carriers(world, label) for label in labels] == [[], []]
        assert world.differences(policy=policy) == []
        assert {world.state().labels[label] for label in labels} == {GONE}
        return True
    return False


def test_a_death_between_any_two_calls_is_harmless() -> None:
    """Wherever the worker that takes labels off dies, they are off in the end, and what they kept out is in."""
    number = 1
    while dies_at_call(number):
        number += 1
    assert number > 40


ACTS = st.lists(
    st.tuples(
        st.sampled_from(["deliver", "label", "unlabel", "make", "forget", "delete", "merge", "expire", "lag", "renew"]),
        st.integers(0, 30),
    ),
    max_size=14,
)


def happen(world: World, kind: str, which: int) -> None:
    """Something happens in the mailbox, if it can."""
    truth = world.ada.truth()
    ids, own = sorted(truth["messages"]), sorted(label for label in truth["labels"] if label.startswith("Label_"))
    world.clock.advance(60)
    chosen, label = ids[which % len(ids) :][:1], own[which % len(own) :][:1] if own else []
    match kind:
        case "deliver":
            threads = [truth["messages"][i]["threadId"] for i in chosen] if which % 2 else [None]
            world.ada.deliver(mail("New"), thread_id=threads[0], label_ids=["INBOX", *label])
        case "label" if label and label[0] not in truth["messages"][chosen[0]]["labelIds"]:
            world.ada.modify(chosen, label)
        case "unlabel" if label and label[0] in truth["messages"][chosen[0]]["labelIds"]:
            world.ada.modify(chosen, [], label)
        case "make":
            world.ada.modify(chosen, [world.ada.create_label(f"Made {which} {world.clock.now()}")])
        case "forget" if label:
            forget(world, label[0])
        case "delete" if len(ids) > 1:
            world.ada.delete(chosen)
        case "merge":
            threads = sorted({message["threadId"] for message in truth["messages"].values()})
            if len(threads) > 1:
                world.ada.merge_threads(threads[which % len(threads)], threads[which % len(threads) - 1])
        case "expire":
            world.ada.expire_history()
        case "renew":
            world.clock.advance(DAY)
            world.app.renew_watches()
            world.work()
        case _:
            pass


@given(
    ACTS,
    st.lists(ACTS.filter(bool), min_size=1, max_size=6),
    st.sampled_from(
        [Policy(), Policy(label_ids=("INBOX", "Label_1")), Policy(exclude_label_ids=("Label_1", "Label_2"))]
    ),
)
@settings(max_examples=150, deadline=None)
def test_whatever_happens_to_labels(
    before: Sequence[tuple[str, int]], acts: list[list[tuple[str, int]]], policy: Policy
) -> None:
    """After any life of a mailbox in which labels vanish without a word, the mirror equals it after two renewals."""
    world = World()
    world.ada.create_label("One")
    world.ada.deliver(mail("First"), label_ids=["INBOX", world.ada.create_label("Two")])
    for kind, which in before:
        happen(world, kind, which)
    world.connect(policy)
    for some in acts:
        for kind, which in some:
            happen(world, kind, which)
        world.notify()
        world.work()
    renewed(world)
    world.sweep()
    renewed(world)
    world.sweep()
    assert world.differences(policy=policy) == []
    assert world.documents("labels").keys() == world.ada.truth()["labels"].keys()
