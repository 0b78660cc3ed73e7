"""Gmail's JSON to values.

Knows: what each method answers. Unknown fields are ignored; what a value cannot do without raises one of `UNREADABLE`,
keeping what was read does not. Does not know: how an answer came, or what becomes of an unreadable one.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mailmirror.attachments import Node
from mailmirror.charset import clean, clip
from mailmirror.content import SNIPPET_BYTES, Content, Part, read_content
from mailmirror.model import (
    EPOCH,
    Body,
    Color,
    Failed,
    FetchedThread,
    HistoryId,
    HistoryPage,
    Label,
    LabelId,
    LabelState,
    LabelStep,
    Message,
    MessageId,
    MessagePage,
    MessageRef,
    Profile,
    Record,
    ThreadId,
    ThreadPage,
    Watch,
)
from mailmirror.ports import Keep

Json = Mapping[str, Any]
# What Gmail keeps back of a message, None if nothing.
Fetch = Callable[[MessageId, str], bytes | None]

UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)

_COLOR = re.compile(r"#[0-9a-f]{6}")


def parse_profile(answer: Json) -> Profile:
    """users.getProfile."""
    return Profile(
        email_address=clean(str(answer["emailAddress"])),
        history_id=_history_id(answer["historyId"]),
        messages_total=int(answer.get("messagesTotal", 0)),
        threads_total=int(answer.get("threadsTotal", 0)),
    )


def parse_history_page(answer: Json) -> HistoryPage:
    """users.history.list, by id. A page without `history` need not be the last."""
    records = [_parse_record(record) for record in answer.get("history", ())]
    return HistoryPage(
        records=tuple(sorted(records, key=lambda record: record.id)),
        history_id=_history_id(answer["historyId"]),
        next_page_token=answer.get("nextPageToken"),
    )


def parse_message_page(answer: Json) -> MessagePage:
    """users.messages.list."""
    refs = tuple((_id(item["id"]), _id(item["threadId"])) for item in answer.get("messages", ()))
    return MessagePage(refs, answer.get("nextPageToken"))


def parse_thread_page(answer: Json) -> ThreadPage:
    """users.threads.list."""
    refs = tuple((_id(item["id"]), _history_id(item["historyId"])) for item in answer.get("threads", ()))
    return ThreadPage(refs, answer.get("nextPageToken"))


@dataclass(frozen=True, slots=True)
class ReadMessage:
    """A message as read: body and attachments are in its content."""

    message: Message
    content: Content


@dataclass(frozen=True, slots=True)
class ReadThread:
    """A thread as read."""

    id: ThreadId
    history_id: HistoryId
    messages: dict[MessageId, ReadMessage | Failed]


def parse_message(answer: Json) -> ReadMessage:
    """users.messages.get in format full or, without bodies, metadata; both have the snippet."""
    content = read_content(answer.get("payload"))
    snippet = clean(str(answer.get("snippet", "")))
    short = clip(snippet, SNIPPET_BYTES)
    return ReadMessage(
        Message(
            id=_id(answer["id"]),
            thread_id=_id(answer["threadId"]),
            label_ids=_label_ids(answer),
            history_id=_history_id(answer["historyId"]),
            internal_date=_moment(answer.get("internalDate", 0)),
            size_estimate=max(0, min(int(answer.get("sizeEstimate", 0)), 2**53)),
            snippet=short,
            headers=content.headers,
            protection=content.protection,
            truncated=content.truncated if short == snippet else tuple(sorted({*content.truncated, "snippet"})),
        ),
        content,
    )


def parse_thread(answer: Json) -> ReadThread:
    """users.threads.get in format full or metadata; an unreadable message is `Failed`."""
    read = ReadThread(_id(answer["id"]), _history_id(answer["historyId"]), {})
    for item in answer.get("messages", ()):
        message_id = _id(item["id"])
        try:
            read.messages[message_id] = parse_message(item)
        except UNREADABLE as error:
            read.messages[message_id] = Failed(
                f"Gmail's answer for this message cannot be read ({type(error).__name__})."
            )
    return read


def finish_message(read: ReadMessage, keep: Keep | None, fetch: Fetch) -> Message | Failed:
    """Have the content kept; without `keep` there is no body. Raises `StoreUnavailable`, `GmailError`: it was not."""
    message = read.message
    if keep is not None:
        return keep(message, read.content, lambda attachment_id: fetch(message.id, attachment_id))
    # Nothing is lost of what is not wanted.
    lost = tuple(name for name in message.truncated if name == "snippet" or name.startswith("headers."))
    return replace(message, body=Body(stored="none"), truncated=lost)


def finish_thread(read: ReadThread, keep: Keep | None, fetch: Fetch) -> FetchedThread:
    """Likewise, in order, each message let go before the next."""
    messages: dict[MessageId, Message | Failed] = {}
    for message_id in list(read.messages):
        item = read.messages.pop(message_id)
        messages[message_id] = item if isinstance(item, Failed) else finish_message(item, keep, fetch)
        del item
    return FetchedThread(read.id, read.history_id, messages)


def parse_thread_state(answer: Json) -> FetchedThread:
    """users.threads.get in format minimal."""
    states = tuple(parse_label_state(item) for item in answer.get("messages", ()))
    return FetchedThread(_id(answer["id"]), _history_id(answer["historyId"]), states=states)


def parse_part(answer: Json, part_id: str) -> Part | None:
    """A part of users.messages.get in format full: its bytes or where they are, if any."""
    waiting = [Node(answer["payload"])]
    while waiting:
        node = waiting.pop()
        if node.part_id == part_id:
            return Part(node.data(), node.attachment_id, node.size) if _has_bytes(node) else None
        waiting += [Node(child) for child in node.parts if isinstance(child, Mapping)]
    return None


def parse_data(answer: Json) -> bytes:
    """users.messages.attachments.get."""
    if answer.get("size") and "data" not in answer:
        raise ValueError("There are bytes, but not here.")
    return Node({"body": answer}).data()


def parse_label_state(answer: Json) -> LabelState:
    """users.messages.get, or one message of a thread, in format minimal."""
    return LabelState(_id(answer["id"]), _label_ids(answer), _history_id(answer["historyId"]))


def parse_labels(answer: Json) -> tuple[Label, ...]:
    """users.labels.list."""
    return tuple(parse_label(item) for item in answer.get("labels", ()))


def parse_label(answer: Json) -> Label:
    """users.labels.get, or one label of a list."""
    return Label(
        id=_id(answer["id"]),
        name=clean(str(answer.get("name", answer["id"]))),
        type=str(answer.get("type", "user")),
        message_list_visibility=answer.get("messageListVisibility"),
        label_list_visibility=answer.get("labelListVisibility"),
        color=_color(answer.get("color")),
    )


def parse_watch(answer: Json, now: datetime) -> Watch:
    """users.watch."""
    return Watch(_moment(answer["expiration"]), _history_id(answer.get("historyId", 0)), renewed_at=now)


def _parse_record(record: Json) -> Record:
    # `messages` repeats what the four kinds say.
    return Record(
        id=_history_id(record["id"]),
        messages_added=tuple(_parse_ref(item["message"]) for item in record.get("messagesAdded", ())),
        messages_deleted=tuple(_parse_ref(item["message"]) for item in record.get("messagesDeleted", ())),
        labels_added=tuple(_parse_step(item) for item in record.get("labelsAdded", ())),
        labels_removed=tuple(_parse_step(item) for item in record.get("labelsRemoved", ())),
    )


def _parse_ref(message: Json) -> MessageRef:
    told = _label_ids(message) if "labelIds" in message else None
    return MessageRef(_id(message["id"]), _id(message["threadId"]), told)


def _parse_step(item: Json) -> LabelStep:
    return LabelStep(_parse_ref(item["message"]), _label_ids(item))


def _has_bytes(node: Node) -> bool:
    if node.attachment_id or "data" in node.body:
        return True
    # What has parts has no bytes; what is empty has them all.
    return not node.size and not node.kind.startswith("multipart/") and node.kind != "message/rfc822"


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("An id is a string that is not empty.")
    return clean(value)


def _label_ids(item: Json) -> frozenset[LabelId]:
    return frozenset(_id(label_id) for label_id in item.get("labelIds", ()))


def _color(value: object) -> Color | None:
    if not isinstance(value, Mapping):
        return None
    text, background = str(value.get("textColor")).lower(), str(value.get("backgroundColor")).lower()
    return Color(text, background) if _COLOR.fullmatch(text) and _COLOR.fullmatch(background) else None


def _history_id(value: object) -> HistoryId:
    """uint64 comes as a string; none is beyond a store's signed integers."""
    number = int(cast("str", value))
    if not 0 <= number < 2**63:
        raise ValueError("A history id is a 64-bit number.")
    return number


def _moment(value: object) -> datetime:
    """Epoch milliseconds; beyond the calendar the nearest date."""
    milliseconds = int(cast("str", value))
    try:
        return EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if milliseconds > 0 else datetime.min.replace(tzinfo=UTC)
