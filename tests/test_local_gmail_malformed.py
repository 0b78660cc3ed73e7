"""Broken mail is delivered and readable all the same, and Gmail's tree agrees with the truth."""

from __future__ import annotations

import base64
import importlib
import json
import random
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from local.gmail.clock import ManualClock
from local.gmail.mailbox import Mailbox
from local.gmail.payload import DEEPEST

BROKEN = {
    "empty": b"",
    "nul bytes": b"Subject: a\x00b\n\n\x00\x00text\x00",
    "no headers": b"just a text\nwithout anything\n",
    "headers only": b"Subject: nothing else",
    "raw eight bit header": "Subject: Grüße\nFrom: Jürgen <j@x>\n\nschön".encode(),
    "latin header": "Subject: Grüße\n\nschön".encode("latin-1"),
    "unknown charset": b"Content-Type: text/plain; charset=klingon\n\nsch\xc3\xb6n",
    "charset that is no text": b"Content-Type: text/plain; charset=base64\n\nabc",
    "charset with a nul": b'Content-Type: text/plain; charset="utf\x00-8"\n\nabc',
    "undefined charset": b"Content-Type: text/plain; charset=undefined\n\nabc",
    "wrong charset": b"Content-Type: text/plain; charset=utf-8\n\nsch\xf6n",
    "broken base64": b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\n###=not=base64",
    "cut base64": b"Content-Type: text/plain\nContent-Transfer-Encoding: base64\n\naGVsbG8gd29ybG",
    "broken quoted-printable": b"Content-Type: text/plain\nContent-Transfer-Encoding: quoted-printable\n\na=ZZ=\n=",
    "uuencoded rubbish": b"Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode\n\nbegin 644 x\n#86)",
    "no boundary": b"Content-Type: multipart/mixed\n\n--x\n\ntext\n--x--\n",
    "boundary never found": b"Content-Type: multipart/mixed; boundary=x\n\ntext\n",
    "boundary never closed": b"Content-Type: multipart/mixed; boundary=x\n\n--x\nContent-Type: text/html\n\n<b>hi",
    "empty parts": b"Content-Type: multipart/mixed; boundary=x\n\n--x\n--x\n\n--x--\n",
    "nonsense type": b"Content-Type: ;;;=\n\ntext",
    "broken parameters": b"Content-Type: text/plain; charset*0*=; name*1*=x''%ZZ; name*=nope''%\n\ntext",
    "broken file name": b"Content-Disposition: attachment; filename*=unknown''%FF%FE\n\ndata",
    "broken encoded words": b"Subject: =?utf-8?B?###?= =?nope?Q?=ff=?= =?utf-8?Q?a\n\nx",
    "lone surrogate": b"Subject: =?utf-16?B?2AA=?= =?unicode_escape?Q?=5Cud800?=\n\nx",
    "message in message": b"Content-Type: message/rfc822\n\nSubject: inner\n\ninner text\n",
    "delivery status": b"Content-Type: message/delivery-status\n\nReporting-MTA: x\n\nAction: failed\n",
    "deep nesting": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(60)
    )
    + b"Content-Type: text/plain\n\ndeep\n",
    "deeper than the parser": b"".join(
        b"Content-Type: multipart/mixed; boundary=b%d\n\n--b%d\n" % (level, level) for level in range(2000)
    ),
    "endless references": b"References: " + b"<a@b> " * 5000 + b"\n\nx",
}


def corpus() -> Iterator[Any]:
    """Every message CPython tests its own parser with."""
    try:
        package = importlib.import_module("test.test_email")
    except ImportError:
        return
    for path in sorted((Path(str(package.__file__)).parent / "data").glob("*")):
        yield pytest.param(path, id=path.name)


CORPUS = list(corpus())


def check(raw: bytes) -> None:
    """Deliver, read in every format and part by part, and compare the tree's texts and bytes with the truth's."""
    mailbox = Mailbox("a@x", clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), rng=random.Random(1))
    message_id = mailbox.deliver(raw)
    answers = [mailbox.get_message(message_id, form) for form in ("full", "raw", "minimal", "metadata")]
    answers += [mailbox.get_thread(message_id, "full"), mailbox.list_threads()]
    for answer in answers:
        json.dumps(answer)
    assert base64.urlsafe_b64decode(answers[1]["raw"]) == raw
    assert len(answers[0]["snippet"]) <= 200
    truth = mailbox.truth()["messages"][message_id]
    json.dumps(truth)
    parts = list(tree(answers[0]["payload"]))
    said = any(truth["body"][form].strip() for form in ("text", "html"))
    assert not said or any("data" in part["body"] for part in parts)
    assert len({part["partId"] for part in parts}) == len(parts)
    for body in (part["body"] for part in parts if "attachmentId" in part["body"]):
        attachment = mailbox.get_attachment(message_id, body["attachmentId"])
        assert len(base64.urlsafe_b64decode(attachment["data"])) == attachment["size"] == body["size"]


def tree(part: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A part and all below it."""
    yield part
    for child in part.get("parts", []):
        yield from tree(child)


@pytest.mark.parametrize("raw", BROKEN.values(), ids=BROKEN.keys())
def test_broken_mail_is_readable(raw: bytes) -> None:
    """However broken, a message is delivered, and every format answers with JSON and gives the source back."""
    check(raw)


@pytest.mark.skipif(not CORPUS, reason="this Python comes without its own test suite (test.test_email)")
@pytest.mark.parametrize("path", CORPUS)
def test_cpythons_own_bad_mail_is_readable(path: Path) -> None:
    """Every file CPython tests its email package with is delivered and readable in every format."""
    check(path.read_bytes())


def test_texts_and_attachments_are_told_apart() -> None:
    """Texts come inline, what has a file name or is no text by attachment id; the part ids are Gmail's."""
    raw = (
        b"Content-Type: multipart/mixed; boundary=m\n\n"
        b"--m\nContent-Type: multipart/alternative; boundary=a\n\n"
        b"--a\nContent-Type: text/plain\n\nplain\n--a\nContent-Type: text/html\n\n<b>html</b>\n--a--\n"
        b"--m\nContent-Type: text/plain; name=notes.txt\n\nnotes\n"
        b"--m\nContent-Type: image/png\nContent-Transfer-Encoding: base64\n\nAAAA\n"
        b"--m\nContent-Type: message/rfc822\n\nSubject: inner\nContent-Type: text/plain\n\ninner\n"
        b"--m--\n"
    )
    mailbox = Mailbox("a@x", clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), rng=random.Random(1))
    message_id = mailbox.deliver(raw)
    payload = mailbox.get_message(message_id)["payload"]
    alternative, notes, image, inner = payload["parts"]
    assert [part["partId"] for part in [payload, *payload["parts"], *alternative["parts"], *inner["parts"]]] == [
        "", "0", "1", "2", "3", "0.0", "0.1", "3.0",
    ]  # fmt: skip
    assert payload["body"] == {"size": 0}
    assert alternative["parts"][0]["body"] == {"size": 5, "data": "cGxhaW4="}
    assert (notes["filename"], notes["body"]["size"], "data" in notes["body"]) == ("notes.txt", 5, False)
    assert image["body"].keys() == notes["body"].keys() == inner["body"].keys() == {"attachmentId", "size"}
    assert image["body"]["size"] == 3
    assert mailbox.truth()["messages"][message_id]["body"] == {"text": "plain", "html": "<b>html</b>"}
    # A message within a message is whole behind its id.
    source = mailbox.get_attachment(message_id, inner["body"]["attachmentId"])
    assert base64.urlsafe_b64decode(source["data"]) == b"Subject: inner\nContent-Type: text/plain\n\ninner"


@pytest.mark.parametrize("newline", [b"\n", b"\r\n"])
def test_a_message_within_a_message_is_as_it_was_sent(newline: bytes) -> None:
    """The source of an attached message is the one that was sent: long headers, their folds, and its line ends."""
    inner = newline.join(
        [
            b"Received: from a.example by b.example with ESMTPS id 0123456789abcdef0123456789abcdef for <a@b.example>",
            b"Subject: folded",
            b"\tby its sender, " + b"and long " * 20,
            b"X-Eight: Gr\xc3\xbc\xc3\x9fe",
            b'Content-Type: multipart/mixed; boundary="i"',
            b"",
            b"--i",
            b"",
            b"sch\xf6n",
            b"--i--",
            b"",
        ]
    )
    raw = b"Content-Type: multipart/mixed; boundary=m\n\n--m\nContent-Type: message/rfc822\n\n".replace(b"\n", newline)
    mailbox = Mailbox("a@x", clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), rng=random.Random(1))
    message_id = mailbox.deliver(raw + inner + newline + b"--m--" + newline)
    (part,) = mailbox.get_message(message_id)["payload"]["parts"]
    source = mailbox.get_attachment(message_id, part["body"]["attachmentId"])
    assert base64.urlsafe_b64decode(source["data"]) == inner


def test_a_tree_is_no_deeper_than_json() -> None:
    """Messages within messages are shown down to a depth that every reader of JSON reaches."""
    raw = b"Content-Type: message/rfc822\n\n" * 150 + b"Subject: innermost\n\ntext\n"
    mailbox = Mailbox("a@x", clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), rng=random.Random(1))
    payload = json.loads(json.dumps(mailbox.get_message(mailbox.deliver(raw))["payload"]))
    assert len(list(tree(payload))) == DEEPEST + 1


@pytest.mark.parametrize(
    ("raw", "snippet"),
    [
        (b"\n  a\n\n b <c>\t& 'd'\n", "a b &lt;c&gt; &amp; &#x27;d&#x27;"),
        (b"Content-Type: text/html\n\n<style>p{}</style><p>Hi&nbsp;&amp; <b>bye</b></p>", "Hi &amp; bye"),
        (b"\n" + b"&" * 300, "&amp;" * 40),
        (b"Content-Type: image/png\n\nx", ""),
    ],
    ids=["text", "html", "long", "none"],
)
def test_snippets_are_short_escaped_text(raw: bytes, snippet: str) -> None:
    """One line of escaped text, from HTML if there is nothing else, cut at 200 characters but never in an entity."""
    mailbox = Mailbox("a@x", clock=ManualClock(datetime(2026, 1, 1, tzinfo=UTC)), rng=random.Random(1))
    assert mailbox.get_message(mailbox.deliver(raw), "minimal")["snippet"] == snippet
