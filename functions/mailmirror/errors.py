"""Every failure that has a name, and what becomes of the push that met it.

Knows: whether Pub/Sub should come back, the status for people and the next step. Does not know: HTTP, Pub/Sub or Gmail.
Law 8: a failure without a name here does not exist. What has kinds is also raised itself, where none fits.
"""

from datetime import datetime


class MailmirrorError(Exception):
    """The root.

    Attributes:
        acknowledge: a push is answered 204, not 503, after which Pub/Sub delivers it again.
        http_status, status: an HTTP caller's, Google's canonical code.
    """

    acknowledge = False
    http_status = 503
    status = "UNAVAILABLE"
    action = "Nothing to do: the work is tried again by itself."


class InvalidInput(MailmirrorError):
    """A push or a request is malformed."""

    http_status = 400
    status = "INVALID_ARGUMENT"
    action = "Correct the request; for a push, look at the message in the dead-letter subscription."


class UnknownMailbox(MailmirrorError):
    """No mailbox of this address is connected."""

    acknowledge = True
    http_status = 404
    status = "NOT_FOUND"
    action = "Connect it first: PUT /mailboxes/{address} on manage_mailboxes."


class MailboxStopped(MailmirrorError):
    """The mailbox was stopped; its mirror is kept."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Connect it again, and it goes on from where it was: PUT /mailboxes/{address} on manage_mailboxes."


class BeingPurged(MailmirrorError):
    """The mailbox is being deleted; that is not taken back."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = (
        "Wait until it is gone, DELETE /mailboxes/{address} on manage_mailboxes tells; then it can be connected anew."
    )


class NotMirrored(MailmirrorError):
    """The mirror has no such message or attachment."""

    acknowledge = True
    http_status = 404
    status = "NOT_FOUND"
    action = (
        "Take message ids and part ids from the mirror's message documents, and read them anew: what was deleted in "
        "Gmail, or is outside the mailbox's policy, is not in the mirror."
    )


class AttachmentGone(MailmirrorError):
    """The bytes were not kept, and Gmail does not have them."""

    acknowledge = True
    http_status = 404
    status = "NOT_FOUND"
    action = (
        "Leave it if the message was deleted in Gmail: the mirror is about to follow. A message that is attached to "
        "another may have no bytes of its own in Gmail. What ATTACHMENTS=store keeps is there as long as its message."
    )


class TextGone(MailmirrorError):
    """A message's large text is not where it was kept."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = (
        "Set BODY_BUCKET to the bucket that it names, or let POST /mailboxes/{address}/sync?mode=full on trigger_sync "
        "write it again."
    )


class CursorExpired(MailmirrorError):
    """The delta log does not go on from this cursor: deltas are kept for 30 days, or it is another life's."""

    acknowledge = True
    http_status = 410
    status = "OUT_OF_RANGE"
    action = (
        "Build the cache anew: take a cursor from GET /mailboxes/{m}/deltas/latest-cursor, then list "
        "GET /mailboxes/{m}/threads, then go on with the deltas from that cursor."
    )


class ConsentNotGiven(MailmirrorError):
    """A user's answer is no consent for the mailbox asked for; nothing was kept."""

    http_status = 400
    status = "INVALID_ARGUMENT"
    action = "Open the link again, or ask whoever made it for a new one (GET /connect on manage_mailboxes)."


class LeaseHeld(MailmirrorError):
    """Another worker holds the lease."""

    acknowledge = True
    http_status = 409
    status = "ABORTED"


class LeaseLost(MailmirrorError):
    """Another worker took the lease; nothing was written."""

    http_status = 409
    status = "ABORTED"


class DocumentExists(MailmirrorError):
    """A document to be created exists; nothing was written. The engine looks where it belongs."""

    http_status = 409
    status = "ABORTED"


class StoreUnavailable(MailmirrorError):
    """The store aborted or did not answer; whether the commit happened is unknown."""


class DirectoryUnavailable(MailmirrorError):
    """The Directory API answered 5xx, refused for quota, or was silent."""

    action = "Discover again a little later, from the page token given last: who is connected already is confirmed."


class DirectoryRejected(MailmirrorError):
    """The Directory API refuses the request, or nobody said as whom to ask."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Correct the configuration that the message names, then discover again."


class GmailError(MailmirrorError):
    """Gmail answered something else."""


class HistoryExpired(GmailError):
    """404 on history.list: Gmail keeps hours at least, typically a week. The engine starts a run."""


class HistoryLag(GmailError):
    """history.list does not yet show what was notified."""


class PageTokenExpired(GmailError):
    """A page token was refused: the listing starts again."""


class Throttled(GmailError):
    """Gmail refused for quota, or the budget is too small; `until` when, if known."""

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
    """Gmail answered 5xx or not at all."""


class AccessRevoked(GmailError):
    """The token was refused, or access withdrawn."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = (
        "Give access again (domain-wide delegation or the user's consent), then trigger a sync; the cursor is kept."
    )


class ConsentMissing(AccessRevoked):
    """The consent was not given, was withdrawn, has expired, or is too narrow."""

    action = (
        "Let the user consent (again): GET /connect?mailbox={address} on manage_mailboxes; the cursor is kept. If "
        "consents end after 7 days, publish the OAuth consent screen: its status is Testing."
    )


class SessionEnded(AccessRevoked):
    """The domain's session control ends the token (invalid_rapt)."""

    action = (
        "Let the user consent again: GET /connect?mailbox={address} on manage_mailboxes; the cursor is kept. So that "
        "it lasts, let an administrator exempt trusted apps: Admin console, Security, Access and data control, Google "
        "Cloud session control."
    )


class DelegationMissing(AccessRevoked):
    """The domain has not delegated these scopes, or not yet."""

    action = (
        "In the Admin console, Security, Access and data control, API controls, Domain-wide delegation, enter the "
        "client id and exactly the scopes that `mailmirror doctor` prints; it takes effect within 24 hours. The "
        "cursor is kept."
    )


class NoSuchUser(AccessRevoked):
    """Google has no user of this address: an alias, or deleted."""

    action = (
        "Look the user up in the Admin console, Directory, Users, and connect the primary address. If the account is "
        "deleted for good: DELETE /mailboxes/{address} on manage_mailboxes."
    )


class MailServiceOff(AccessRevoked):
    """The user has no Gmail."""

    action = (
        "Turn Gmail on for this user: Admin console, Apps, Google Workspace, Gmail, Service status, and a license "
        "that has Gmail; then trigger a sync. If the user is to have no mail: DELETE /mailboxes/{address} on "
        "manage_mailboxes."
    )


class BlockedByDomain(AccessRevoked):
    """The administrators let no application, or not this one, read Gmail, or restricted the account."""

    action = (
        "Ask an administrator of the domain to trust this application: Admin console, Security, Access and data "
        "control, API controls, Manage app access; then trigger a sync. The cursor is kept."
    )


class WrongUser(AccessRevoked):
    """The credentials are another user's."""

    action = (
        "Let the mailbox's own user consent, not another account signed in in the same browser, and connect the "
        "primary address, not an alias; the cursor is kept."
    )


class GmailRejected(GmailError):
    """Gmail refuses the request itself: a scope, topic or API is not set up."""

    acknowledge = True
    http_status = 409
    status = "FAILED_PRECONDITION"
    action = "Correct the configuration that the message names, then trigger a sync; the cursor is kept."


class ScopeMissing(GmailRejected):
    """The scopes do not cover the call."""

    action = (
        "Set GMAIL_SCOPES to https://www.googleapis.com/auth/gmail.readonly and grant exactly that: in the Admin "
        "console for delegation, by a new consent otherwise (`mailmirror doctor` prints where). Then trigger a sync."
    )


class NoSubject(GmailRejected):
    """A precondition fails again and again: a service account itself has no mailbox."""

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
    """The functions have no credentials."""

    action = (
        "Run the functions as a service account; on a machine of your own: gcloud auth application-default login. "
        "Then trigger a sync."
    )


class SigningDenied(GmailRejected):
    """IAM does not let the functions sign as the service account."""

    action = (
        "Let the functions sign: gcloud services enable iamcredentials.googleapis.com --project=PROJECT, and gcloud "
        "iam service-accounts add-iam-policy-binding GMAIL_DELEGATE --member=serviceAccount:{the functions' account} "
        "--role=roles/iam.serviceAccountTokenCreator; then trigger a sync."
    )


class ClientInvalid(GmailRejected):
    """The OAuth client is unreadable or unknown to Google."""

    action = (
        "Store the OAuth client as the Cloud console downloads it (APIs & Services, Credentials): gcloud secrets "
        "versions add GMAIL_OAUTH_CLIENT --data-file=client.json; then trigger a sync. A new client takes new "
        "consents."
    )


class PublishDenied(GmailRejected):
    """Gmail cannot publish to the topic. The mirror goes on by the sweep."""

    action = (
        "Let Gmail publish: gcloud pubsub topics add-iam-policy-binding GMAIL_TOPIC "
        "--member=serviceAccount:gmail-api-push@system.gserviceaccount.com --role=roles/pubsub.publisher; where "
        "domain restricted sharing forbids that, the organization policy needs an exception for this account."
    )


class TopicElsewhere(GmailRejected):
    """The topic is in another project than the OAuth client or service account."""

    action = (
        "Set GMAIL_TOPIC to a topic in the project that the message names, the one that owns the OAuth client or the "
        "delegated service account, or take a client or account of the topic's project."
    )


class WatchTaken(GmailRejected):
    """The project watches for another topic, and again when that is stopped."""

    action = (
        "Look for another deployment of the same project that watches this mailbox, and stop it there; each "
        "deployment needs an OAuth client or a delegated service account in a project of its own."
    )


def _with_kinds(failure: type[GmailError]) -> frozenset[str]:
    return frozenset({failure.__name__}).union(*(_with_kinds(kind) for kind in failure.__subclasses__()))


# What somebody has to do something about: as `Problem.code` these make the phase.
NEEDS_SOMEBODY = _with_kinds(AccessRevoked) | _with_kinds(GmailRejected)
