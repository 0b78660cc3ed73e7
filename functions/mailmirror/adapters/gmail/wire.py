"""Gmail's JSON to values.

Knows: what each method answers. Unknown fields are ignored; what a value cannot do without raises one of `UNREADABLE`.
Does not know: how an answer came, or what becomes of one that cannot be read.
"""

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, cast

from mailmirror.content import SNIPPET_BYTES, clean, clip, read_content
from mailmirror.model import (
    Body,
    Failed,
    FetchedThread,
    HistoryId,
    HistoryPage,
    Label,
    LabelId,
    LabelState,
    LabelStep,
    Message,
    MessagePage,
    MessageRef,
    Profile,
    Record,
    ThreadPage,
    Watch,
)

Json = Mapping[str, Any]

# What reading raises when an answer is not what it should be.
UNREADABLE = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_EARLIEST, _LATEST = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)


def parse_profile(answer: Json) -> Profile:
    """users.getProfile."""
    return Profile(
        email_address=clean(str(answer["emailAddress"])),
        history_id=_history_id(answer["historyId"]),
        messages_total=int(answer.get("messagesTotal", 0)),
        threads_total=int(answer.get("threadsTotal", 0)),
    )


def parse_history_page(answer: Json) -> HistoryPage:
    """users.history.list, the records in the order of their ids.

    `history` is absent when there is nothing to tell, even on a page before the last.
    """
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


def parse_message(answer: Json, *, bodies: bool = True) -> Message:
    """users.messages.get in format full, or without bodies in format metadata; the snippet is in both."""
    content = read_content(answer.get("payload"))
    return Message(
        id=_id(answer["id"]),
        thread_id=_id(answer["threadId"]),
        label_ids=_label_ids(answer),
        history_id=_history_id(answer["historyId"]),
        internal_date=_moment(answer.get("internalDate", 0)),
        size_estimate=max(0, min(int(answer.get("sizeEstimate", 0)), 2**53)),
        snippet=clip(str(answer.get("snippet", "")), SNIPPET_BYTES),
        headers=content.headers,
        body=content.body if bodies else Body(stored="none"),
        attachments=content.attachments if bodies else (),
    )


def parse_label_state(answer: Json) -> LabelState:
    """users.messages.get, or one message of a thread, in format minimal."""
    return LabelState(_id(answer["id"]), _label_ids(answer), _history_id(answer["historyId"]))


def parse_thread(answer: Json, *, minimal: bool = False, bodies: bool = True) -> FetchedThread:
    """users.threads.get in format full, metadata (no bodies) or minimal; a message that cannot be read is `Failed`."""
    thread_id, history_id = _id(answer["id"]), _history_id(answer["historyId"])
    items = answer.get("messages", ())
    if minimal:
        return FetchedThread(thread_id, history_id, states=tuple(parse_label_state(item) for item in items))
    return FetchedThread(thread_id, history_id, {_id(item["id"]): read_message(item, bodies=bodies) for item in items})


def read_message(answer: Json, *, bodies: bool = True) -> Message | Failed:
    """A message of an answer, or why it cannot be read."""
    try:
        return parse_message(answer, bodies=bodies)
    except UNREADABLE as error:
        return Failed(f"Gmail's answer for this message cannot be read ({type(error).__name__}).")


def parse_labels(answer: Json) -> tuple[Label, ...]:
    """users.labels.list."""
    return tuple(
        Label(
            id=_id(item["id"]),
            name=clean(str(item.get("name", item["id"]))),
            type=str(item.get("type", "user")),
            message_list_visibility=item.get("messageListVisibility"),
            label_list_visibility=item.get("labelListVisibility"),
        )
        for item in answer.get("labels", ())
    )


def parse_watch(answer: Json, now: datetime) -> Watch:
    """users.watch."""
    return Watch(_moment(answer["expiration"]), _history_id(answer.get("historyId", 0)), renewed_at=now)


def _parse_record(record: Json) -> Record:
    # `messages` repeats what the four kinds say; one record may hold several kinds.
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


def _id(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("An id is a string that is not empty.")
    return clean(value)


def _label_ids(item: Json) -> frozenset[LabelId]:
    return frozenset(_id(label_id) for label_id in item.get("labelIds", ()))


def _history_id(value: object) -> HistoryId:
    """uint64 comes as a string; what a store's signed integers cannot hold is no history id Gmail ever gave."""
    number = int(cast("str", value))
    if not 0 <= number < 2**63:
        raise ValueError("A history id is a 64-bit number.")
    return number


def _moment(value: object) -> datetime:
    """Epoch milliseconds; a date no calendar has becomes the nearest one that exists."""
    milliseconds = int(cast("str", value))
    try:
        return _EPOCH + timedelta(milliseconds=milliseconds)
    except OverflowError:
        return _LATEST if milliseconds > 0 else _EARLIEST
