"""Headers: what an application asks for, decoded, and never more than a document holds."""

import time
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from mailmirror.headers import HEADERS_BYTES, MAX_RECIPIENTS, RECIPIENT_BYTES, read_headers, recipients
from mailmirror.model import Address, Headers


def _read(**values: str) -> tuple[Headers, tuple[str, ...]]:
    return read_headers((name.strip("_").replace("_", "-"), value) for name, value in values.items())


def _whole(**values: str) -> Headers:
    read, truncated = _read(**values)
    assert truncated == ()
    return read


def test_headers() -> None:
    """Each header that an application asks for is of its type; others are left out."""
    read = _whole(
        from_="Bob <Bob@example.org>",
        to="alice@example.com, Carol <carol@example.com>",
        cc="c@example.org",
        bcc="team: d@example.org;",
        reply_to="r@example.org",
        subject="=?utf-8?q?Pl=C3=A4ne?=",
        date="Fri, 20 Nov 2026 13:00:00 +0100",
        message_id="<1@example.org>",
        in_reply_to="<0@example.org>",
        references="<z@example.org>\r\n <0@example.org>",
        x_other="x",
    )
    assert read == Headers(
        from_=Address("Bob", "bob@example.org"),
        to=(Address("", "alice@example.com"), Address("Carol", "carol@example.com")),
        cc=(Address("", "c@example.org"),),
        bcc=(Address("", "d@example.org"),),
        reply_to=(Address("", "r@example.org"),),
        subject="Pläne",
        date=datetime(2026, 11, 20, 12, tzinfo=UTC),
        message_id="<1@example.org>",
        in_reply_to=("<0@example.org>",),
        references=("<z@example.org>", "<0@example.org>"),
    )


def test_no_headers() -> None:
    """A message without headers has empty ones, and nothing is left out."""
    assert read_headers([]) == (Headers(), ())


def test_headers_that_come_again() -> None:
    """Of a header that comes again the first counts, but recipients are gathered."""
    again = [("subject", "true"), ("subject", "forged"), ("from", "a@b"), ("from", "c@d"), ("to", "e@f"), ("to", "g@h")]
    read, truncated = read_headers(again)
    assert (read.subject, read.from_) == ("true", Address("", "a@b"))
    assert read.to == (Address("", "e@f"), Address("", "g@h"))
    assert truncated == ()


def test_more_than_one_author() -> None:
    """The first of several authors is kept, and it is said that there are more."""
    read, truncated = _read(from_="Ann <a@b>, Bob <c@d>")
    assert read.from_ == Address("Ann", "a@b")
    assert truncated == ("headers.from",)


@pytest.mark.parametrize(
    ("value", "date"),
    [
        ("Fri, 20 Nov 2026 12:00:00 +0000", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("20 Nov 2026 12:00:00 -0000", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 12:00 EST", datetime(2026, 11, 20, 17, tzinfo=UTC)),
        ("Fri, 20 Nov 26 12:00:00 +0530 (IST)", datetime(2026, 11, 20, 6, 30, tzinfo=UTC)),
        ("Fri, 20 Nov 2026 12:00:00", datetime(2026, 11, 20, 12, tzinfo=UTC)),
        ("2026-11-20T12:00:00+01:00", datetime(2026, 11, 20, 11, tzinfo=UTC)),
        ("2026-11-20 12:00:00", datetime(2026, 11, 20, 12, tzinfo=UTC)),
    ],
)
def test_dates(value: str, date: datetime) -> None:
    """Dates as mail has them are read, in UTC."""
    assert _whole(date=value).date == date


def test_dates_without_a_zone(monkeypatch: pytest.MonkeyPatch) -> None:
    """A date without a zone is in UTC, wherever the machine is that reads it."""
    with monkeypatch.context() as patch:
        patch.setenv("TZ", "Asia/Tokyo")
        time.tzset()
        date = _whole(date="Fri, 20 Nov 2026 12:00:00").date
    time.tzset()
    assert date == datetime(2026, 11, 20, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    "value",
    [
        "yesterday",
        "Mon, 1 Jan",
        "Fri, 31 Feb 2026 12:00:00 +0000",
        "Fri, 20 Nov 2026 25:00:00 +0000",
        "20 Nov 2026 12:00:00 +999999999999",
        "31 Dec 9999 23:59:59 -2300",
        "0001-01-01T00:00:00+23:00",
        "2026-13-01T00:00:00Z",
        "1" * 10_000,
    ],
)
def test_no_dates(value: str) -> None:
    """What is no date is None, and it is said that there was something."""
    read, truncated = _read(date=value)
    assert read.date is None
    assert truncated == ("headers.date",)


@pytest.mark.parametrize(
    ("value", "ids"),
    [
        ("<a@b>", ["<a@b>"]),
        ("<a@b> <c@d>\r\n\t<e@f>", ["<a@b>", "<c@d>", "<e@f>"]),
        ("<a@b><c@d>", ["<a@b>", "<c@d>"]),
        ("<a\r\n @b>", ["<a@b>"]),
        ("Your message of Monday <a@b>", ["<a@b>"]),
        ("a@b, c@d", ["<a@b>", "<c@d>"]),
        ("<a@b", ["<a@b>"]),
        ("<not-an-address>", ["<not-an-address>"]),
        ("Your message of Monday", []),
        ("<>", []),
        ("", []),
    ],
)
def test_message_ids(value: str, ids: list[str]) -> None:
    """Ids are found whatever is around them, and written with their angle brackets."""
    read = _whole(message_id=value, in_reply_to=value, references=value)
    assert read.references == read.in_reply_to == tuple(ids)
    assert read.message_id == next(iter(ids), "")


def test_long_subject() -> None:
    """A subject of 40 kB is whole; one of more than 50 kB is cut on a character, and said to be."""
    assert _whole(subject="ü" * 20_000).subject == "ü" * 20_000
    assert _whole(subject=" ".join(["=?utf-8?q?=C3=BC?="] * 20_000)).subject == "ü" * 20_000
    read, truncated = _read(subject="a" + "ü" * 30_000)
    assert read.subject == "a" + "ü" * 24_999
    assert truncated == ("headers.subject",)


def test_five_thousand_recipients() -> None:
    """All of 5,000 recipients with names are kept; of many more the first, and it is said which list is cut."""
    people = [f"Person Number {number} <person.{number}@department.example.com>" for number in range(20_000)]
    assert len(_whole(to=", ".join(people[:2_500]), cc=", ".join(people[2_500:5_000])).cc) == 2_500
    read, truncated = _read(to=", ".join(people), reply_to="r@example.com")
    assert 5_000 < len(read.to) < 10_000
    assert read.to[0] == Address("Person Number 0", "person.0@department.example.com")
    assert truncated == ("headers.to",)
    assert read.reply_to == (Address("", "r@example.com"),)


def test_long_names() -> None:
    """A name too long for anybody is cut, and said to be."""
    read, truncated = _read(to=f"{'ü' * 5_000} <a@b>")
    assert read.to == (Address("ü" * 500, "a@b"),)
    assert truncated == ("headers.to",)


def test_many_references() -> None:
    """Of too many references the first, which began the thread, and the last are kept; no id is cut."""
    ids = [f"<{number}@{'x' * 50}>" for number in range(5_000)]
    read, truncated = _read(references=" ".join(ids), in_reply_to=" ".join(ids))
    assert read.references[0] == ids[0]
    assert read.references[-1] == ids[-1]
    assert set(read.references) < set(ids)
    assert 500 < len(read.references) < 1_000
    assert set(read.in_reply_to) < set(ids)
    assert set(truncated) == {"headers.references", "headers.inReplyTo"}


def test_long_message_id() -> None:
    """An id that is too long for a document is left out: a part of it would be the id of nothing."""
    read, truncated = _read(message_id=f"<{'x' * 3_000}@b>")
    assert read.message_id == ""
    assert truncated == ("headers.messageId",)


NAMES = st.sampled_from(
    ["from", "to", "cc", "bcc", "reply-to", "subject", "date", "message-id", "in-reply-to", "references", "x"]
)
PIECES = st.one_of(st.text(st.characters(codec=None)), st.sampled_from(["a@b, ", "<a@b> ", "=?utf-8?q?=C3=BC?= ", "ü"]))
VALUES = st.builds(lambda piece, times: piece * times, PIECES, st.sampled_from([1, 3, 50_000]))


def _bytes(headers: Headers) -> int:
    """What the headers take in a document, as Firestore counts."""

    def size(value: Any) -> int:
        if isinstance(value, str):
            return len(value.encode()) + 1
        if isinstance(value, Address):
            return len("name") + 1 + size(value.name) + len("address") + 1 + size(value.address)
        return sum(map(size, value)) if isinstance(value, tuple) else 8

    return sum(size(getattr(headers, name)) for name in Headers.__slots__)


@given(st.lists(st.tuples(NAMES, VALUES), max_size=12))
def test_anything_is_read(values: list[tuple[str, str]]) -> None:
    """Whatever the headers hold, they fit into their share of a document, and dates are in UTC."""
    read, _ = read_headers(values)
    assert _bytes(read) <= HEADERS_BYTES + 100
    assert read.date is None or read.date.utcoffset() == timedelta(0)


ZONES = st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
TIMES = st.datetimes(min_value=datetime(1971, 1, 1), max_value=datetime(2099, 1, 1), timezones=ZONES)  # noqa: DTZ001


@given(TIMES)
def test_dates_come_back(date: datetime) -> None:
    """A date as RFC 5322 writes it is the same instant."""
    written = date.strftime("%a, %d %b %Y %H:%M:%S %z")
    assert _whole(date=written).date == date.replace(microsecond=0)


# Whom a message is found by


def _found_by(**values: str) -> list[str]:
    return recipients(*_read(**values))


def test_recipients_are_all_to_whom_it_went() -> None:
    """Addresses of to, cc and bcc, in lower case and in this order, each once; not who wrote, nor who is answered."""
    found = _found_by(
        bcc="Eve@x.example, b@x.example",
        cc="team: D@x.example, A@X.example;",
        to="Ada <A@x.example>, b@x.example, Nobody <>",
        from_="f@x.example",
        reply_to="r@x.example",
    )
    assert found == ["a@x.example", "b@x.example", "d@x.example", "eve@x.example"]
    assert _found_by(from_="f@x.example") == []


@pytest.mark.parametrize("number", [99, 100, 101, 5_000])
def test_recipients_say_that_there_are_more(number: int) -> None:
    """The first hundred are named; of more, `*` says so."""
    people = [f"{each}@x.example" for each in range(number)]
    found = _found_by(to=", ".join(people[:60]), cc=", ".join(people[60:]))
    assert found == people if number <= MAX_RECIPIENTS else [*people[:MAX_RECIPIENTS], "*"]


def test_a_hundred_people_named_twice_are_not_more() -> None:
    """What counts is who it went to."""
    people = ", ".join(f"{each}@x.example" for each in range(MAX_RECIPIENTS))
    assert len(_found_by(to=people, cc=people.upper())) == MAX_RECIPIENTS


def test_an_address_too_long_to_be_found_by() -> None:
    """It is left out, and `*` says that there is more."""
    longest, longer = (f"{'ü' * 150}{'x' * more}@example" for more in (12, 13))
    assert len(longest.encode()) == RECIPIENT_BYTES
    assert _found_by(to=f"{longest}, a@x.example") == [longest, "a@x.example"]
    assert _found_by(to=f"{longer}, a@x.example") == ["a@x.example", "*"]


@pytest.mark.parametrize("field", ["to", "cc", "bcc"])
def test_recipients_that_headers_do_not_hold(field: str) -> None:
    """Where the headers do not hold all recipients `*` says so; other fields that are cut say nothing of them."""
    people = ", ".join(f"{'x' * 500}@{number}.example" for number in range(2_000))
    assert _found_by(**{field: people})[-1:] == ["*"]
    headers = Headers(to=(Address("", "a@x.example"),))
    assert recipients(headers, [f"headers.{field}"]) == ["a@x.example", "*"]
    assert recipients(headers, ["headers.from", "headers.replyTo", "body.text", "attachments"]) == ["a@x.example"]


def test_somebody_called_star() -> None:
    """An address that looks like the sign for more is itself, and stands for it once."""
    assert _found_by(to="<*>") == ["*"]
    assert recipients(Headers(to=(Address("", "*"),)), ["headers.to"]) == ["*"]
