"""The headers of a message to what an application asks for, and no more than a document holds.

Knows: which headers there are, how often each counts and how much is kept. Does not know: MIME parts. Promises:
whatever they hold, each field has its type, and `truncated` names those that do not hold all.

Sizes are Firestore's (https://cloud.google.com/firestore/docs/storage-size): a string or a field's name is its bytes
and one more.
"""

import re
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from itertools import islice

from mailmirror.addresses import read_addresses
from mailmirror.charset import clip, decode_words
from mailmirror.model import Address, Headers

# All together: 5,000 recipients with usual names.
HEADERS_BYTES = 350_000
SUBJECT_BYTES = 50_000
REFERENCES_BYTES = 40_000
IN_REPLY_TO_BYTES = 10_000
MESSAGE_ID_BYTES = 2_000
ADDRESS_BYTES = 1_000
# Of a message's index entries: an array has one a value.
MAX_RECIPIENTS = 100
RECIPIENT_BYTES = 320
# An encoded word is up to four times what it says, and not all is kept.
_RAW = 8
_RAW_DATE = 200
# The fields' names; and the least: a commit, limited too, takes more for many short ones than a document.
_ADDRESS_OVERHEAD = 5 + 8
_ADDRESS_LEAST = 45

_ID = re.compile(r"<([^<>]*+)>")
_NO_SIGNS = str.maketrans("<>,;", "    ")
_ISO_DATE = re.compile(r"\d{4}-\d\d-\d\d")
_LISTS = ("reply-to", "to", "cc", "bcc")
_TO = frozenset({"headers.to", "headers.cc", "headers.bcc"})
_SINGLE = frozenset({"from", "subject", "date", "message-id", "in-reply-to", "references"})
_NO_DATE = (ValueError, TypeError, OverflowError, LookupError, AttributeError)


def read_headers(headers: Iterable[tuple[str, str]]) -> tuple[Headers, tuple[str, ...]]:
    """Return the headers, decoded, by names in lower case, and the fields that do not hold all.

    The first of a name counts: somebody else added the later ones; only recipients are gathered.
    """
    first: dict[str, str] = {}
    lists: dict[str, list[str]] = {name: [] for name in _LISTS}
    for name, value in headers:
        if name in lists:
            lists[name].append(value)
        elif name in _SINGLE:
            first.setdefault(name, value)
    reader = _Reader()
    # In this order: each takes of the room, and a list may fill it.
    read = Headers(
        subject=reader.subject(first.get("subject", "")),
        message_id=reader.message_id(first.get("message-id", "")),
        in_reply_to=reader.in_reply_to(first.get("in-reply-to", "")),
        references=reader.references(first.get("references", "")),
        date=reader.date(first.get("date", "")),
        from_=reader.author(first.get("from", "")),
        reply_to=reader.people("headers.replyTo", lists["reply-to"]),
        to=reader.people("headers.to", lists["to"]),
        cc=reader.people("headers.cc", lists["cc"]),
        bcc=reader.people("headers.bcc", lists["bcc"]),
    )
    return read, tuple(reader.truncated)


def recipients(headers: Headers, truncated: Iterable[str]) -> list[str]:
    """Return the addresses of to, cc and bcc that a message is found by, and `*` where there may be more."""
    people = dict.fromkeys(person.address for person in (*headers.to, *headers.cc, *headers.bcc) if person.address)
    short = [address for address in people if _size(address) <= RECIPIENT_BYTES + 1][:MAX_RECIPIENTS]
    whole = len(short) == len(people) and _TO.isdisjoint(truncated)
    return short if whole or "*" in short else [*short, "*"]


class _Reader:
    def __init__(self) -> None:
        self.room = HEADERS_BYTES
        self.truncated: dict[str, None] = {}

    def subject(self, value: str) -> str:
        whole = decode_words(self._raw("headers.subject", value, SUBJECT_BYTES))
        subject = self._clip("headers.subject", whole, SUBJECT_BYTES)
        self.room -= _size(subject)
        return subject

    def message_id(self, value: str) -> str:
        ids = _ids(self._raw("headers.messageId", value, MESSAGE_ID_BYTES))
        # A part of an id is the id of nothing.
        message_id = next(ids, "")
        if _size(message_id) > MESSAGE_ID_BYTES:
            self.truncated["headers.messageId"] = None
            message_id = ""
        self.room -= _size(message_id)
        return message_id

    def in_reply_to(self, value: str) -> tuple[str, ...]:
        ids = list(_ids(self._raw("headers.inReplyTo", value, IN_REPLY_TO_BYTES)))
        kept = _that_fit(ids, IN_REPLY_TO_BYTES)
        return self._keep("headers.inReplyTo", kept, len(ids))

    def references(self, value: str) -> tuple[str, ...]:
        """The first, which began the thread, and the last."""
        ids = list(_ids(self._raw("headers.references", value, REFERENCES_BYTES)))
        first = _that_fit(ids[:1], REFERENCES_BYTES)
        last = _that_fit(ids[:0:-1], REFERENCES_BYTES - sum(map(_size, first)))
        return self._keep("headers.references", [*first, *reversed(last)], len(ids))

    def date(self, value: str) -> datetime | None:
        value = decode_words(value[:_RAW_DATE])
        date = _date(value)
        if value and date is None:
            self.truncated["headers.date"] = None
        return date

    def author(self, value: str) -> Address:
        authors = islice(read_addresses(self._raw("headers.from", value, self.room)), 2)
        author = self._person("headers.from", next(authors, Address()))
        if next(authors, None) is not None:
            self.truncated["headers.from"] = None
        self.room -= _weight(author)
        return author

    def people(self, field: str, values: Iterable[str]) -> tuple[Address, ...]:
        kept: list[Address] = []
        for value in values:
            for person in read_addresses(self._raw(field, value, self.room)):
                cut = self._person(field, person)
                if _weight(cut) > self.room:
                    self.truncated[field] = None
                    return tuple(kept)
                self.room -= _weight(cut)
                kept.append(cut)
        return tuple(kept)

    def _person(self, field: str, person: Address) -> Address:
        return Address(self._clip(field, person.name, ADDRESS_BYTES), self._clip(field, person.address, ADDRESS_BYTES))

    def _raw(self, field: str, value: str, limit: int) -> str:
        if len(value) > _RAW * limit:
            self.truncated[field] = None
        return value[: _RAW * limit]

    def _clip(self, field: str, text: str, limit: int) -> str:
        cut = clip(text, limit)
        if len(cut) < len(text):
            self.truncated[field] = None
        return cut

    def _keep(self, field: str, ids: list[str], of: int) -> tuple[str, ...]:
        if len(ids) < of:
            self.truncated[field] = None
        self.room -= sum(map(_size, ids))
        return tuple(ids)


def _ids(value: str) -> Iterator[str]:
    """Ids without spaces; a bare word with an @ lacks its brackets."""
    value = decode_words(value)
    found = False
    for match in _ID.finditer(value):
        inner = "".join(match[1].split())
        if inner:
            found = True
            yield f"<{inner}>"
    if not found:
        yield from (f"<{word}>" for word in value.translate(_NO_SIGNS).split() if "@" in word)


def _that_fit(ids: Iterable[str], room: int) -> list[str]:
    kept = []
    for message_id in ids:
        room -= _size(message_id)
        if room < 0:
            break
        kept.append(message_id)
    return kept


def _date(value: str) -> datetime | None:
    try:
        date = datetime.fromisoformat(value) if _ISO_DATE.match(value) else parsedate_to_datetime(value)
        return (date.replace(tzinfo=UTC) if date.tzinfo is None else date).astimezone(UTC)
    except _NO_DATE:
        return None


def _size(text: str) -> int:
    return 1 + (len(text) if text.isascii() else len(text.encode()))


def _weight(person: Address) -> int:
    return max(_ADDRESS_LEAST, _ADDRESS_OVERHEAD + _size(person.name) + _size(person.address))
