"""Large bodies: whole in Cloud Storage or cut in the document, never too large for it and never lost in silence."""

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.bodies import name, place
from mailmirror.content import INLINE_BYTES
from mailmirror.documents import to_document
from mailmirror.errors import StoreUnavailable
from mailmirror.model import Attachment, Body, Message, Policy
from mailmirror.slice import MAX_DOCUMENT, weigh

from tests.world import MemoryBlobs, World, mail

NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALL = Policy()
# Bodies on both sides of the limit, in one, two, three and four bytes a character.
TEXTS = st.builds(
    lambda unit, size: unit * (size // len(unit.encode())),
    st.sampled_from(["x", "ä", "漢", "\N{GRINNING FACE}", 'a"\\\n']),
    st.sampled_from([0, 1_000, 99_999, 100_000, 100_004, 199_999, 200_000, 200_004, 500_000]),
)


def message(text: str = "", html: str = "", *, truncated: bool = False) -> Message:
    """A message with this body."""
    return Message("m", "t", frozenset({"INBOX"}), 1, NOW, body=Body(text, html, truncated=truncated))


class FullBlobs(MemoryBlobs):
    """Storage that does not take anything."""

    def put(self, name: str, data: bytes, content_type: str) -> str:
        raise StoreUnavailable("The bucket did not answer.")


class DeafBlobs(MemoryBlobs):
    """Storage that cannot be asked."""

    def version(self, name: str) -> int | None:
        raise StoreUnavailable("The bucket did not answer.")


def test_small_body() -> None:
    """A body that fits stays as it is, with or without a bucket, up to the very limit."""
    blobs = MemoryBlobs()
    for body in (message("Hi."), message("x" * 100_000, "y" * (INLINE_BYTES - 100_000)), message(truncated=True)):
        assert place("ada@example.com", body, blobs, ALL) is body
        assert place("ada@example.com", body, None, ALL) is body
    assert blobs.objects == {}


def test_large_body_with_a_bucket() -> None:
    """A body beyond the limit goes to the bucket as a whole; the document says where."""
    blobs = MemoryBlobs()
    large = message("ä" * 60_000, "<p>" + "y" * 100_000)
    placed = place("ada@example.com", large, blobs, ALL)
    assert placed == replace(large, body=Body(stored="storage", uri="memory://ada@example.com/m.json"))
    assert list(blobs.objects) == [name("ada@example.com", "m")]
    stored = blobs.objects["ada@example.com/m.json"]
    assert json.loads(stored) == {"text": large.body.text, "html": large.body.html}
    assert "ä".encode() in stored


def test_large_body_again() -> None:
    """Fetching a message again replaces its object; another message, or mailbox, has its own."""
    blobs = MemoryBlobs()
    for text in ("x", "y"):
        place("ada@example.com", message(text * 300_000), blobs, ALL)
    place("ada@example.com", replace(message("z" * 300_000), id="n"), blobs, ALL)
    place("bob@example.com", message("z" * 300_000), blobs, ALL)
    assert {path: data[10:11] for path, data in blobs.objects.items()} == {
        "ada@example.com/m.json": b"y",
        "ada@example.com/n.json": b"z",
        "bob@example.com/m.json": b"z",
    }


@pytest.mark.parametrize("truncated", [True, False])
def test_large_body_that_gmail_cut(truncated: bool) -> None:
    """A body of which Gmail did not give everything is still marked so in the bucket."""
    placed = place("ada@example.com", message("x" * 300_000, truncated=truncated), MemoryBlobs(), ALL)
    assert placed.body.truncated == truncated


def test_large_body_without_a_bucket() -> None:
    """Without a bucket a body is cut to the limit and marked as cut."""
    placed = place("ada@example.com", message("x" * 300_000), None, ALL)
    assert placed == message("x" * INLINE_BYTES, truncated=True)


def test_no_body_where_the_policy_wants_none() -> None:
    """Without bodies in the policy nothing of a body is kept, nor written anywhere, nor what is attached to it."""
    blobs = MemoryBlobs()
    for text in ("Hi.", "x" * 300_000):
        large = replace(message(text), attachments=(Attachment("1", "notes.txt", "text/plain", 3),))
        placed = place("ada@example.com", large, blobs, Policy(bodies=False))
        assert placed == replace(large, body=Body(stored="none"), attachments=())
    assert blobs.objects == {}


def test_no_object_for_a_message_that_is_not_wanted() -> None:
    """A large message that the policy leaves out, by label or date, is not written to the bucket."""
    blobs = MemoryBlobs()
    for policy in (Policy(exclude_label_ids=("INBOX",)), Policy(since=NOW + timedelta(seconds=1))):
        place("ada@example.com", message("x" * 300_000), blobs, policy)
    assert blobs.objects == {}


def test_bucket_that_does_not_answer() -> None:
    """A body that could not be written is an error, not a message without its body."""
    with pytest.raises(StoreUnavailable):
        place("ada@example.com", message("x" * 300_000), FullBlobs(), ALL)


def test_message_removed_while_the_bucket_does_not_answer() -> None:
    """A message leaves the mirror only when its body can leave with it: until then nothing is written, and it is tried
    again.
    """
    world = World()
    world.connect()
    large = world.ada.deliver(mail("Long", text="All work and no play. " * 20_000))
    assert world.notify() == 204
    world.ada.delete([large])
    deaf = world.worker("worker-2")
    deaf.engine.blobs = DeafBlobs()
    before = world.state().cursor
    assert world.notify(app=deaf) == 503
    assert world.documents("messages").keys() == {large}
    assert world.state().cursor == before
    assert world.notify() == 204
    assert world.blobs.objects == {}
    assert world.differences() == []


@given(TEXTS, TEXTS, st.booleans())
def test_nothing_is_lost_and_every_document_fits(text: str, html: str, bucket: bool) -> None:
    """Whatever the body, the document can be stored and the text is in it or in the bucket, or the cut is marked."""
    blobs = MemoryBlobs()
    placed = place("ada@example.com", message(text, html), blobs if bucket else None, ALL)
    body = placed.body
    assert weigh(to_document(placed)) < INLINE_BYTES + 10_000 < MAX_DOCUMENT
    if body.stored == "storage":
        assert body == Body(stored="storage", uri="memory://ada@example.com/m.json")
        assert json.loads(blobs.objects["ada@example.com/m.json"]) == {"text": text, "html": html}
    else:
        assert blobs.objects == {}
        assert text.startswith(body.text)
        assert html.startswith(body.html)
        assert body.truncated == ((body.text, body.html) != (text, html))
    assert (body.stored == "storage") == (bucket and len((text + html).encode()) > INLINE_BYTES)
