"""Every failure that has a name, and what becomes of the push that met it.

```
MailmirrorError
├── InvalidInput            400  the envelope, the data or the request is malformed
├── UnknownMailbox          404  nothing is connected under this address
├── LeaseHeld               ack  another worker is writing this mailbox
├── DocumentExists          retry  what was to be a new message is mirrored already; nothing was written
├── LeaseLost               retry  another worker took the lease; nothing was written
├── StoreUnavailable        retry  Firestore aborted, was unavailable or did not answer
└── GmailError
    ├── HistoryExpired      retry  404 on history.list; the engine starts a run instead
    ├── HistoryLag          retry  Gmail's history is behind its own notification
    ├── PageTokenExpired    retry  a page token no longer holds; the engine lists again
    ├── Throttled           retry  quota refused, or not enough of it left to go on
    ├── GmailUnavailable    retry  5xx, network, time-out
    ├── AccessRevoked       ack    the grant is gone; somebody has to give it again
    └── GmailRejected       ack    Gmail refuses the request itself; configuration is wrong
```

Knows: whether Pub/Sub should come back (`acknowledge`), Google's status for people (`http_status`, `status`) and the
next step in words (`action`). Does not know: HTTP, Pub/Sub or Gmail. Law 8: a failure without a name here does not
exist.
"""

from datetime import datetime


class MailmirrorError(Exception):
    """The root. A leaf states its answer to a push, its answer to a person, and the operator's next step.

    Attributes:
        acknowledge: a push that met this is answered 204 (True) or 503 so that Pub/Sub delivers it again (False).
        http_status: the status an HTTP caller gets.
        status: Google's canonical code for it.
        action: what the operator does next, one sentence.
    """

    acknowledge = False
    http_status = 503
    status = "UNAVAILABLE"
    action = "Nothing to do: the work is tried again by itself."


class InvalidInput(MailmirrorError):
    """A push envelope, its data, or a request of a person is malformed."""

    http_status = 400
    status = "INVALID_ARGUMENT"
    action = "Correct the request; for a push, look at the message in the dead-letter subscription."


class UnknownMailbox(MailmirrorError):
    """No mailbox is connected under this address."""

    acknowledge = True
    http_status = 404
    status = "NOT_FOUND"
    action = "Connect it first: PUT /mailboxes/{address} on manage_mailboxes."


class LeaseHeld(MailmirrorError):
    """Another worker holds the lease of this mailbox."""

    acknowledge = True
    http_status = 409
    status = "ABORTED"


class LeaseLost(MailmirrorError):
    """The lease was taken by another worker; the commit wrote nothing."""

    http_status = 409
    status = "ABORTED"


class DocumentExists(MailmirrorError):
    """A document that was to be created exists; nothing was written. The engine looks where it belongs and goes on."""

    http_status = 409
    status = "ABORTED"


class StoreUnavailable(MailmirrorError):
    """The store aborted the call, was unavailable, or did not answer; whether the commit happened is unknown."""


class GmailError(MailmirrorError):
    """Gmail answered something other than the result."""


class HistoryExpired(GmailError):
    """history.list answered 404: the cursor is older than what Gmail keeps (at least hours, typically a week)."""


class HistoryLag(GmailError):
    """history.list does not yet show what a notification announced."""


class PageTokenExpired(GmailError):
    """A page token was refused; the listing starts again from its first page."""


class Throttled(GmailError):
    """Gmail refused for quota, or the budget left is too small to go on now.

    Attributes:
        until: when to come back, if Gmail or the budget names a time.
    """

    http_status = 429
    status = "RESOURCE_EXHAUSTED"
    action = "Nothing to do: the mailbox goes on when quota is back. If this lasts, ask for a higher Gmail quota."

    def __init__(self, message: str, until: datetime | None = None) -> None:
        super().__init__(message)
        self.until = until


class GmailUnavailable(GmailError):
    """Gmail answered 5xx, did not answer, or the network failed."""


class AccessRevoked(GmailError):
    """The token was refused, or the user or an administrator withdrew access."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = (
        "Give access again (domain-wide delegation or the user's consent), then trigger a sync; the cursor is kept."
    )


class GmailRejected(GmailError):
    """Gmail refuses the request itself: a scope, topic or API that is not set up."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Correct the configuration that the message names, then trigger a sync; the cursor is kept."
