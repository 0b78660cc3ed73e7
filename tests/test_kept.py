"""What a deployment keeps: the mirror follows GMAIL_CONTENT and ATTACHMENTS, at the price of the difference."""

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from mailmirror import planner
from mailmirror.app import App
from mailmirror.keep import Kept
from mailmirror.model import Policy, Run

from tests.killing import Killed, at_call, doomed
from tests.world import ADA, World, mail, push

LARGE = "All work and no play. " * 20_000
METADATA = Kept(content="metadata")
NO_BODIES = Policy(bodies=False)


def attached(subject: str, note: str = "Notes.") -> bytes:
    """Return the source of a message with a file."""
    return (
        f"From: Grace <grace@example.com>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n"
        "Content-Type: multipart/mixed; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nSee below.\r\n"
        "--x\r\nContent-Type: text/plain\r\nContent-Disposition: attachment; filename=notes.txt\r\n\r\n"
        f"{note}\r\n--x--\r\n"
    ).encode()


def filled(kept: Kept | None = None, messages: int = 6) -> World:
    """A mailbox with messages of all sizes, one with a file, not yet connected."""
    world = World(kept=kept)
    for number in range(messages):
        world.ada.deliver(mail(f"Number {number}", text=f"{number} {LARGE}" if number == 1 else "Hi."))
    world.ada.deliver(attached("With a file"))
    return world


def deployed(world: World, kept: Kept, step: timedelta = timedelta(seconds=480)) -> App:
    """Deploy the application anew with another setting."""
    world.kept = kept
    world.app = world.worker("deployed", step)
    return world.app


def formats(world: World) -> list[str]:
    """The formats that messages and threads are asked for in, from now on."""
    asked: list[str] = []
    for name in ("get_message", "get_thread"):
        answer: Callable[..., Any] = getattr(world.ada, name)

        def get(item_id: str, form: str = "full", *, answer: Callable[..., Any] = answer) -> Any:
            asked.append(form)
            return answer(item_id, form)

        setattr(world.ada, name, get)
    return asked


def bare(world: World) -> bool:
    """Whether nothing is mirrored of bodies and attachments, and there is no object."""
    messages, threads = world.documents("messages").values(), world.documents("threads").values()
    assert world.differences(policy=replace(world.state().policy, bodies=False)) == []
    return (
        all(m["body"]["stored"] == "none" and not m["attachments"] and not m["objects"] for m in messages)
        and not any(thread["hasAttachments"] for thread in threads)
        and world.blobs.objects == {}
    )


def run_of(world: World) -> Run:
    """The run that ended last."""
    run = world.state().run
    assert run is not None
    assert run.stage == "finished"
    return run


# GMAIL_CONTENT


def test_with_metadata_no_body_is_asked_or_stored() -> None:
    """A mailbox that is connected, gets mail and is audited under metadata: no body is asked, none is stored, and no
    run is needed for that.
    """
    world = filled(METADATA)
    asked = formats(world)
    world.connect()
    assert world.state().content == "metadata"
    assert [run["mode"] for run in world.documents("runs").values()] == ["first"]
    world.ada.deliver(attached("New"))
    world.notify()
    fetched = len(asked)
    world.app.trigger_sync(ADA, "audit", 50)
    world.sweep()
    assert len(asked) == fetched
    world.app.trigger_sync(ADA, "full", 50)
    assert bare(world)
    assert set(asked) == {"metadata"}
    assert {m["snippet"] for m in world.documents("messages").values()} != {""}
    assert len(world.documents("runs")) == 3


def test_a_deployment_that_keeps_less() -> None:
    """Bodies, attachments and objects are taken away by a run for the policy, without a call for any message and
    without a word to applications.
    """
    world = filled()
    world.connect()
    assert len(world.blobs.objects) == 1
    deltas = len(world.documents("deltas"))
    deployed(world, METADATA)
    world.accounts.calls.clear()
    world.sweep()
    assert bare(world)
    assert run_of(world).mode == "policy"
    assert world.state().content == "metadata"
    assert [m for m, _ in world.accounts.calls if m in ("users.messages.get", "users.threads.get")] == []
    assert len(world.documents("deltas")) == deltas
    world.sweep()
    assert len(world.documents("runs")) == 2


def test_a_deployment_that_keeps_more() -> None:
    """Bodies and attachments are brought for all that is mirrored, once."""
    world = filled(METADATA)
    world.connect()
    deployed(world, Kept())
    deltas = len(world.documents("deltas"))
    world.sweep()
    assert world.differences() == []
    assert world.orphans() == []
    assert (run_of(world).mode, world.state().content) == ("policy", "full")
    assert len(world.documents("deltas")) == deltas
    world.accounts.calls.clear()
    world.sweep()
    assert [method for method, _ in world.accounts.calls] == ["users.history.list"]


def test_live_mail_is_of_the_new_kind_at_once() -> None:
    """What comes before the run is mirrored as the deployment is now, and the notification starts nothing long."""
    world = filled()
    world.connect()
    deployed(world, METADATA)
    new = world.ada.deliver(mail("New"))
    world.notify()
    assert world.documents("messages")[new]["body"]["stored"] == "none"
    assert world.state().content == "mixed"
    assert world.state().active_run is None
    world.sweep()
    assert bare(world)


def test_a_deployment_that_is_taken_back_at_once_costs_nothing() -> None:
    """Where no turn came that could begin a run, there is nothing to undo."""
    world = filled()
    world.connect()
    deployed(world, METADATA)
    world.notify()
    deployed(world, Kept())
    world.sweep()
    assert len(world.documents("runs")) == 1
    assert world.differences() == []


@pytest.mark.parametrize(("before", "after"), [(Kept(), METADATA), (METADATA, Kept())])
def test_mail_of_the_deployment_before(before: Kept, after: Kept) -> None:
    """A message that a worker of the deployment before brings, while functions are deployed one by one or because one
    was taken back, is as the other messages in the end.
    """
    world = filled(before)
    world.connect()
    late = world.app
    deployed(world, after)
    world.sweep()
    world.ada.deliver(mail("Late", text=LARGE))
    world.notify(app=late)
    world.sweep()
    assert world.state().content == after.content
    assert world.differences(policy=Policy(bodies=after.content == "full")) == []
    # Brought by the new deployment, which is then taken back.
    deployed(world, before)
    world.ada.deliver(mail("Short-lived"))
    world.notify()
    deployed(world, after)
    world.sweep()
    assert world.differences(policy=Policy(bodies=after.content == "full")) == []
    assert world.orphans() == []


@pytest.mark.parametrize(("before", "after"), [(Kept(), METADATA), (METADATA, Kept())])
def test_a_deployment_in_the_middle_of_a_first_sync(before: Kept, after: Kept) -> None:
    """The run under way lists again and goes on by what is kept now; no other follows it."""
    world = World(kept=before, units_per_minute=6000, step=timedelta(seconds=40))
    for number in range(400):
        world.ada.deliver(mail(f"Number {number}"))
        world.clock.advance(1)
    world.app.connect(ADA, None)
    world.work_once()
    assert world.state().phase == "backfilling"
    assert 0 < len(world.documents("messages")) < 400
    deployed(world, after)
    world.work()
    assert [run["mode"] for run in world.documents("runs").values()] == ["first"]
    assert run_of(world).reason == "GMAIL_CONTENT was changed."
    assert world.state().content == after.content
    assert bare(world) if after is METADATA else world.differences() == []


def test_a_policy_without_bodies_stays_without() -> None:
    """Whatever a deployment keeps, a policy that leaves bodies out is followed."""
    world = filled()
    world.connect(NO_BODIES)
    for kept in (METADATA, Kept()):
        deployed(world, kept)
        world.sweep()
        assert bare(world)
        assert world.state().content == kept.content
    world.app.connect(ADA, Policy())
    world.work()
    assert world.differences() == []


def test_any_run_follows_what_is_kept() -> None:
    """A run that somebody asked for takes bodies away as well, and no other is needed."""
    world = filled()
    world.connect()
    deployed(world, METADATA)
    world.app.trigger_sync(ADA, "audit", 50)
    assert bare(world)
    world.sweep()
    assert sorted(run["mode"] for run in world.documents("runs").values()) == ["audit", "first"]


def dies_at_call(before: Kept, after: Kept, number: int) -> bool:
    """Let the first worker of a new deployment die at its `number`th call of anything, and others end what it began;
    return whether it came that far.
    """
    world = filled(before, messages=2)
    world.connect()
    deployed(world, after)
    dying = doomed(world, at_call(number))
    world.clock.advance(20 * 60)
    world.app.sweep_mailboxes()
    try:
        world.work(dying)
    except Killed:
        world.clock.advance(121)
        world.outbox.publish(ADA, "sync")
        world.work()
        assert world.state().content == after.content
        documents = world.documents("messages").values()
        assert {m["body"]["stored"] == "none" for m in documents} == {after.content == "metadata"}
        assert world.differences(policy=Policy(bodies=after.content == "full")) == []
        return True
    return False


@pytest.mark.parametrize(("before", "after"), [(Kept(), METADATA), (METADATA, Kept())])
def test_a_death_between_any_two_calls_is_harmless(before: Kept, after: Kept) -> None:
    """Wherever the first worker of a new deployment dies, the mirror is as that deployment keeps it in the end."""
    number = 1
    while dies_at_call(before, after, number):
        number += 1
    assert number > 30


# ATTACHMENTS

STORE = Kept(attachments="store")


def slices(world: World) -> list[int]:
    """How many messages each delta has."""
    return [len(delta["changes"]) for _, delta in sorted(world.documents("deltas").items())]


def test_slices_are_small_where_attachments_are_stored() -> None:
    """Where each message may take several more calls and uploads, fewer are fetched before they are committed, in a
    run and live; where none are stored, or bodies are left out, as many as ever.
    """
    for kept, policy, most in (
        (STORE, Policy(), planner.STORED_FETCHES),
        (Kept(), Policy(), 60),
        (STORE, NO_BODIES, 60),
    ):
        world = World(kept=kept)
        for number in range(60):
            world.ada.deliver(attached(f"Number {number}", f"Note {number}"))
        world.connect(policy)
        assert max(slices(world)) == most
        for number in range(60):
            world.ada.deliver(attached(f"New {number}", f"New note {number}"))
        world.notify()
        assert max(slices(world)) == most
        assert len(world.documents("messages")) == 120
        assert len(world.blobs.objects) == (120 if (kept, policy) == (STORE, Policy()) else 0)


def test_a_message_that_leaves_before_it_is_mirrored_leaves_no_object() -> None:
    """A message that was wanted when it was read, and by newer history is not, has nothing in the bucket."""
    world = filled(STORE)
    world.connect(Policy(include_spam_trash=False))
    new = world.ada.deliver(attached("Short-lived", "Never seen again."))
    answer = world.ada.get_message
    copies: list[Any] = []

    def old_copy(message_id: str, form: str = "full") -> Any:
        # The copy of before it was trashed.
        copies.append(message_id)
        found = answer(message_id, form)
        return {**found, "labelIds": ["INBOX"], "historyId": str(int(found["historyId"]) - 1)}

    world.ada.trash(new)
    world.ada.get_message = old_copy  # type: ignore[method-assign,assignment]
    telling = world.ada.list_history

    def quiet(*args: Any, **kwargs: Any) -> Any:
        # History that tells of the trash, but not which labels there are.
        page = telling(*args, **kwargs)
        for record in page.get("history", ()):
            for changes in record.values():
                for change in changes if isinstance(changes, list) else ():
                    (change.get("message") or change).pop("labelIds", None)
        return page

    world.ada.list_history = quiet  # type: ignore[method-assign]
    written = world.blobs.writes
    world.notify()
    assert (copies, world.blobs.writes) == ([new], written + 1)
    assert new not in world.documents("messages")
    assert world.orphans() == []


def test_a_turn_that_may_not_run_leaves_the_run_to_others() -> None:
    """A push for new mail does not begin the run of a new deployment, and releases the lease in its one commit."""
    world = filled()
    world.connect()
    deployed(world, METADATA)
    world.ada.deliver(mail("New"))
    assert world.notify() == 204
    assert world.outbox.work == []
    lease = world.store.lease(ADA)
    assert lease is not None
    assert lease.owner == ""
    assert world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"})) == 204
    assert bare(world)
