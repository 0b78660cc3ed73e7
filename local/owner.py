"""The owner of a mailbox, the demonstration's if no other is named: reads, files, throws away; and mail arrives.

Knows: the fake Gmail's control API, and what is in the mailbox as far as the owner did it. Does not know: that there is
a mirror. With the same seed the same things happen, whatever ids Gmail gives.
"""

import base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime
from email.parser import HeaderParser
from email.utils import parsedate_to_datetime
from random import Random
from typing import Any
from urllib.parse import quote

from local import mail
from local.stack import call

MAILBOX = "ada@example.com"
LABELS = ("UNREAD", "STARRED", "IMPORTANT", "INBOX", "Project Alpha", "Project Beta", "Projects/2026 – Ärger")
# The colours of those that have any.
COLORS = {"Project Beta": {"textColor": "#ffffff", "backgroundColor": "#16a765"}}

Mail = mail.MadeUpMail | mail.MboxMail


@dataclass(slots=True)
class Owner:
    """The owner of the mailbox: reads, files, throws away, writes; and mail arrives.

    Everything goes through the fake Gmail's control API. What is chosen depends on the seed alone, not on Gmail's ids.
    """

    gmail: str
    rng: Random
    arriving: Iterator[Mail]
    messages: dict[str, set[str]] = field(default_factory=dict)
    drafts: list[str] = field(default_factory=list)
    labels: dict[str, str] = field(default_factory=dict)
    mailbox: str = MAILBOX

    def receive(self, items: Sequence[Mail]) -> None:
        """Mail arrives, all of it in one request."""
        messages = [
            {
                "raw": base64.urlsafe_b64encode(item.raw).decode(),
                "labelIds": [self._label(name) for name in item.labels],
                **_dated(item),
            }
            for item in items
        ]
        ids = self._do("deliver", {"messages": messages})["ids"]
        self.messages.update((key, set(message["labelIds"])) for key, message in zip(ids, messages, strict=True))

    def act(self) -> None:
        """One thing happens: new mail 40 %, labels 30 %, trash 10 %, deletion 10 %, a draft saved 10 %."""
        chance = self.rng.random()
        if chance < 0.4 or len(self.messages) < 10:
            self.receive([next(self.arriving)])
        elif chance < 0.7:
            self._relabel(self._any())
        elif chance < 0.8:
            self._trash(self._any())
        elif chance < 0.9:
            self._delete(self._any())
        else:
            self._save_draft()

    def _relabel(self, message_id: str) -> None:
        label = self._label(self.rng.choice(LABELS))
        change = "remove" if label in self.messages[message_id] else "add"
        self._do("modify", {"ids": [message_id], change: [label]})
        self.messages[message_id] ^= {label}

    def _trash(self, message_id: str) -> None:
        labels = self.messages[message_id]
        if "TRASH" in labels:
            self._do("untrash", {"ids": [message_id]})
            labels.discard("TRASH")
        else:
            self._do("trash", {"ids": [message_id]})
            labels.discard("INBOX")
            labels.add("TRASH")

    def _delete(self, message_id: str) -> None:
        self._do("delete", {"ids": [message_id]})
        del self.messages[message_id]

    def _save_draft(self) -> None:
        text = f"To: Bob <bob@example.com>\r\nSubject: Draft\r\n\r\nLine {self.rng.randrange(1000)}\r\n"
        body = {"raw": base64.urlsafe_b64encode(text.encode()).decode()}
        # Saved again, a draft has another id each time.
        again = bool(self.drafts) and self.rng.random() < 0.7
        old = {"id": self.drafts.pop(self.rng.randrange(len(self.drafts)))} if again else {}
        self.drafts.append(self._do("draft", body | old)["id"])

    def _any(self) -> str:
        return self.rng.choice(list(self.messages))

    def _label(self, name: str) -> str:
        if name not in self.labels:
            self.labels[name] = self._do("labels", {"name": name, "color": COLORS.get(name)})["id"]
        return self.labels[name]

    def _do(self, act: str, body: Mapping[str, Any]) -> dict[str, Any]:
        return call("POST", f"{self.gmail}/control/mailboxes/{quote(self.mailbox)}/{act}", body)


def _dated(item: Mail) -> dict[str, str]:
    """When it came; of mail from a file its Date header, as long as that makes sense."""
    at: datetime | None = None
    if isinstance(item, mail.MadeUpMail):
        at = item.internal_date
    else:
        head = item.raw[:100_000].decode("ascii", "replace")
        with suppress(ValueError, TypeError, IndexError):
            at = parsedate_to_datetime(HeaderParser().parsestr(head, headersonly=True)["Date"])
    # What comes from a file can claim any date; Gmail's begin with the epoch.
    return {"internalDate": str(int(at.timestamp() * 1000))} if at is not None and at.year > 1970 else {}
