"""Consent in a browser: the link that asks a user for it, and what becomes of the answer.

Knows: which client may ask, which answer is a consent, and when it is kept. Does not know: routes, how question and
answer belong together (`consent`), or what connecting takes (`mailboxes`). The promise: a consent is kept only for the
link's mailbox, and not if that was deleted since. Interrupted before connecting, one opens the link again. The page
that tells needs nothing but itself.
"""

import base64
import hashlib
import html
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import KW_ONLY, dataclass, field
from datetime import datetime

from mailmirror.consent import AuthorizationServer, Consents, Granted, OAuthClient, ask, asked, forget
from mailmirror.errors import BeingPurged, ClientInvalid, ConsentMissing, ConsentNotGiven, GmailError
from mailmirror.log import log
from mailmirror.mailboxes import mailbox_id, not_purged
from mailmirror.model import Mailbox, MailboxId
from mailmirror.ports import Clock, Store

# RFC 6749's error codes; nothing else is repeated.
_CODE = re.compile(r"[a-z_]{1,60}")

_STYLE = (
    ":root{color-scheme:light dark}"
    "body{font:1rem/1.5 system-ui,sans-serif;max-width:36rem;margin:15vh auto;padding:0 1.5rem}"
    "h1{font-size:1.5rem}"
)
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()

# The page's address holds what Google handed back: nobody gets or keeps it.
HEADERS: Mapping[str, str] = {
    "Content-Type": "text/html; charset=utf-8",
    "Cache-Control": "no-store",
    "Content-Security-Policy": (
        f"default-src 'none'; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; form-action 'none'; "
        "frame-ancestors 'none'"
    ),
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class Link:
    """An address for a browser."""

    url: str = field(repr=False)
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class WebConsent:
    """Asks users for their consent, and keeps it.

    Attributes:
        owner: returns the address that an access token opens.
        redirect_uri: where answers come to; empty: where the link was asked for.
    """

    consents: Consents
    google: AuthorizationServer
    owner: Callable[[str], str]
    store: Store
    clock: Clock
    _: KW_ONLY
    scopes: Sequence[str]
    new_nonce: Callable[[], str]
    redirect_uri: str = ""

    def link(self, address: object, here: str) -> Link:
        """Return the link by which the user of a primary address gives consent.

        `here`: where answers come to without a `redirect_uri`. Raises `InvalidInput`, `ClientInvalid`,
        `CredentialsMissing`, `GmailUnavailable`.
        """
        mailbox = mailbox_id(address)
        client, redirect_uri = self.consents.client(), self.redirect_uri or here
        if client.kind != "web":
            raise ClientInvalid(
                "The OAuth client is of type Desktop app, and Google sends no browser from there to a server. It has "
                f"to be of type Web application, with the authorized redirect URI {redirect_uri}. With a Desktop app "
                "`make consent` asks for consent at a terminal."
            )
        if redirect_uri not in client.redirect_uris:
            raise ClientInvalid(
                f"The OAuth client has no redirect URI {redirect_uri}: it has to be among its authorized redirect URIs "
                "in the Cloud console and in the JSON that is stored; or OAUTH_REDIRECT_URI has to name one that is."
            )
        question = ask(client, mailbox, redirect_uri, self.clock.now(), self.new_nonce())
        log("consent_asked", mailbox, until=question.expires_at)
        return Link(self.google.address(client, question, self.scopes), question.expires_at)

    def answered(
        self, connect: Callable[[MailboxId, datetime], Mailbox], *, state: str, code: str, error: str
    ) -> Mailbox:
        """Keep the consent, `connect` its mailbox, whose user was asked then, and return that.

        `state`, `code`, `error`: as Google answered, or empty. Raises `ConsentNotGiven`: nothing was kept; others.
        """
        client, question = asked(self.consents, state, self.clock.now())
        mailbox = question.mailbox
        if error or not code:
            raise ConsentNotGiven(_refused(error, mailbox))
        try:
            # An unused code is worth nothing.
            not_purged(self.store, mailbox, question.asked_at)
        except BeingPurged as deleted:
            raise ConsentNotGiven(str(deleted)) from None
        granted = self.google.exchange(client, question, code)
        self._check(client, granted, mailbox)
        self.consents.keep(mailbox, granted.refresh_token)
        log("consent_given", mailbox)
        try:
            return connect(mailbox, question.asked_at)
        except BeingPurged as deleted:
            # The purge may not have seen this consent.
            forget(self.consents, self.google, mailbox)
            log("consent_forgotten", mailbox)
            raise ConsentNotGiven(str(deleted)) from None

    def _check(self, client: OAuthClient, granted: Granted, mailbox: MailboxId) -> None:
        if not granted.scopes.issuperset(self.scopes):
            raise ConsentNotGiven(f"Not all of the access to {mailbox} was allowed: every box has to be ticked.")
        if not granted.refresh_token:
            raise ConsentNotGiven(
                f"Google gave access to {mailbox} for an hour only. Remove the application at "
                "https://myaccount.google.com/connections first."
            )
        owner = self.owner(granted.access_token).lower()
        if owner == mailbox:
            return
        # That takes back all that its user allowed this client
        # (https://github.com/Significant-Gravitas/AutoGPT/pull/10493): not if it opens a mailbox of theirs.
        if not self._kept(owner):
            self.google.revoke(client, granted.refresh_token)
        raise ConsentNotGiven(
            f"The account that was chosen in the browser is not {mailbox}, or that is not its primary address; nothing "
            "was kept."
        )

    def _kept(self, mailbox: MailboxId) -> bool:
        """Whether there may be a consent. One just given may be unreadable: its mailbox tells."""
        if self.store.mailbox(mailbox) is not None:
            return True
        try:
            self.consents.refresh_token(mailbox)
        except GmailError as error:
            return not isinstance(error, ConsentMissing)
        return True


def _refused(error: str, mailbox: MailboxId) -> str:
    if error == "access_denied":
        return f"Access to {mailbox} was not allowed."
    if error == "admin_policy_enforced":
        return (
            f"The administrators of the organization of {mailbox} do not let this application in: it has to be trusted "
            "in the Admin console, Security, Access and data control, API controls."
        )
    said = error if _CODE.fullmatch(error) else "no code"
    return f"Google did not give access to {mailbox} ({said})."


def page(title: str, *paragraphs: str) -> str:
    """Return the page that a user sees after having been asked; all text is escaped."""
    shown = html.escape(title)
    body = "\n".join(f"<p>{html.escape(paragraph)}</p>" for paragraph in paragraphs)
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{shown}</title>\n'
        f'<meta name="viewport" content="width=device-width">\n<style>{_STYLE}</style>\n</head>\n'
        f"<body>\n<h1>{shown}</h1>\n{body}\n</body>\n</html>\n"
    )
