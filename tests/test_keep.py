"""Keeping: text in the document or in the bucket, never too large and never lost in silence; attachments as asked."""

import gzip
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.attachments import ATTACHMENTS_BYTES, weigh_attachment
from mailmirror.content import INLINE_BYTES, Content, File, Part, TextPart
from mailmirror.documents import to_document
from mailmirror.errors import GmailUnavailable, LeaseLost, StoreUnavailable
from mailmirror.keep import Keeper, Kept
from mailmirror.model import Attachment, AttachmentKind, Body, Failed, Headers, Message, Policy
from mailmirror.slice import MAX_DOCUMENT, weigh

from tests.blobs import MemoryBlobs

ADA = "ada@example.com"
NOW = datetime(2026, 11, 20, 12, tzinfo=UTC)
ALL = Policy()
NOTHING = Kept()
STORE = Kept(attachments="store")
SEEN = Message("m", "t", frozenset({"INBOX"}), 7, NOW, 123, "Hi.")
# Texts on both sides of the limit, in one, two, three and four bytes a character.
TEXTS = st.builds(
    lambda unit, size: unit * (size // len(unit.encode())),
    st.sampled_from(["x", "ä", "漢", "\N{GRINNING FACE}", 'a"\\\n']),
    st.sampled_from([0, 1_000, 99_999, 100_000, 100_004, 199_999, 200_000, 200_004, 500_000]),
)


def plain(text: str = "") -> TextPart:
    """A part of plain text."""
    return TextPart(Part(text.encode(), size=len(text)))


def html(text: str = "") -> TextPart:
    """A part of HTML."""
    return replace(plain(text), html=True)


def said(text: str = "", markup: str | None = None) -> Content:
    """The content of a message with a text and maybe HTML."""
    return Content(text=(plain(text),), html=() if markup is None else (html(markup),))


def behind(attachment_id: str, *, markup: bool = False, size: int = 9) -> TextPart:
    """A part of text that Gmail keeps back."""
    return TextPart(Part(attachment_id=attachment_id, size=size), html=markup)


def attached(
    data: bytes = b"", name: str = "a.txt", *, behind: str = "", size: int | None = None, kind: AttachmentKind = "file"
) -> File:
    """An attachment, its bytes in hand or kept back."""
    size = len(data) if size is None else size
    return File(Attachment("1", name, "text/plain", size, kind), Part(data, behind, size))


def name_of(data: bytes) -> str:
    """The name of the object that holds this."""
    return f"{ADA}/{sha256(data).hexdigest()}"


def body_of(text: str, markup: str = "") -> bytes:
    """The object of a body, as README describes it."""
    return json.dumps({"text": text, "html": markup}, ensure_ascii=False).encode()


@dataclass
class Told(MemoryBlobs):
    """Storage, and all that happens, in its order."""

    told: list[str] = field(default_factory=list)

    def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        self.told.append(f"put {name}")
        return super().put(name, pieces, content_type, gzip=gzip)

    def renew(self) -> None:
        """The lease is renewed."""
        if self.told[-1:] != ["renew"]:
            self.told.append("renew")

    def writing(self, message_id: str, name: str) -> None:
        """Somebody is told of an object."""
        self.told.append(f"{message_id} writes {name}")


def nothing(attachment_id: str) -> bytes | None:
    """Gmail, which is asked for nothing."""
    raise AssertionError(f"{attachment_id} was fetched.")


def having(**parts: bytes | None) -> Callable[[str], bytes | None]:
    """Gmail, which has these parts."""
    return lambda attachment_id: parts[attachment_id]


def keep(
    content: Content,
    blobs: MemoryBlobs | None = None,
    *,
    fetch: Callable[[str], bytes | None] = nothing,
    kept: Kept = NOTHING,
    policy: Policy = ALL,
    message: Message = SEEN,
) -> Message:
    """Keep a message's content."""
    answer = ask(content, blobs, fetch=fetch, kept=kept, policy=policy, message=message)
    assert isinstance(answer, Message)
    return answer


def ask(
    content: Content,
    blobs: MemoryBlobs | None,
    *,
    fetch: Callable[[str], bytes | None],
    kept: Kept = NOTHING,
    policy: Policy = ALL,
    message: Message = SEEN,
) -> Message | Failed:
    """Ask for a message's content to be kept."""
    told = blobs if isinstance(blobs, Told) else Told()
    return Keeper(ADA, policy, blobs, kept, told.renew, told.writing)(message, content, fetch)


# Bodies


def test_all_that_the_content_says_is_in_the_message() -> None:
    """Headers, text, HTML, protection and what is cut come from the content, all else from the message."""
    content = replace(
        said("Hi.", "<p>Hi.</p>"), headers=Headers(subject="S"), protection="signed", truncated=("headers.to",)
    )
    message = replace(SEEN, truncated=("snippet",))
    assert keep(content, message=message) == replace(
        SEEN,
        headers=Headers(subject="S"),
        body=Body("Hi.", "<p>Hi.</p>"),
        protection="signed",
        truncated=("headers.to", "snippet"),
    )


def test_small_body() -> None:
    """A body that fits stays in the document, with or without a bucket, up to the very limit."""
    blobs = MemoryBlobs()
    for text, markup in (("Hi.", ""), ("x" * 100_000, "y" * (INLINE_BYTES - 100_000)), ("ä" * 100_000, "")):
        for bucket in (blobs, None):
            assert keep(said(text, markup), bucket).body == Body(text, markup)
    assert blobs.objects == {}


def test_large_body_with_a_bucket() -> None:
    """A body beyond the limit is one object as a whole; the document says where and names it."""
    blobs = MemoryBlobs()
    text, markup = "ä" * 60_000 + '"\\\n\t\x00\x7f\u2028', "<p>" + "y" * 100_000
    kept = keep(said(text, markup), blobs)
    name = name_of(body_of(text, markup))
    assert kept == replace(SEEN, body=Body(stored="storage", uri=f"memory://{name}"), objects=(name,))
    assert blobs.objects == {name: body_of(text, markup)}
    assert blobs.types == {name: "application/json"}
    assert json.loads(blobs.objects[name]) == {"text": text, "html": markup}


def test_a_large_body_is_packed_the_same_each_time() -> None:
    """What is written of a large body is gzip'ed, and byte for byte the same whenever it is written."""

    @dataclass
    class Sent(MemoryBlobs):
        sent: list[bytes] = field(default_factory=list)

        def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
            self.sent.append(b"".join(pieces))
            assert gzip
            return name

    blobs = Sent()
    for _ in range(2):
        keep(said("x" * 300_000), blobs)
    first, second = blobs.sent
    assert first == second
    assert len(first) < 2_000
    assert gzip.decompress(first) == body_of("x" * 300_000)


def test_the_same_body_is_the_same_object() -> None:
    """Messages of a mailbox with one body share its object, which is written anew for each; those of another mailbox,
    and other bodies, have their own.
    """
    blobs = Told()
    content = said("x" * 300_000)
    for message_id in ("m", "n"):
        keep(content, blobs, message=replace(SEEN, id=message_id))
    first = name_of(body_of("x" * 300_000))
    assert list(blobs.objects) == [first]
    assert blobs.writes == 2
    Keeper("bob@example.com", ALL, blobs, NOTHING, blobs.renew, blobs.writing)(SEEN, content, nothing)
    keep(said("y" * 300_000), blobs)
    assert len(blobs.objects) == 3


def test_large_body_without_a_bucket() -> None:
    """Without a bucket a body is cut to the limit and marked as cut, text and HTML each for itself."""
    kept = keep(said("x" * 300_000))
    assert kept.body == Body("x" * INLINE_BYTES, truncated=True)
    assert (kept.truncated, kept.objects) == (("body.text",), ())
    half = INLINE_BYTES // 2
    kept = keep(said("x" * 300_000, "y" * 300_000))
    assert (kept.body, kept.truncated) == (
        Body("x" * half, "y" * half, truncated=True),
        ("body.html", "body.text"),
    )
    kept = keep(said("x" * 10, "y" * 300_000))
    assert kept.body == Body("x" * 10, "y" * (INLINE_BYTES - 10), truncated=True)
    assert kept.truncated == ("body.html",)


def test_what_was_cut_before_is_marked_in_the_body() -> None:
    """A body of which the payload did not give everything is marked so, wherever it is; other fields do not mark it."""
    for size in (3, 300_000):
        for cut, marked in (("body.text", True), ("body.html", True), ("headers.to", False)):
            kept = keep(replace(said("x" * size), truncated=(cut,)), MemoryBlobs())
            assert (kept.body.truncated, kept.truncated) == (marked, (cut,))


def test_rendered_text() -> None:
    """Where there is HTML alone, its text is rendered, and the body says so, inline and in the bucket."""
    for words in ("Hi.", "Hi. " * 60_000):
        blobs = MemoryBlobs()
        part = html(f"<p>{words}</p>")
        kept = keep(Content(text=(part,), html=(part,)), blobs)
        assert kept.body.rendered
        if kept.body.stored == "storage":
            (data,) = blobs.objects.values()
            assert "Hi. Hi." in json.loads(data)["text"]
        else:
            assert kept.body.text.strip() == "Hi."
    assert not keep(said("Hi.")).body.rendered


# What Gmail keeps back


def test_text_that_gmail_keeps_back_is_fetched() -> None:
    """Text behind an attachment id is fetched, each part once, and read as if it had been there."""
    asked: list[str] = []

    def fetch(attachment_id: str) -> bytes:
        asked.append(attachment_id)
        return {"a": "Grüße".encode(), "b": b"<p>Hi.</p>"}[attachment_id]

    markup = behind("b", markup=True)
    content = Content(text=(behind("a"), plain("!"), markup), html=(behind("a"), plain("!"), markup))
    kept = keep(content, fetch=fetch)
    assert asked == ["a", "b"]
    assert kept.body.text.startswith("Grüße\n!\n")
    assert kept.body.html == "<pre>Grüße</pre>\n<pre>!</pre>\n<p>Hi.</p>"
    assert (kept.truncated, kept.body.truncated) == ((), False)


def test_large_text_that_gmail_keeps_back() -> None:
    """Text behind an attachment id that is too large for the document goes to the bucket."""
    blobs = MemoryBlobs()
    kept = keep(Content(text=(behind("a"),)), blobs, fetch=having(a=b"x" * 300_000))
    assert kept.body.stored == "storage"
    assert list(blobs.objects.values()) == [body_of("x" * 300_000)]


@pytest.mark.parametrize("data", [None, b""], ids=["nothing", "no bytes"])
def test_text_that_gmail_does_not_have(data: bytes | None) -> None:
    """A message whose text Gmail names and does not have fails with a sentence, and nothing is written for it."""
    blobs = MemoryBlobs()
    content = Content(text=(plain("x" * 300_000), behind("a")), files=(attached(b"1"),))
    answer = ask(content, blobs, fetch=having(a=data), kept=STORE)
    assert isinstance(answer, Failed)
    assert answer.reason.endswith(".")
    assert blobs.objects == {}


def test_gmail_that_does_not_answer() -> None:
    """That Gmail did not answer is an error, not a message without its text."""

    def fetch(attachment_id: str) -> bytes | None:
        raise GmailUnavailable("500")

    with pytest.raises(GmailUnavailable):
        keep(Content(text=(behind("a"),)), fetch=fetch)


# What is not wanted


@pytest.mark.parametrize("policy", [Policy(exclude_label_ids=("INBOX",)), Policy(since=NOW + timedelta(seconds=1))])
def test_nothing_is_fetched_or_written_for_a_message_that_is_not_wanted(policy: Policy) -> None:
    """For a message that the policy leaves out, by label or date, nothing is fetched or written; what is in hand is
    kept as far as it fits, and what is missing named.
    """
    blobs = MemoryBlobs()
    for content, missing in (
        (said("Hi."), ()),
        (said("x" * 300_000), ("body.text",)),
        (Content(text=(behind("a"), plain("Hi."))), ("body.text",)),
        (Content(text=(plain("Hi."),), html=(behind("a", markup=True),)), ("body.html",)),
        (replace(said("Hi."), files=(attached(b"1"), attached(behind="a"))), ("attachments.uri",)),
    ):
        kept = keep(content, blobs, kept=STORE, policy=policy)
        assert kept.truncated == missing
        assert kept.body.truncated == any(name.startswith("body") for name in missing)
        assert kept.body.text[-3:] in ("Hi.", "xxx")
        assert (kept.objects, [a.uri for a in kept.attachments]) == ((), [None] * len(content.files))
    assert blobs.objects == {}


# Attachments


def test_attachments_are_told_and_not_stored() -> None:
    """Without ATTACHMENTS=store attachments are told of, and their bytes neither fetched nor written."""
    blobs = MemoryBlobs()
    files = (attached(b"1"), attached(behind="a"))
    kept = keep(replace(said("Hi."), files=files), blobs)
    assert kept.attachments == tuple(file.attachment for file in files)
    assert (kept.objects, kept.truncated, blobs.objects) == ((), (), {})


def test_stored_attachments() -> None:
    """With ATTACHMENTS=store the bytes of each attachment are an object of its own, whether they were in hand or had to
    be fetched; the document says where.
    """
    blobs = MemoryBlobs()
    large = bytes(range(256)) * 4_000
    files = (attached(b"in hand"), attached(behind="a", name="b.bin"), attached(b"", name="empty"))
    kept = keep(replace(said("x" * 300_000), files=files), blobs, fetch=having(a=large), kept=STORE)
    for attachment, file, data in zip(kept.attachments, files, (b"in hand", large, b""), strict=True):
        assert attachment == replace(file.attachment, uri=f"memory://{name_of(data)}")
        assert blobs.objects[name_of(data)] == data
        assert blobs.types[name_of(data)] == "application/octet-stream"
    assert kept.objects == tuple(sorted(blobs.objects))
    assert len(kept.objects) == 4
    assert kept.truncated == ()


def test_attachments_once_per_content() -> None:
    """Attachments with the same bytes are one object, named once, in a message and over all messages of a mailbox."""
    blobs = Told()
    files = (attached(b"1", name="a"), attached(behind="a", name="b"), attached(b"2", name="c"))
    content = replace(said(), files=files)
    for message_id in ("m", "n"):
        kept = keep(content, blobs, fetch=having(a=b"1"), kept=STORE, message=replace(SEEN, id=message_id))
        assert [attachment.uri for attachment in kept.attachments] == [
            f"memory://{name_of(data)}" for data in (b"1", b"1", b"2")
        ]
        assert kept.objects == tuple(sorted({name_of(b"1"), name_of(b"2")}))
    assert len(blobs.objects) == 2
    assert blobs.writes == 4


@pytest.mark.parametrize(
    "file",
    [attached(behind="a"), attached(behind="b", size=9), attached(size=9), attached(kind="message")],
    ids=["gmail has none", "gmail sends none", "no way to it", "a message within"],
)
def test_attachments_that_cannot_be_had(file: File) -> None:
    """An attachment whose bytes Gmail does not have is told of all the same, and that they are not kept is named."""
    blobs = MemoryBlobs()
    content = replace(said("Hi."), files=(file, attached(b"2")))
    kept = keep(content, blobs, fetch=having(a=None, b=b""), kept=STORE)
    assert [attachment.uri for attachment in kept.attachments] == [None, f"memory://{name_of(b'2')}"]
    assert (kept.truncated, kept.body.truncated) == (("attachments.uri",), False)
    assert list(blobs.objects) == [name_of(b"2")]


def test_more_attachments_than_a_document_can_name() -> None:
    """Of very many attachments the first are stored, all are told of, and the document has room for the names."""
    blobs = MemoryBlobs()
    files = tuple(attached(str(number).encode(), f"{number}.txt") for number in range(1_000))
    message = replace(SEEN, label_ids=frozenset(f"Label_{number:020}" for number in range(10_000)))
    kept = keep(replace(said("x" * INLINE_BYTES), files=files), blobs, kept=STORE, message=message)
    stored = [attachment.uri is not None for attachment in kept.attachments]
    assert stored == sorted(stored, reverse=True)
    assert 100 < sum(stored) < 1_000
    assert kept.truncated == ("attachments.uri",)
    assert len(kept.objects) == sum(stored)
    assert sum(map(weigh_attachment, kept.attachments)) + sum(map(len, kept.objects)) <= ATTACHMENTS_BYTES
    assert weigh(to_document(kept)) < MAX_DOCUMENT


# The bucket and the lease


def test_the_lease_is_renewed_before_anything_that_takes_time() -> None:
    """Before each fetch and before the first piece of each write the lease is renewed, and who keeps the books is told
    of the object before it is written.
    """
    blobs = Told()

    def fetch(attachment_id: str) -> bytes:
        blobs.told.append(f"fetch {attachment_id}")
        return attachment_id.encode() * 300_000

    content = Content(text=(behind("a"),), files=(attached(behind="b"),))
    keep(content, blobs, fetch=fetch, kept=STORE)
    body, file = name_of(body_of("a" * 300_000)), name_of(b"b" * 300_000)
    assert [what for what in blobs.told if what != "renew"] == [
        "fetch a",
        f"m writes {body}",
        f"put {body}",
        "fetch b",
        f"m writes {file}",
        f"put {file}",
    ]
    for number, what in enumerate(blobs.told):
        if what.startswith("fetch"):
            assert blobs.told[number - 1] == "renew"
        if what.startswith("put"):
            assert blobs.told[number + 1] == "renew"


def test_the_lease_is_renewed_while_a_large_object_is_written() -> None:
    """Between the pieces of an object the lease is renewed, and one that is lost ends the write."""

    class Slow(MemoryBlobs):
        """Storage that takes its time for each piece."""

        def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
            renewals.clear()
            count = len(list(pieces))
            assert len(renewals) >= count > 5
            return name

    renewals: list[int] = []
    content = replace(said("".join(map(str, range(500_000)))), files=(attached(bytes(3_000_000)),))
    keeper = Keeper(ADA, ALL, Slow(), STORE, lambda: renewals.append(1), lambda message_id, name: None)
    keeper(SEEN, content, nothing)

    def lost() -> None:
        raise LeaseLost("Another worker took the lease.")

    with pytest.raises(LeaseLost):
        Keeper(ADA, ALL, MemoryBlobs(), STORE, lost, lambda message_id, name: None)(SEEN, content, nothing)


def test_bucket_that_does_not_answer() -> None:
    """What could not be written is an error, not a message without it."""

    class Full(MemoryBlobs):
        """Storage that does not take anything."""

        def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
            raise StoreUnavailable("The bucket did not answer.")

    for content in (said("x" * 300_000), replace(said("Hi."), files=(attached(b"1"),))):
        with pytest.raises(StoreUnavailable):
            keep(content, Full(), kept=STORE)


def test_no_more_than_one_attachment_is_held() -> None:
    """Of the bytes that are fetched those of one attachment are held at a time."""
    held: list[bytearray] = []
    most = []

    class Data(bytes):
        """Bytes that say when they are gone."""

        def __del__(self) -> None:
            held.pop()

    def fetch(attachment_id: str) -> bytes:
        most.append(len(held))
        held.append(bytearray())
        return Data(attachment_id.encode())

    files = tuple(attached(behind=str(number)) for number in range(5))
    keep(replace(said("Hi."), files=files), MemoryBlobs(), fetch=fetch, kept=STORE)
    assert most == [0] * 5


@given(TEXTS, TEXTS, st.booleans(), st.booleans())
def test_nothing_is_lost_and_every_document_fits(text: str, markup: str, bucket: bool, kept_back: bool) -> None:
    """Whatever the body, the document can be stored and the text is in it or in the bucket, or the cut is marked."""
    blobs = MemoryBlobs()
    content = said(text, markup)
    if kept_back:
        sizes = len(text.encode()), len(markup.encode())
        content = Content(text=(behind("a", size=sizes[0]),), html=(behind("b", markup=True, size=sizes[1]),))
    fetch = having(a=text.encode(), b=markup.encode()) if kept_back else nothing
    kept = keep(content, blobs if bucket else None, fetch=fetch)
    body = kept.body
    assert weigh(to_document(kept)) < INLINE_BYTES + 10_000 < MAX_DOCUMENT
    if body.stored == "storage":
        name = name_of(body_of(text, markup))
        assert body == Body(stored="storage", uri=f"memory://{name}")
        assert json.loads(blobs.objects[name]) == {"text": text, "html": markup}
    else:
        assert blobs.objects == {}
        assert text.startswith(body.text)
        assert markup.startswith(body.html)
        assert body.truncated == ((body.text, body.html) != (text, markup)) == bool(kept.truncated)
    assert (body.stored == "storage") == (bucket and len((text + markup).encode()) > INLINE_BYTES)
