"""One Gmail mailbox: what the Gmail API answers about it, on top of what its user does to it.

It knows Gmail's semantics and wire format. It does not know HTTP, quota, faults, the wall clock or global randomness:
the same clock and rng give the same mailbox, id by id. Answers share structure with the mailbox; the caller must not
change them.

The API raises `ApiError`; the user's side, which is no API of Gmail's, ValueError with a sentence.
"""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Sequence
from datetime import timedelta
from hashlib import sha256
from random import Random
from typing import Any

from local.gmail import listing
from local.gmail.clock import Clock, milliseconds
from local.gmail.errors import invalid_argument, not_found
from local.gmail.history import HISTORY_TYPES, Record
from local.gmail.message import StoredMessage
from local.gmail.pages import page_size, read_token, write_token
from local.gmail.payload import encoded
from local.gmail.user import UserSide
from local.gmail.watch import LIFETIME, Watch, parse_behavior, parse_topic

# What an attachment id is made of: how all of them begin, noise, a seal, and which part it is.
_ATTACHMENT = "ANGjdJ"
_NONCE, _SEAL = 48, 12


class Mailbox(UserSide):
    """A mailbox with its knobs; those of `UserSide` and these.

    Attributes:
        history_lag: history and getProfile show a change only after this time, though its notification was sent at
            once. get_lag: messages.get answers 404 for a message younger than this, though listings and history show
            it. empty_page_chance: how often history.list puts in a page without `history` that is not the last.
        inline_bytes: texts larger than this come as an attachmentId, as any part may by the schema; None: none does.
            Where Gmail draws that line nobody tells.
        lists_colors: labels.list tells the colours of labels, which Google's reference says it does not.
    """

    def __init__(self, address: str, *, clock: Clock, rng: Random) -> None:
        super().__init__(address, clock=clock, rng=rng)
        self.history_lag = timedelta(0)
        self.get_lag = timedelta(0)
        self.empty_page_chance = 0.0
        self.inline_bytes: int | None = 2**20
        self.lists_colors = False
        # Reads draw from a source of their own, so that they do not change what later happens to the mailbox.
        self._reads = Random(rng.getrandbits(64))
        self._token_generation = 0

    def get_profile(self) -> dict[str, Any]:
        """users.getProfile. The history id follows `history_lag`: a signpost is never ahead of what history shows."""
        return {
            "emailAddress": self.address,
            "messagesTotal": len(self._state.messages),
            "threadsTotal": len(self._state.threads),
            "historyId": str(self._visible_head()),
        }

    def list_history(
        self,
        start_history_id: int | str | None = None,
        page_token: str | None = None,
        max_results: int | None = None,
        label_id: str | None = None,
        history_types: Collection[str] | None = None,
    ) -> dict[str, Any]:
        """users.history.list.

        Each page's historyId is the head at the time of that page, but all pages show the records up to the head of the
        first: who keeps the last page's id loses what came in between. A start in the future gives no records.
        """
        size = page_size(max_results)
        start = _parse_start(start_history_id)
        kinds = _parse_history_types(history_types)
        if label_id is not None:
            self._state.labels.require([label_id])
        head = self._visible_head()
        after, end, was_empty = start, head, 0
        if page_token:
            position = read_token(page_token, "history", self._token_generation, 4)
            bound_to, after, end, was_empty = (int(field) for field in position)
            if bound_to != start:
                raise invalid_argument("Invalid pageToken: it belongs to another startHistoryId.")
        if start < self._state.log.floor:
            raise not_found()

        answer: dict[str, Any] = {"historyId": str(head)}
        if page_token and not was_empty and self._turns_up_empty():
            # Never two in a row, so that who follows nextPageToken always arrives.
            answer["nextPageToken"] = self._history_token(start, after, end, 1)
            return answer
        shown: list[Record] = []
        for record in self._state.log.between(after, end):
            if record.is_one_of(kinds) and (label_id is None or record.touches(label_id)):
                if len(shown) == size:
                    answer["nextPageToken"] = self._history_token(start, shown[-1].id, end, 0)
                    break
                shown.append(record)
        if shown:
            answer["history"] = [record.to_api(kinds) for record in shown]
            if "nextPageToken" not in answer and self._turns_up_empty():
                answer["nextPageToken"] = self._history_token(start, end, end, 1)
        return answer

    def list_messages(
        self,
        page_token: str | None = None,
        max_results: int | None = None,
        label_ids: Sequence[str] = (),
        include_spam_trash: bool = False,
        q: str | None = None,
    ) -> dict[str, Any]:
        """users.messages.list: newest first, only ids and thread ids, no `messages` at all when there are none."""
        wanted = self._filter(label_ids, include_spam_trash, q)
        messages = self._state.messages

        def shown(message_id: str) -> dict[str, Any] | None:
            message = messages[message_id]
            return {"id": message_id, "threadId": message.thread_id} if wanted.passes(message) else None

        return listing.page(
            "messages",
            self._state.order,
            shown,
            token=page_token,
            generation=self._token_generation,
            max_results=max_results,
        )

    def get_message(
        self,
        message_id: str,
        format: str = "full",  # noqa: A002 -- the API's own word
        metadata_headers: Iterable[str] = (),
    ) -> dict[str, Any]:
        """users.messages.get: 404 for a message that is gone, and for one that `get_lag` still hides."""
        return self._seen(message_id).to_api(format, metadata_headers, self._new_attachment_id, self.inline_bytes)

    def get_attachment(self, message_id: str, attachment_id: str) -> dict[str, Any]:
        """users.messages.attachments.get: 404 as for the message.

        What is assumed: an attachment id is another one on each get, all of them are good, but for the one message
        alone; any other is refused with 400 "Invalid attachment token", as practitioners report. Of a message within a
        message the bytes are its source, as the standard library writes it again.
        """
        message = self._seen(message_id)
        try:
            token = base64.urlsafe_b64decode(attachment_id.removeprefix(_ATTACHMENT) + "==")
            nonce, seal, part_id = token[:_NONCE], token[_NONCE : _NONCE + _SEAL], token[_NONCE + _SEAL :].decode()
        except ValueError:
            raise invalid_argument("Invalid attachment token") from None
        if seal != _seal(nonce, message_id, part_id):
            raise invalid_argument("Invalid attachment token")
        data = message.bytes_of(part_id)
        return {"size": len(data), "data": encoded(data)}

    def list_threads(
        self,
        page_token: str | None = None,
        max_results: int | None = None,
        label_ids: Sequence[str] = (),
        include_spam_trash: bool = False,
        q: str | None = None,
    ) -> dict[str, Any]:
        """users.threads.list: threads with at least one message that passes, the one with the newest message first."""
        wanted = self._filter(label_ids, include_spam_trash, q)

        def shown(thread_id: str) -> dict[str, Any] | None:
            thread = self._state.threads[thread_id]
            messages = self._state.messages_of(thread)
            if not any(wanted.passes(message) for message in messages):
                return None
            return {"id": thread_id, "snippet": messages[-1].snippet(), "historyId": str(thread.history_id)}

        return listing.page(
            "threads",
            self._state.thread_order(),
            shown,
            token=page_token,
            generation=self._token_generation,
            max_results=max_results,
        )

    def get_thread(
        self,
        thread_id: str,
        format: str = "full",  # noqa: A002 -- the API's own word
        metadata_headers: Iterable[str] = (),
    ) -> dict[str, Any]:
        """users.threads.get: all messages, oldest first, trash and spam included; there is no format raw.

        `get_lag` hides none of them.
        """
        thread = self._state.threads.get(thread_id)
        if thread is None:
            raise not_found()
        if format.lower() == "raw":
            raise invalid_argument(f"Invalid value at 'format': \"{format}\"")
        messages = self._state.messages_of(thread)
        return {
            "id": thread.id,
            "historyId": str(thread.history_id),
            "messages": [
                message.to_api(format, metadata_headers, self._new_attachment_id, self.inline_bytes)
                for message in messages
            ],
        }

    def list_labels(self) -> dict[str, Any]:
        """users.labels.list: all at once, without counts and, unless `lists_colors`, without colours."""
        return {"labels": self._state.labels.to_api(colors=self.lists_colors)}

    def get_label(self, label_id: str) -> dict[str, Any]:
        """users.labels.get: with colours and counts."""
        label = self._state.labels.one(label_id)
        carriers = [message for message in self._state.messages.values() if label_id in message.label_ids]
        unread = [message for message in carriers if "UNREAD" in message.label_ids]
        return label.to_api(colors=True) | {
            "messagesTotal": len(carriers),
            "messagesUnread": len(unread),
            "threadsTotal": len({message.thread_id for message in carriers}),
            "threadsUnread": len({message.thread_id for message in unread}),
        }

    def watch(self, topic: str | None, label_ids: Sequence[str] = (), behavior: str | None = None) -> dict[str, Any]:
        """users.watch: starts or renews, and notifies at once. The historyId is the true head, whatever the lag."""
        name = parse_topic(topic)
        wanted = parse_behavior(behavior)
        self._state.labels.require(label_ids)
        active = self.active_watch()
        if active and active.topic != name:
            raise invalid_argument(
                "Only one user push notification client allowed per developer (call /stop then try again)"
            )
        self._watch = Watch(name, tuple(label_ids), wanted, self._clock.now() + LIFETIME)
        self._notify(self._watch)
        return {
            "historyId": str(self._state.log.head),
            "expiration": str(milliseconds(self._watch.expires_at)),
        }

    def stop(self) -> dict[str, Any]:
        """users.stop: no watch any more; nothing happens when there was none."""
        self._watch = None
        return {}

    def expire_page_tokens(self) -> None:
        """Every page token given out so far answers 400 from now on."""
        self._token_generation += 1

    def _visible_head(self) -> int:
        return self._state.log.visible_head(self._clock.now() - self.history_lag)

    def _turns_up_empty(self) -> bool:
        return self.empty_page_chance > 0 and self._reads.random() < self.empty_page_chance

    def _history_token(self, start: int, after: int, end: int, was_empty: int) -> str:
        return write_token("history", self._token_generation, (start, after, end, was_empty))

    def _seen(self, message_id: str) -> StoredMessage:
        message = self._state.messages.get(message_id)
        if message is None or message.arrived_at + self.get_lag > self._clock.now():
            raise not_found()
        return message

    def _new_attachment_id(self, message_id: str, part_id: str) -> str:
        nonce = self._reads.randbytes(_NONCE)
        return _ATTACHMENT + encoded(nonce + _seal(nonce, message_id, part_id) + part_id.encode()).rstrip("=")

    def _filter(self, label_ids: Sequence[str], include_spam_trash: bool, q: str | None) -> listing.Filter:
        self._state.labels.require(label_ids)
        return listing.Filter(label_ids, include_spam_trash, listing.parse_search(q))


def _seal(nonce: bytes, message_id: str, part_id: str) -> bytes:
    return sha256(nonce + f"{message_id} {part_id}".encode()).digest()[:_SEAL]


def _parse_start(value: int | str | None) -> int:
    try:
        start = int(value if value is not None else 0)
    except ValueError:
        start = 0
    if start <= 0:
        raise invalid_argument("Missing/invalid parameter: startHistoryId")
    return start


def _parse_history_types(kinds: Collection[str] | None) -> Collection[str]:
    for kind in kinds or ():
        if kind not in HISTORY_TYPES:
            raise invalid_argument(f"Invalid value at 'history_types': \"{kind}\"")
    return kinds or HISTORY_TYPES
