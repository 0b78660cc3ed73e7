"""What can be wrong with the access to mailboxes: delegation, consent, and the mailboxes as they stand."""

from collections.abc import Iterator
from typing import Any

from mailmirror.adapters import directory
from mailmirror.adapters.consents import token_secret

from tests.cli import healthy as h
from tests.cli.googleapis import Cloud
from tests.cli.harms import (
    DEPLOY,
    Disease,
    Harm,
    account,
    ago,
    change,
    environment,
    lose,
    mailbox,
    refuse,
    strip,
    token,
    watch,
)

WORK = "mailmirror-run-work"
DELEGATE = h.account("mailmirror-delegate")
GRANT = f"gcloud iam service-accounts add-iam-policy-binding {DELEGATE} --project=my-project"
PAGE = ("Client ID", h.CLIENT_ID), ("OAuth scopes", h.SCOPE)
ACCESSOR = "roles/secretmanager.secretAccessor"


def delegation() -> Iterator[Disease]:
    """The delegate, its signers, and what opening a mailbox can fail for."""
    check, gone = "delegation.delegate", account("mailmirror-delegate")
    yield Disease("delegate gone", check, gone, says=DELEGATE)
    enable = f"gcloud iam service-accounts enable {DELEGATE} --project=my-project"
    yield Disease("delegate disabled", check, account("mailmirror-delegate", disabled=True), (enable,))
    check, role = "delegation.signers", h.own("mailmirrorJwtSigner")
    grant = f"{GRANT} --role={role} --member={h.member(WORK)}"
    unable = strip(f"{h.ACCOUNTS}/{DELEGATE}", h.member(WORK))
    yield Disease("a function may not sign", check, unable, (grant,), WORK)
    roles = "gcloud iam roles {} mailmirrorJwtSigner --project=my-project"
    undelete, update = roles.format("undelete"), roles.format("update")
    yield Disease("signers' role deleted", check, change(f"{h.IAM}/{role}", deleted=True), (undelete,))
    add = f"{update} --add-permissions=iam.serviceAccounts.signJwt"
    yield Disease("signers' role empty", check, change(f"{h.IAM}/{role}", includedPermissions=[]), (add,))
    yield Disease("signers' role gone", check, lose(f"{h.IAM}/{role}"))
    yield from _attempts()

    def admin(cloud: Cloud) -> None:
        environment(DIRECTORY_ADMIN="root@example.com")(cloud)
        cloud.services["admin.googleapis.com"] = "ENABLED"

    both = ("Client ID", h.CLIENT_ID), ("OAuth scopes", ",".join((h.SCOPE, *directory.SCOPES)))
    check, says = "delegation.directory", "up to 24 hours"
    yield Disease("directory not delegated", check, admin, (), says, mailbox=h.ADA, paste=both)


def _attempts() -> Iterator[Disease]:
    def attempt(name: str, harm: Harm, says: str, *commands: str, **more: Any) -> Disease:
        return Disease(name, "delegation.attempt", harm, commands, says, mailbox=h.ADA, **more)

    yield attempt("nothing delegated", lambda cloud: cloud.delegated.clear(), "up to 24 hours", paste=PAGE)
    yield attempt("delegation restricted", token("access_denied", "Restricted"), "up to 24 hours", paste=PAGE)
    yield attempt("no such user", lambda cloud: cloud.users.pop(h.ADA), "no user ada@example.com")
    yield attempt("user deleted", token("invalid_grant", "The account has been deleted"), "has been deleted")
    yield attempt("time refused", token("invalid_grant", "Invalid JWT: check iat and exp"), "does not accept the time")
    yield attempt("scope misspelt", token("invalid_scope", "Some scopes were invalid"), "gmail_scopes", DEPLOY)
    yield attempt("token endpoint fails", token("internal_failure", ""), "did not say", outcome="unknown")
    yield attempt("alias", lambda cloud: cloud.users.update({h.ADA: h.BOB}), "an alias of bob@example.com")
    yield attempt("no Gmail", refuse(400, "Mail service not enabled"), "not switched on")
    yield attempt("domain policy", refuse(403, "Gmail apps are off.", reason="domainPolicy"), "have disabled Gmail")
    scopes = refuse(403, "Request had insufficient scopes.", reason="ACCESS_TOKEN_SCOPE_INSUFFICIENT")
    yield attempt("scopes too narrow", scopes, "gmail_scopes", DEPLOY)
    off = refuse(403, "Gmail API has not been used in project 1.", reason="accessNotConfigured")
    enable = "gcloud services enable gmail.googleapis.com --project=my-project"
    yield attempt("Gmail API off", off, "not enabled", enable)
    yield attempt("Gmail fails", refuse(500, "Backend Error"), "did not say", outcome="unknown")

    def may_not(cloud: Cloud) -> None:
        cloud.denied.add("iamcredentials.googleapis.com")

    creator = f"{GRANT} --role=roles/iam.serviceAccountTokenCreator --member=user:ops@example.com"
    yield attempt("operator may not sign", may_not, "you may not sign", creator, outcome="unknown")


def consent() -> Iterator[Disease]:
    """The OAuth client, its readers, and a user's consent."""
    client, latest = f"{h.SECRETS}/{h.CLIENT}", f"{h.SECRETS}/{h.CLIENT}/versions/latest"
    secret, versions = "mailmirror-oauth-client", "gcloud secrets versions"
    add = f"{versions} add {secret} --project=my-project --data-file=client.json"

    def disease(name: str, harm: Harm, command: str, says: str = "", **more: Any) -> Disease:
        return Disease(name, "consent.client", harm, (command,), says, auth="oauth", **more)

    def holding(kind: str, client_id: str, **more: Any) -> Harm:
        return lambda cloud: h.oauth_client(cloud, {kind: {"client_id": client_id, **more}})

    yield disease("client's secret gone", lose(client), DEPLOY)
    yield disease("no client", lose(latest), add, "holds no OAuth client")
    yield disease("client destroyed", change(latest, state="DESTROYED"), add)
    enable = f"{versions} enable 2 --secret={secret} --project=my-project"
    yield disease("client disabled", change(latest, state="DISABLED"), enable)
    yield disease("no client's JSON", holding("other", "1-a"), add, "is no OAuth client")
    yield disease("another project's client", holding("installed", "987-a"), add, "number 987")
    page = (("Authorized redirect URI", h.REDIRECT),)
    elsewhere = holding("web", f"{h.NUMBER}-a", redirect_uris=["http://localhost:8765/"])
    yield disease("redirect URI missing", elsewhere, add, paste=page)
    grant = f"gcloud secrets add-iam-policy-binding {secret} --project=my-project"
    unable = strip(client, h.member(WORK))
    command = f"{grant} --member={h.member(WORK)} --role={ACCESSOR}"
    yield Disease("client cannot be read", "consent.readers", unable, (command,), auth="oauth")

    def other_tokens(cloud: Cloud) -> None:
        binding = next(each for each in cloud.policies[h.RESOURCES] if each["role"] == ACCESSOR)
        binding["condition"]["expression"] = f'resource.name.startsWith("projects/{h.NUMBER}/secrets/others-")'

    begins = f'resource.name.startsWith("projects/{h.NUMBER}/secrets/mailmirror-token-")'
    readers = [WORK.replace("run-work", each) for each in ("sync-history", "run-work", "trigger-sync")]
    readers += [WORK.replace("run-work", each) for each in ("manage-mailboxes", "read-mailboxes", "oauth-callback")]
    commands = tuple(
        f"gcloud projects add-iam-policy-binding my-project --member={h.member(name)} --role={ACCESSOR} "
        f"--condition='expression={begins},title=mailmirror-tokens'"
        for name in readers
    )
    yield Disease("tokens cannot be read", "consent.readers", other_tokens, commands, auth="oauth")
    check, keeper = "consent.keepers", h.own("mailmirrorTokenKeeper")
    public = WORK.replace("run-work", "oauth-callback")
    either = f'resource.type == "cloudresourcemanager.googleapis.com/Project" || {begins}'

    def careless(role: str, name: str) -> Harm:
        def harm(cloud: Cloud) -> None:
            binding = next(each for each in cloud.policies[h.RESOURCES] if each["role"] == role)
            binding["members"].remove(h.member(name))

        return harm

    for word, role, name, only in (
        ("keep", keeper, public, either),
        ("delete", h.own("mailmirrorTokenRemover"), WORK, begins),
    ):
        command = (
            f"gcloud projects add-iam-policy-binding my-project --member={h.member(name)} --role={role} "
            f"--condition='expression={only},title=mailmirror-tokens'"
        )
        harm = careless(role, name)
        yield Disease(f"a function may not {word} consents", check, harm, (command,), name, auth="oauth")
        undelete = f"gcloud iam roles undelete {role.rpartition('/')[2]} --project=my-project"
        deleted = change(f"{h.IAM}/{role}", deleted=True)
        says = f"May not {word} consents"
        yield Disease(f"the role to {word} consents deleted", check, deleted, (undelete,), says, auth="oauth")
    none = lose(f"{h.SECRETS}/{token_secret(h.TOKENS, h.ADA)}/versions/latest")
    consent = "make consent PROJECT=my-project MAILBOX=ada@example.com CLIENT=client.json"
    yield Disease("no consent", "consent.token", none, (consent,), auth="oauth", mailbox=h.ADA)


def mailboxes() -> Iterator[Disease]:
    """Watches, access, what is due, and one mailbox."""
    run = "gcloud scheduler jobs run mailmirror-{} --location=europe-west1 --project=my-project"
    renew, sweep = (run.format("renew-watches"),), (run.format("sweep-mailboxes"),)
    lapsed, soon = mailbox(watch=watch(ago(hours=1))), mailbox(watch=watch(ago(hours=-20)))
    yield Disease("watch lapsed", "mailboxes.watches", lapsed, renew, "sweep alone: bob@example.com.")
    says = "within two days: bob@example.com."
    yield Disease("watch lapses soon", "mailboxes.watches", soon, renew, says, outcome="warning")
    closed = mailbox(phase="reauth_required", watch=watch(ago(days=3)))
    look = "mailmirror doctor --project=my-project --region=europe-west1 --mailbox=bob@example.com"
    yield Disease("access gone", "mailboxes.access", closed, (look,), "Access is gone: bob@example.com.")
    yield Disease("sweep stands still", "mailboxes.due", mailbox(nextDueAt=ago(hours=3)), sweep, "Due for 3 h")

    def bob(name: str, harm: Harm, says: str, *commands: str, **more: Any) -> Disease:
        return Disease(name, "mailboxes.mailbox", harm, commands, says, mailbox=h.BOB, **more)

    put = (
        "curl -X PUT -d '' -H \"Authorization: Bearer $(gcloud auth print-identity-token)\" "
        f'"{h.address("mailmirror-manage-mailboxes")}/mailboxes/bob@example.com"'
    )
    yield bob("not connected", lambda cloud: cloud.documents.pop(f"mailboxes/{h.BOB}"), "not connected", put)
    problem = {"code": "HistoryLag", "message": "History is behind.", "action": "Wait.", "at": ago(minutes=1)}
    yield bob("problem", mailbox(problem=problem), "History is behind. Wait.")
    yield bob("watch refused", mailbox(watch=watch(ago(days=-6), "Gmail said no.")), "Gmail said no.", *renew)
    throttled = mailbox(phase="throttled", throttledUntil=ago(minutes=-9))
    yield bob("throttled", throttled, "is throttled until", outcome="warning")
