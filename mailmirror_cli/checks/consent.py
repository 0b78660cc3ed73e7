"""Users' consent: the OAuth client, who may read it, and whether the mailbox's user has given any.

A refresh token is never read here, and of the client only what kind it is and whose.
"""

import base64
import json
from collections.abc import Iterable
from typing import Any

from mailmirror.adapters.consents import oauth_client, token_secret

from mailmirror_cli import commands, rights
from mailmirror_cli.expected import ROLES, TOKENS_CONDITION
from mailmirror_cli.google import Absent, Denied
from mailmirror_cli.report import Finding, ok, wrong
from mailmirror_cli.site import Check, Site

SUBJECT = "Consent"
VIEWER = "roles/secretmanager.viewer"
ACCESSOR = "roles/secretmanager.secretAccessor"
KEEPER = "mailmirrorTokenKeeper"
REMOVER = "mailmirrorTokenRemover"
_ACCESS = ("secretmanager.versions.access",)
PAGE = "Cloud console → APIs & Services → Credentials"


def checks() -> Iterable[Check]:
    """Return the checks of this subject."""
    yield Check("consent.client", "OAuth client", _client)
    yield Check("consent.readers", "who may read it", _readers)
    yield Check("consent.keepers", "who may keep and delete consents", _keepers)
    yield Check("consent.token", "refresh token", _token)


def _applies(site: Site) -> bool:
    return site.settings.gmail_auth == "oauth"


def _ask(site: Site, name: str) -> dict[str, Any] | None:
    """A secret or a version of one, None if there is none."""
    try:
        found: dict[str, Any] = site.google.get("secretmanager", f"v1/{name}", role=VIEWER)
    except Absent:
        return None
    return found


def _client(site: Site) -> Finding | None:
    if not _applies(site):
        return None
    name = site.settings.gmail_oauth_client
    secret = name.rpartition("/")[2]
    if _ask(site, name) is None:
        return wrong(f"There is no secret {secret}.", site.deploy)
    words = "gcloud", "secrets", "versions"
    add = commands.line(*words, "add", secret, f"--project={site.project}", "--data-file=client.json")
    version = _ask(site, f"{name}/versions/latest")
    if version is None or version.get("state") == "DESTROYED":
        return wrong(f"The secret {secret} holds no OAuth client: add the JSON that the {PAGE} gives to download.", add)
    number = version["name"].rpartition("/")[2]
    if version.get("state") != "ENABLED":
        enable = commands.line(*words, "enable", number, f"--secret={secret}", f"--project={site.project}")
        return wrong(f"The latest version of {secret} is disabled.", enable)
    try:
        content = site.google.get("secretmanager", f"v1/{name}/versions/{number}:access", role=ACCESSOR)
    except Denied:
        return ok(f"Version {number} of {secret} is enabled. You may not read it, so what it holds was not looked at.")
    return _content(site, secret, base64.b64decode(content["payload"]["data"]), add)


def _content(site: Site, secret: str, content: bytes, add: str) -> Finding:
    """What is wrong with a client, without a word of what is secret in it."""
    try:
        client = oauth_client(json.loads(content))
    except ValueError:
        client = None
    if client is None:
        told = f"is no OAuth client as the {PAGE} gives it to download"
        return wrong(f"The latest version of {secret} {told}.", add)
    owner = client.client_id.partition("-")[0]
    if owner != site.number:
        # Gmail publishes only to topics of the project that the client belongs to.
        return wrong(f"The OAuth client belongs to another project, number {owner}: make one in {site.project}.", add)
    redirect = site.settings.oauth_redirect_uri or f"{site.function('manage_mailboxes').address}/oauth/callback"
    if client.kind == "web" and redirect not in client.redirect_uris:
        return wrong(
            f"The OAuth client lacks the redirect URI below: enter it in: {PAGE}, and add the client's JSON anew.",
            add,
            paste={"Authorized redirect URI": redirect},
        )
    return ok(f"A client of the kind {client.kind}.")


def _readers(site: Site) -> Finding | None:
    if not _applies(site):
        return None
    client, tokens, only = site.settings.gmail_oauth_client, _tokens(site), _only_tokens(site)
    lines = []
    for entry_point in site.entry_points:
        member = site.member(entry_point.function)
        if entry_point.gmail and rights.lacking(site, member, _ACCESS, rights.secret(client)):
            words = (
                "gcloud",
                "secrets",
                "add-iam-policy-binding",
                client.rpartition("/")[2],
                f"--project={site.project}",
            )
            lines.append(commands.line(*words, f"--member={member}", f"--role={ACCESSOR}"))
        if entry_point.gmail and rights.lacking(site, member, _ACCESS, tokens):
            lines.append(rights.conditional(site, member, ACCESSOR, TOKENS_CONDITION, only))
    if lines:
        return wrong(
            "Not every function that opens mailboxes may read the OAuth client and the refresh tokens.", *lines
        )
    return ok("The functions that open mailboxes.")


def _keepers(site: Site) -> Finding | None:
    if not _applies(site):
        return None
    tokens, only = _tokens(site), _only_tokens(site)
    # To create a secret is a right in the project, whatever the secret's name.
    either = f'resource.type == "cloudresourcemanager.googleapis.com/Project" || {only}'
    keepers = [each.function for each in site.entry_points if each.keeps]
    removers = [each.function for each in site.entry_points if each.forgets]
    lacking, lines = [], []
    for role, names, what, where in ((KEEPER, keepers, "keep", either), (REMOVER, removers, "delete", only)):
        without = [name for name in names if rights.lacking(site, site.member(name), ROLES[role], tokens)]
        if without:
            lacking.append(f"May not {what} consents: {', '.join(without)}.")
            mend, full = rights.custom_role(site, role), f"projects/{site.project}/roles/{role}"
            grants = [rights.conditional(site, site.member(name), full, TOKENS_CONDITION, where) for name in without]
            lines += [mend] if mend else grants
    if lacking:
        return wrong(" ".join(lacking), *dict.fromkeys(lines))
    return ok(f"They are kept by {', '.join(keepers)} and deleted by {', '.join(removers)}.")


def _tokens(site: Site) -> rights.Resource:
    """The secrets with refresh tokens: conditions name them with the project's number."""
    prefix = site.settings.gmail_token_prefix
    return rights.project(site, prefix.replace(f"projects/{site.project}/", f"projects/{site.number}/", 1))


def _only_tokens(site: Site) -> str:
    return f'resource.name.startsWith("{_tokens(site).name}")'


def _token(site: Site) -> Finding | None:
    if site.mailbox is None or not _applies(site):
        return None
    version = _ask(site, f"{token_secret(site.settings.gmail_token_prefix, site.mailbox)}/versions/latest")
    if version is None or version.get("state") != "ENABLED":
        given = f"PROJECT={site.project}", f"MAILBOX={site.mailbox}", "CLIENT=client.json"
        return wrong(f"No consent of {site.mailbox} is kept.", commands.line("make", "consent", *given))
    return ok(f"The consent of {site.mailbox} is kept.")
