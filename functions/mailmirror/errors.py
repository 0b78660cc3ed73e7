"""Every failure that has a name, and what becomes of the push that met it.

```
MailmirrorError
├── InvalidInput            400  the envelope, the data or the request is malformed
├── UnknownMailbox          404  nothing is connected under this address
├── MailboxStopped          409  nobody wants this mailbox synced at present
├── BeingPurged             409  this mailbox is being deleted
├── ConsentNotGiven         400  a user's answer in the browser is no consent; nothing was kept
├── LeaseHeld               ack  another worker is writing this mailbox
├── DocumentExists          retry  what was to be a new message is mirrored already; nothing was written
├── LeaseLost               retry  another worker took the lease; nothing was written
├── StoreUnavailable        retry  Firestore aborted, was unavailable or did not answer
├── DirectoryUnavailable    retry  the Directory API answered 5xx, refused for quota or did not answer
├── DirectoryRejected       ack    the Directory API refuses the request itself; configuration is wrong
└── GmailError
    ├── HistoryExpired      retry  404 on history.list; the engine starts a run instead
    ├── HistoryLag          retry  Gmail's history is behind its own notification
    ├── PageTokenExpired    retry  a page token no longer holds; the engine lists again
    ├── Throttled           retry  quota refused, or not enough of it left to go on
    ├── GmailUnavailable    retry  5xx, network, time-out
    ├── AccessRevoked       ack    access to this mailbox is gone; somebody has to give it again
    │   ├── ConsentMissing      ack    the user's consent was not given, is withdrawn, or too narrow
    │   ├── SessionEnded        ack    the domain makes its users sign in again
    │   ├── DelegationMissing   ack    the domain does not delegate these scopes
    │   ├── NoSuchUser          ack    Google has no user of this address
    │   ├── MailServiceOff      ack    the user has no Gmail
    │   ├── BlockedByDomain     ack    the domain's administrators do not let this application in
    │   └── WrongUser           ack    the credentials are another user's
    └── GmailRejected       ack    Gmail refuses the request itself; the configuration is wrong
        ├── ScopeMissing        ack    the scopes that were granted do not cover the call
        ├── NoSubject           ack    the credentials act as a service account, and not as a user
        ├── ApiDisabled         ack    an API is not enabled in the project
        ├── CredentialsMissing  ack    the functions have no credentials of their own
        ├── SigningDenied       ack    the functions may not sign as the delegated service account
        ├── ClientInvalid       ack    the OAuth client is unreadable, deleted or disabled
        ├── PublishDenied       ack    Gmail cannot publish to the topic
        ├── TopicElsewhere      ack    the topic is not in the project that asks for the watch
        └── WatchTaken          ack    the project watches this mailbox for another topic
```

Knows: whether Pub/Sub should come back (`acknowledge`), Google's status for people (`http_status`, `status`) and the
next step in words (`action`). Does not know: HTTP, Pub/Sub or Gmail. Law 8: a failure without a name here does not
exist. What has kinds of its own (`AccessRevoked`, `GmailRejected`) is also raised itself, where none of them fits.
"""

from datetime import datetime


class MailmirrorError(Exception):
    """The root. A leaf states its answer to a push, its answer to a person, and the operator's next step.

    Attributes:
        acknowledge: a push that met this is answered 204 (True) or 503 so that Pub/Sub delivers it again (False).
        http_status: the status an HTTP caller gets.
        status: Google's canonical code for it.
        action: what the operator does next, in words.
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


class MailboxStopped(MailmirrorError):
    """The mailbox was stopped: what it mirrored is kept, and nothing is synced."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Connect it again, and it goes on from where it was: PUT /mailboxes/{address} on manage_mailboxes."


class BeingPurged(MailmirrorError):
    """The mailbox is being deleted with everything that was mirrored; that is not taken back."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = (
        "Wait until it is gone, DELETE /mailboxes/{address} on manage_mailboxes tells; then it can be connected anew."
    )


class ConsentNotGiven(MailmirrorError):
    """What a user answered in the browser is no consent for the mailbox that was asked for; nothing was kept."""

    http_status = 400
    status = "INVALID_ARGUMENT"
    action = "Open the link again, or ask whoever made it for a new one (GET /connect on manage_mailboxes)."


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


class DirectoryUnavailable(MailmirrorError):
    """The Directory API answered 5xx, refused for quota, or did not answer."""

    action = "Discover again a little later, from the page token given last: who is connected already is confirmed."


class DirectoryRejected(MailmirrorError):
    """The Directory API refuses the request itself, or nobody said as whom to ask it."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Correct the configuration that the message names, then discover again."


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
    action = (
        "Nothing to do: the mailbox goes on when quota is back. If this lasts, look at the project's quota: Cloud "
        "console, APIs & Services, Gmail API, Quotas & System Limits."
    )

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


class ConsentMissing(AccessRevoked):
    """The user's consent was not given, was withdrawn, has expired, or does not cover the scopes."""

    action = (
        "Let the user consent (again): GET /connect?mailbox={address} on manage_mailboxes; the cursor is kept. If "
        "consents end after 7 days, publish the OAuth consent screen: its status is Testing."
    )


class SessionEnded(AccessRevoked):
    """The domain's session control ends the token until the user signs in again (invalid_rapt)."""

    action = (
        "Let the user consent again: GET /connect?mailbox={address} on manage_mailboxes; the cursor is kept. So that "
        "it lasts, let an administrator exempt trusted apps: Admin console, Security, Access and data control, Google "
        "Cloud session control."
    )


class DelegationMissing(AccessRevoked):
    """The domain has not delegated these scopes to the service account, or not yet."""

    action = (
        "In the Admin console, Security, Access and data control, API controls, Domain-wide delegation, enter the "
        "client id and exactly the scopes that `mailmirror doctor` prints; it takes effect within 24 hours. The "
        "cursor is kept."
    )


class NoSuchUser(AccessRevoked):
    """Google has no user of this address, which may be an alias or of a user who was deleted."""

    action = (
        "Look the user up in the Admin console, Directory, Users, and connect the primary address. If the account is "
        "deleted for good: DELETE /mailboxes/{address} on manage_mailboxes."
    )


class MailServiceOff(AccessRevoked):
    """The user exists and has no Gmail."""

    action = (
        "Turn Gmail on for this user: Admin console, Apps, Google Workspace, Gmail, Service status, and a license "
        "that has Gmail; then trigger a sync. If the user is to have no mail: DELETE /mailboxes/{address} on "
        "manage_mailboxes."
    )


class BlockedByDomain(AccessRevoked):
    """The domain's administrators do not let this application, or any, read Gmail, or have restricted the account."""

    action = (
        "Ask an administrator of the domain to trust this application: Admin console, Security, Access and data "
        "control, API controls, Manage app access; then trigger a sync. The cursor is kept."
    )


class WrongUser(AccessRevoked):
    """Gmail says that the credentials are those of another user than the mailbox's."""

    action = (
        "Let the mailbox's own user consent, not another account signed in in the same browser, and connect the "
        "primary address, not an alias; the cursor is kept."
    )


class GmailRejected(GmailError):
    """Gmail refuses the request itself: a scope, topic or API that is not set up."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Correct the configuration that the message names, then trigger a sync; the cursor is kept."


class ScopeMissing(GmailRejected):
    """The scopes that were granted do not cover what was asked."""

    action = (
        "Set GMAIL_SCOPES to https://www.googleapis.com/auth/gmail.readonly and grant exactly that: in the Admin "
        "console for delegation, by a new consent otherwise (`mailmirror doctor` prints where). Then trigger a sync."
    )


class NoSubject(GmailRejected):
    """A precondition fails again and again: the credentials act as a service account, which has no mailbox."""

    action = (
        "Set GMAIL_AUTH=delegation and GMAIL_DELEGATE: a service account's own credentials open no mailbox; "
        "`mailmirror doctor` checks them. Gmail says the same in passing: the mailbox is tried again every hour."
    )


class ApiDisabled(GmailRejected):
    """An API is not enabled in the project."""

    action = (
        "Enable the API that the message names, the Gmail API for instance: gcloud services enable "
        "gmail.googleapis.com --project=PROJECT. It takes a few minutes; then trigger a sync."
    )


class CredentialsMissing(GmailRejected):
    """The functions find no credentials of their own."""

    action = (
        "Run the functions as a service account; on a machine of your own: gcloud auth application-default login. "
        "Then trigger a sync."
    )


class SigningDenied(GmailRejected):
    """IAM does not let the functions sign as the delegated service account."""

    action = (
        "Let the functions sign: gcloud services enable iamcredentials.googleapis.com --project=PROJECT, and gcloud "
        "iam service-accounts add-iam-policy-binding GMAIL_DELEGATE --member=serviceAccount:{the functions' account} "
        "--role=roles/iam.serviceAccountTokenCreator; then trigger a sync."
    )


class ClientInvalid(GmailRejected):
    """The OAuth client that the users consented to cannot be read, or Google does not know it any more."""

    action = (
        "Store the OAuth client as the Cloud console downloads it (APIs & Services, Credentials): gcloud secrets "
        "versions add GMAIL_OAUTH_CLIENT --data-file=client.json; then trigger a sync. A new client takes new "
        "consents."
    )


class PublishDenied(GmailRejected):
    """Gmail cannot publish to the topic of notifications. The mirror goes on by the sweep."""

    action = (
        "Let Gmail publish: gcloud pubsub topics add-iam-policy-binding GMAIL_TOPIC "
        "--member=serviceAccount:gmail-api-push@system.gserviceaccount.com --role=roles/pubsub.publisher; where "
        "domain restricted sharing forbids that, the organization policy needs an exception for this account."
    )


class TopicElsewhere(GmailRejected):
    """The topic of notifications is not in the project whose OAuth client or service account asks for the watch."""

    action = (
        "Set GMAIL_TOPIC to a topic in the project that the message names, the one that owns the OAuth client or the "
        "delegated service account, or take a client or account of the topic's project."
    )


class WatchTaken(GmailRejected):
    """The same project watches this mailbox for another topic, and takes the watch back whenever it is stopped."""

    action = (
        "Look for another deployment of the same project that watches this mailbox, and stop it there; each "
        "deployment needs an OAuth client or a delegated service account in a project of its own."
    )


def _with_kinds(failure: type[GmailError]) -> frozenset[str]:
    return frozenset({failure.__name__}).union(*(_with_kinds(kind) for kind in failure.__subclasses__()))


# The names of what keeps a mailbox closed until somebody does something: as `Problem.code` they make the phase.
NEEDS_SOMEBODY = _with_kinds(AccessRevoked) | _with_kinds(GmailRejected)
