"""Objects in the bucket under the lease: none that a mirrored message names is ever deleted, and none that nobody names
stays where nothing went wrong.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from itertools import count
from typing import Any

import pytest
from mailmirror.content import Content, File, Part, TextPart
from mailmirror.documents import to_document
from mailmirror.errors import DocumentExists, LeaseLost, StoreUnavailable, UnknownMailbox
from mailmirror.keep import Kept
from mailmirror.lease import Hold, Pace
from mailmirror.model import Attachment, Change, Message, Policy, Receipt
from mailmirror.slice import Slice, Write

from tests.killing import Killed, doomed
from tests.meanwhile import Meanwhile
from tests.world import ADA, World, mail

LARGE = "All work and no play. " * 20_000
STORE = Kept(attachments="store")


def letter(text: str) -> str:
    """A text too large for a document."""
    return f"{text} {LARGE}"


def connected(kept: Kept | None = None) -> World:
    """A connected mailbox without mail."""
    world = World(kept=kept)
    world.connect()
    return world


def held(world: World, owner: str = "worker") -> Hold:
    """Take the mailbox's lease."""
    return Hold(world.store, world.accounts, world.blobs, world.clock, Pace(), world.kept, world.state(), owner)


def fetched(hold: Hold, message_id: str, text: str, *files: bytes) -> Message:
    """A message as it comes from Gmail, its objects written."""
    message = Message(message_id, "t", frozenset({"INBOX"}), 1, hold.clock.now())
    attached = [File(Attachment("1", "a", "a/b", len(data)), Part(data, size=len(data))) for data in files]
    assert hold.keeper is not None
    kept = hold.keeper(message, Content(text=(TextPart(Part(text.encode())),), files=tuple(attached)), nothing)
    assert isinstance(kept, Message)
    return kept


def nothing(attachment_id: str) -> bytes | None:
    """Gmail keeps nothing back."""
    raise AssertionError(attachment_id)


def commit(
    hold: Hold, put: Sequence[Message] = (), gone: Sequence[str] = (), *, touch: str = "", release: bool = False
) -> None:
    """Commit what the mirror would: messages written, messages removed, and one whose labels change."""
    known = {path[1] for path in hold.documents([]) or hold.store.below(ADA, limit=1_000) if path[0] == "messages"}
    writes = [Write("put", ("messages", message.id), to_document(message)) for message in put]
    writes += [Write("delete", ("messages", message_id)) for message_id in gone]
    writes += [Write("merge", ("messages", touch), {"labelIds": ["INBOX"]})] if touch else []
    anew = [message.id for message in put if message.id in known]
    part = Slice(
        writes=tuple(writes),
        changes=tuple(Change("messageAdded", message.id, "t") for message in put),
        deleted_blobs=(*anew, *gone),
    )
    hold.commit(hold.mailbox, part, release=release)


def fine(world: World) -> None:
    """Every object that a message names is there, and no other."""
    named = {name for message in world.documents("messages").values() for name in message["objects"]}
    assert world.blobs.objects.keys() == named


# Shared objects


def test_a_shared_object_goes_with_the_last_message_that_names_it() -> None:
    """An object stays as long as one message names it, whichever was there first, and goes with the last one."""
    world = connected()
    ids = [world.ada.deliver(mail(f"Number {number}", text=LARGE)) for number in range(3)]
    world.notify()
    assert len(world.blobs.objects) == 1
    for message_id in (ids[0], ids[2]):
        world.ada.delete([message_id])
        world.notify()
        assert len(world.blobs.objects) == 1
        assert world.differences() == []
    world.ada.delete([ids[1]])
    world.notify()
    assert world.blobs.objects == {}
    assert world.differences() == []


def test_messages_that_share_an_object_and_go_together() -> None:
    """When all messages that name an object leave in one commit, it goes, unless one comes in that commit that does."""
    world = connected()
    hold = held(world)
    commit(hold, [fetched(hold, name, LARGE) for name in "ab"])
    commit(hold, [fetched(hold, "c", LARGE)], ["a", "b"])
    assert len(world.blobs.objects) == 1
    fine(world)
    commit(hold, gone=["c"])
    assert world.blobs.objects == {}


def test_a_message_written_anew_with_the_same_content_keeps_its_objects() -> None:
    """A run that fetches everything again writes every object anew, and all of them stay."""
    world = connected(STORE)
    for text in ("a", "b", "b"):
        world.ada.deliver(mail(text, text=letter(text)))
    world.notify()
    before = dict(world.blobs.written)
    world.app.trigger_sync(ADA, "full", 50)
    world.work()
    assert len(before) == 2
    assert world.blobs.written.keys() == before.keys()
    assert all(version > before[name] for name, version in world.blobs.written.items())
    assert world.differences() == []
    fine(world)


def test_a_message_written_anew_with_other_content_leaves_what_it_had() -> None:
    """What a message named before, and does not name any more, goes in the commit that writes it anew."""
    world = connected(STORE)
    hold = held(world)
    commit(hold, [fetched(hold, "a", LARGE, b"1", b"2")])
    commit(hold, [fetched(hold, "a", letter("b"), b"2", b"3")])
    fine(world)
    assert len(world.blobs.objects) == 3


def test_a_message_that_is_stripped_leaves_its_objects() -> None:
    """Where the policy takes bodies away their objects go, and come back with them."""
    world = connected()
    for number in range(2):
        world.ada.deliver(mail(f"Number {number}", text=LARGE))
    world.notify()
    for policy, objects in ((Policy(bodies=False), 0), (Policy(), 1)):
        world.app.connect(ADA, policy)
        world.work()
        assert len(world.blobs.objects) == objects
        assert world.differences(policy=policy) == []
        fine(world)


def test_attachments_are_stored_once_per_content() -> None:
    """With ATTACHMENTS=store an attachment that many messages have is one object, which goes with the last of them."""
    world = connected(STORE)
    hold = held(world)
    for name in "abc":
        commit(hold, [fetched(hold, name, "Hi.", b"logo", name.encode())])
    assert sorted(world.blobs.objects.values()) == [b"a", b"b", b"c", b"logo"]
    for name in "abc":
        assert b"logo" in world.blobs.objects.values()
        commit(hold, gone=[name])
        fine(world)
    assert world.blobs.objects == {}


# What is in hand


def test_an_object_that_is_in_hand_is_spared() -> None:
    """An object that was written for a message still to be committed is not deleted with another one that had it, in a
    commit before, however many there are in between.
    """
    world = connected()
    hold = held(world)
    commit(hold, [fetched(hold, "a", LARGE)])
    coming = fetched(hold, "b", LARGE)
    commit(hold, gone=["a"])
    assert len(world.blobs.objects) == 1
    commit(hold, [fetched(hold, "c", letter("c"))])
    commit(hold, [coming])
    fine(world)
    commit(hold, gone=["b"], release=True)
    fine(world)


def test_a_message_that_moves_keeps_its_objects() -> None:
    """A message that is fetched, removed from where it was in one commit and written in the next keeps its objects."""
    world = connected()
    hold = held(world)
    commit(hold, [fetched(hold, "a", LARGE)])
    moving = fetched(hold, "a", LARGE)
    commit(hold, touch="a")
    commit(hold, gone=["a"])
    commit(hold, [moving], release=True)
    fine(world)
    assert len(world.blobs.objects) == 1


@pytest.mark.parametrize("release", [False, True])
def test_what_was_written_and_not_mirrored_goes_with_the_lease(release: bool) -> None:
    """An object that was written for a message which is not mirrored after all, or that was spared for such a one, goes
    when the lease is given back: nothing is in hand any more. Not before.
    """
    world = connected()
    hold = held(world)
    commit(hold, [fetched(hold, "a", LARGE), fetched(hold, "k", letter("k"))])
    fetched(hold, "b", LARGE)
    fetched(hold, "c", letter("c"))
    fetched(hold, "k", letter("k"))
    commit(hold, gone=["a"])
    assert len(world.blobs.objects) == 3
    commit(hold, release=release)
    assert len(world.blobs.objects) == (1 if release else 3)
    if release:
        fine(world)


def test_a_bucket_that_does_not_answer_does_not_keep_the_lease() -> None:
    """A turn that has nothing to do but to clear away ends even if Cloud Storage does not answer."""
    world = connected()
    hold = held(world)
    fetched(hold, "a", LARGE)

    def silent(name: str) -> int | None:
        raise StoreUnavailable("The bucket did not answer.")

    world.blobs.version = silent  # type: ignore[method-assign]
    commit(hold, release=True)
    lease = world.store.lease(ADA)
    assert lease is not None
    assert lease.free(world.clock.now())


def test_the_lease_is_kept_however_long_an_object_takes() -> None:
    """Nobody can take the lease while a large object is written, piece by piece, though it takes many times as long."""
    world = connected(STORE)
    put, sent = world.blobs.put, count()

    def slowly(name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        def each() -> Iterator[bytes]:
            for piece in pieces:
                lease = world.sqlite.lease(ADA)
                assert lease is not None
                world.clock.advance(75)
                assert not lease.free(world.clock.now())
                next(sent)
                yield piece

        return put(name, each(), content_type, gzip=gzip)

    world.blobs.put = slowly  # type: ignore[method-assign]
    hold = held(world)
    commit(hold, [fetched(hold, "a", "".join(map(str, range(300_000))), bytes(2_000_000))], release=True)
    assert next(sent) > 10
    fine(world)


def test_a_refused_commit_deletes_nothing() -> None:
    """When a commit is refused, what it would have removed stays, whole."""
    world = connected()
    hold = held(world)
    commit(hold, [fetched(hold, "a", LARGE)])
    known = Write("create", ("messages", "a"), {"id": "a"})
    with pytest.raises(DocumentExists):
        hold.commit(hold.mailbox, Slice((Write("delete", ("messages", "b")), known), deleted_blobs=("a",)))
    fine(world)
    world.clock.advance(121)
    other = held(world, "other")
    with pytest.raises(LeaseLost):
        commit(hold, gone=["a"])
    fine(world)
    commit(other, gone=["a"])
    assert world.blobs.objects == {}


def test_a_message_leaves_only_when_its_objects_can() -> None:
    """While Cloud Storage does not answer a message with objects does not leave the mirror; it is tried again."""
    world = connected()
    large = world.ada.deliver(mail("Long", text=LARGE))
    assert world.notify() == 204
    world.ada.delete([large])
    before, version = world.state().cursor, world.blobs.version

    def silent(name: str) -> int | None:
        raise StoreUnavailable("The bucket did not answer.")

    world.blobs.version = silent  # type: ignore[method-assign]
    assert world.notify() == 503
    assert world.documents("messages").keys() == {large}
    assert world.state().cursor == before
    world.blobs.version = version  # type: ignore[method-assign]
    assert world.notify() == 204
    assert world.blobs.objects == {}
    assert world.differences() == []


# Others


@pytest.mark.parametrize("call", ["commit", "named_objects"])
def test_what_another_worker_wrote_meanwhile_survives(call: str) -> None:
    """A worker that is slow after its commit does not delete what the next holder of the lease has written since, under
    the same name.
    """
    world = connected()
    first = world.ada.deliver(mail("First", text=LARGE))
    world.notify()
    world.ada.delete([first])
    other = world.worker("other")

    def meanwhile() -> None:
        world.clock.advance(121)
        world.ada.deliver(mail("Second", text=LARGE))
        assert world.notify(app=other) == 204

    store = world.store
    world.store = Meanwhile(store, call, meanwhile)
    late = world.worker("late")
    world.store = store
    world.notify(app=late)
    assert len(world.documents("messages")) == 1
    assert world.differences() == []
    fine(world)


@pytest.mark.parametrize("committed", [False, True])
def test_a_late_worker_takes_nothing_back_from_the_next_holder(committed: bool) -> None:
    """A worker that lost its lease, and has since replaced an object of the next holder's, leaves it: it is that
    holder's object, too, whether its message is mirrored already or about to be.
    """
    world = connected()
    late = held(world, "late")
    world.clock.advance(121)
    other = held(world, "other")
    message = fetched(other, "a", LARGE)
    if committed:
        commit(other, [message])
    # As if it had begun before its lease expired.
    late._renewed_at = world.clock.now()
    fetched(late, "b", LARGE)
    with pytest.raises(LeaseLost):
        commit(late)
    if not committed:
        commit(other, [message])
    fine(world)
    assert len(world.blobs.objects) == 1


@pytest.mark.parametrize("gone", [False, True])
def test_what_a_late_worker_writes_into_a_purge_is_taken_back(gone: bool) -> None:
    """A worker that wakes after its lease has expired, writes an object and finds the mailbox purged, or being purged
    with all its objects deleted, deletes what it wrote.
    """
    world = connected()
    hold = held(world, "late")
    commit(hold, [fetched(hold, "a", LARGE)])
    world.clock.advance(121)
    assert world.store.want(world.state(), "purged", due_at=world.clock.now())
    if gone:
        assert isinstance(world.worker("purger").delete(ADA, 50), Receipt)
    else:
        taker = held(world, "purger")
        assert taker.mailbox.wanted == "purged"
    hold._renewed_at = world.clock.now()
    fetched(hold, "b", letter("b"))
    with pytest.raises((LeaseLost, UnknownMailbox)):
        commit(hold)
    if gone:
        assert world.blobs.objects == {}
    else:
        # What a document names is left to the purge.
        fine(world)


def test_what_a_late_worker_writes_into_the_next_life_stays() -> None:
    """Where the mailbox was connected again since, its objects are not touched."""
    world = connected()
    hold = held(world, "late")
    world.clock.advance(121)
    other = world.worker("other")
    assert isinstance(other.delete(ADA, 50), Receipt)
    world.ada.deliver(mail("Long", text=LARGE))
    world.app.connect(ADA, None)
    world.work()
    hold._renewed_at = world.clock.now()
    (text,) = [message["body"] for message in world.documents("messages").values()]
    assert text["stored"] == "storage"
    fetched(hold, "b", f"{LARGE}\r\n")
    with pytest.raises((LeaseLost, UnknownMailbox)):
        commit(hold)
    assert world.differences() == []
    assert len(world.blobs.objects) == 1


# Death


@pytest.mark.parametrize("after", [False, True])
def test_a_worker_killed_at_any_call_leaves_only_what_nobody_names(after: bool) -> None:
    """Killed at any call of a turn that brings, removes and shares objects, a worker never leaves a message without its
    object; what it leaves beside that nobody names, and it goes with the mailbox.
    """
    for number in count():
        world = connected(STORE)
        old = [world.ada.deliver(mail(f"Old {n}", text=letter(text))) for n, text in enumerate("aab")]
        world.notify()
        world.ada.delete([old[0], old[2]])
        world.ada.deliver(mail("New", text=letter("a")))
        world.ada.deliver(mail("New too", text=letter("c")))
        calls = count()

        def when(name: str, *, after: bool, number: int = number, now: bool = after, calls: Any = calls) -> bool:
            return after == now and next(calls) == number

        with suppress(Killed):
            world.notify(app=doomed(world, when))
        killed = next(calls) > number
        named = {name for message in world.documents("messages").values() for name in message["objects"]}
        assert named <= world.blobs.objects.keys()
        world.clock.advance(121)
        world.sweep()
        assert world.differences() == []
        assert len(world.orphans()) <= 2
        if not killed:
            fine(world)
            return
        assert isinstance(world.app.delete(ADA, 50), Receipt)
        assert world.blobs.objects == {}


# The policy of a lease


def test_the_policy_is_that_of_today_within_what_the_deployment_keeps() -> None:
    """A lease goes by the mailbox's policy as it is on its day, and keeps no bodies where the deployment or the policy
    leaves them out; another day or policy holds from the moment the mailbox is read again.
    """
    world = connected()
    world.app.connect(ADA, Policy(newest_days=7))
    world.work()
    hold = held(world)
    today = Policy(newest_days=7).at(world.clock.now())
    assert hold.policy == today
    assert today.since is not None
    assert hold.keeper is not None
    world.clock.advance(24 * 60 * 60)
    assert hold.policy == today
    hold.refresh()
    assert hold.policy == Policy(newest_days=7).at(world.clock.now()) != today
    for kept, policy, keeps in (
        (Kept("metadata"), Policy(), False),
        (Kept(), Policy(bodies=False), False),
        (Kept("metadata", "store"), Policy(bodies=False), False),
        (Kept(), Policy(), True),
    ):
        world = World(kept=kept)
        world.connect(policy)
        hold = held(world)
        assert hold.policy == replace(policy, bodies=keeps)
        assert (hold.keeper is not None) == keeps
