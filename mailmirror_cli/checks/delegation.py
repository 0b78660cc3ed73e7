"""Domain-wide delegation: the delegate, what an administrator of the domain enters, who may sign, and an attempt.

The attempt is what a function does to open a mailbox: a statement signed as the delegate is exchanged for a token that
acts as the user, and with it Gmail is asked for the mailbox's profile. Each way in which that fails is told in words.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from mailmirror.adapters import directory

from mailmirror_cli import commands, rights
from mailmirror_cli.google import ApiDisabled, Denied, NoAnswer
from mailmirror_cli.report import Finding, ok, unknown, wrong
from mailmirror_cli.site import Check, Site

SUBJECT = "Delegation"
SIGNER = "mailmirrorJwtSigner"
TOKEN_CREATOR = "roles/iam.serviceAccountTokenCreator"  # noqa: S105 -- the name of a role
_TOKEN_SECONDS = 600
PAGE = "Admin console → Security → Access and data control → API controls → Domain-wide delegation"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("delegation.delegate", "delegate", _delegate)
    yield Check("delegation.signers", "who may sign as it", _signers)
    yield Check("delegation.attempt", "attempt", _attempt)
    yield Check("delegation.directory", "attempt at the directory", _directory)


def _applies(site: Site) -> bool:
    return site.settings.gmail_auth == "delegation"


def _account(site: Site) -> dict[str, Any] | None:
    """The delegate's account, None if there is none."""
    path = f"v1/projects/{site.project}/serviceAccounts"
    rows = site.google.listing("iam", path, "accounts", role="roles/iam.serviceAccountViewer")
    return next((row for row in rows if row["email"] == site.settings.gmail_delegate), None)


def _paste(site: Site, account: dict[str, Any]) -> dict[str, str]:
    """What the administrator enters: the fields as the page calls them."""
    scopes = [*site.settings.gmail_scopes, *(directory.SCOPES if site.settings.directory_admin else ())]
    return {"Client ID": str(account["uniqueId"]), "OAuth scopes": ",".join(scopes)}


def _delegate(site: Site) -> Finding | None:
    if not _applies(site):
        return None
    delegate, account = site.settings.gmail_delegate, _account(site)
    if account is None:
        # Gmail publishes only to topics of the project that its caller belongs to.
        return wrong(f"The project has no account {delegate}, as whom mailboxes are opened.", site.deploy)
    if account.get("disabled"):
        words = "gcloud", "iam", "service-accounts", "enable", delegate, f"--project={site.project}"
        return wrong(f"{delegate} is disabled.", commands.line(*words))
    return ok(f"{delegate}. An administrator enters what is below in: {PAGE}.", paste=_paste(site, account))


def _signers(site: Site) -> Finding | None:
    if not _applies(site):
        return None
    delegate = site.settings.gmail_delegate
    names = [entry_point.function for entry_point in site.entry_points if entry_point.gmail]
    resource = rights.account(site, delegate)
    permissions = ["iam.serviceAccounts.signJwt"]
    without = [name for name in names if rights.lacking(site, site.member(name), permissions, resource)]
    if not without:
        return ok(f"{', '.join(names)}.")
    role = rights.custom_role(site, SIGNER)
    lines = (
        [role]
        if role
        else [_grant(site, site.member(name), f"projects/{site.project}/roles/{SIGNER}") for name in without]
    )
    return wrong(f"May not sign as {delegate}: {', '.join(without)}.", *lines)


def _attempt(site: Site) -> Finding | None:
    if site.mailbox is None or not _applies(site):
        return None
    token = _token(site, site.mailbox, site.settings.gmail_scopes)
    if isinstance(token, Finding):
        return token
    try:
        profile = site.google.get_as(token, "gmail", "gmail/v1/users/me/profile")
    except NoAnswer as refusal:
        return _no_mailbox(site, refusal)
    owner = str(profile["emailAddress"]).lower()
    if owner != site.mailbox:
        return wrong(f"{site.mailbox} is an alias of {owner}: connect the mailbox under that address.")
    return ok(f"{site.mailbox} opens.")


def _directory(site: Site) -> Finding | None:
    if site.mailbox is None or not _applies(site) or not site.settings.directory_admin:
        return None
    token = _token(site, site.settings.directory_admin, directory.SCOPES)
    if isinstance(token, Finding):
        return token
    return ok(f"The directory is opened as {site.settings.directory_admin}.")


def _token(site: Site, user: str, scopes: Sequence[str]) -> str | Finding:
    """An access token that acts as a user of the domain, or why there is none."""
    delegate, now = site.settings.gmail_delegate, site.google.now
    statement = {
        "iss": delegate,
        "sub": user,
        "scope": " ".join(scopes),
        "aud": "https://oauth2.googleapis.com/token",
        "iat": int(now.timestamp()),
        "exp": int(now.timestamp()) + _TOKEN_SECONDS,
    }
    try:
        signed = site.google.sign(delegate, statement, role=TOKEN_CREATOR)
    except Denied:
        return unknown(
            f"Not tried: you may not sign as {delegate}; {TOKEN_CREATOR} on it would let you.",
            _grant(site, site.google.operator, TOKEN_CREATOR),
        )
    try:
        return site.google.exchange(signed)
    except NoAnswer as refusal:
        return _no_token(site, user, refusal)


def _no_token(site: Site, user: str, refusal: NoAnswer) -> Finding:
    """What a refusal of the token endpoint means (facts on keyless delegation: Google's OAuth guide, GAM's table)."""
    account = _account(site)
    paste = _paste(site, account) if account else {}
    told = f"{refusal.reason}: {refusal.text}".rstrip(": .")
    if refusal.reason in ("unauthorized_client", "access_denied"):
        return wrong(
            "The domain's administrator has not delegated exactly these scopes to this client id, or did so a moment "
            f"ago: it can take up to 24 hours ({told}). Enter what is below in: {PAGE}.",
            paste=paste,
        )
    if refusal.reason == "invalid_scope":
        return wrong(f"GMAIL_SCOPES holds what is no scope: correct gmail_scopes and deploy ({told}).", site.deploy)
    if refusal.reason == "invalid_grant" and ("JWT" in refusal.text or "timeframe" in refusal.text):
        return wrong(f"Google does not accept the time that this machine signed with ({told}).")
    if refusal.reason == "invalid_grant":
        return wrong(
            f"The domain has no user {user}, or it is an alias, suspended or deleted ({told}): name the user by the "
            "primary address."
        )
    return unknown(f"The token endpoint did not say whether it works ({told or refusal.status}).")


def _no_mailbox(site: Site, refusal: NoAnswer) -> Finding:
    """What a refusal of Gmail means (facts on the shapes of its errors: Google's guide on resolving errors)."""
    if isinstance(refusal, ApiDisabled):
        words = "gcloud", "services", "enable", "gmail.googleapis.com", f"--project={site.project}"
        return wrong("The Gmail API is not enabled in the project.", commands.line(*words))
    if "Mail service not enabled" in refusal.text:
        return wrong(f"Gmail is not switched on for {site.mailbox}: an administrator does that in the Admin console.")
    if refusal.reason == "domainPolicy":
        return wrong("The domain's administrators have disabled Gmail for applications.")
    if "nsufficient" in refusal.text + refusal.reason or "INSUFFICIENT" in refusal.reason:
        return wrong(f"The scopes do not allow reading mail ({refusal.text}): correct gmail_scopes.", site.deploy)
    if refusal.status == 429 or "ateLimitExceeded" in refusal.reason:
        return ok(f"{site.mailbox} opens; Gmail is throttling it at the moment.")
    return unknown(f"Gmail did not say whether {site.mailbox} opens ({refusal.status} {refusal.text}).")


def _grant(site: Site, member: str | None, role: str) -> str:
    words = "gcloud", "iam", "service-accounts", "add-iam-policy-binding", site.settings.gmail_delegate
    return f"{commands.line(*words, f'--project={site.project}', f'--role={role}')} {commands.member_flag(member)}"
