"""A plan for an empty project, judged: nothing is wrong with it, and every mistake that is planted is named."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest
from mailmirror.adapters import directory

from tests import source
from tests.terraform import judge
from tests.terraform.configuration import ROOT, Configuration, Edit
from tests.terraform.conftest import VARIANTS, Planned
from tests.terraform.plan import Plan

# Terraform's registry may be slow the first time.
pytestmark = pytest.mark.timeout(600)


@dataclass(frozen=True)
class Mistake:
    """A mistake in the configuration, and a part of each sentence in which the judge has to tell it."""

    edits: tuple[Edit, ...]
    told: tuple[str, ...]


def mistake(file: str, old: str, new: str, *told: str) -> Mistake:
    """A mistake that is one edit."""
    return Mistake((Edit(file, old, new),), told)


EXPIRATION = """\
  message_retention_duration = "2678400s"
  labels                     = local.labels

  expiration_policy {
    ttl = ""
  }
"""
TOKEN = """\
    oidc_token {
      service_account_email = google_service_account.push.email
      audience              = google_cloudfunctions2_function.function[each.value].service_config[0].uri
    }
"""
SECRET_VERSION = """\
resource "google_secret_manager_secret_version" "client" {
  secret      = "mailmirror-oauth-client"
  secret_data = "value"
}
"""
OTHER_PUBLISHER = """\
resource "google_pubsub_topic_iam_member" "other" {
  topic  = google_pubsub_topic.topic["mailbox-work"].name
  role   = "roles/pubsub.publisher"
  member = google_service_account.push.member
}
"""

# What the planted copies ask for: each mistake is one in a deployment that has to do with it.
LISTING: dict[str, object] = {"admins": ["group:mail-admins@example.com"], "directory_admin": "root@example.com"}
CONSENTING: dict[str, object] = {
    "admins": ["group:mail-admins@example.com"],
    "gmail_auth": "oauth",
    "public_consent": True,
}

# A plan costs seconds, so several mistakes are planted in each copy: such as do not touch one another.
TOGETHER: tuple[dict[str, Mistake], ...] = (
    {
        "a public invoker": mistake(
            "iam.tf",
            "push      = [google_service_account.push.member]",
            'push      = ["allUsers"]',
            'invoker["sync_history"] is open to everybody: allUsers',
            'invoker["run_work"] is open to everybody: allUsers',
        ),
        "a missing expiration policy": mistake(
            "pubsub.tf",
            EXPIRATION,
            '  message_retention_duration = "2678400s"\n',
            'google_pubsub_subscription.dead_letters["mailbox-work"] expires',
        ),
        "a variable that is not passed": mistake(
            "functions.tf",
            "      WORK_TOPIC  ",
            "      WORKING_TOPIC  ",
            "is not passed WORK_TOPIC",
            "is passed WORKING_TOPIC, which nobody reads",
        ),
        "a primitive role": mistake(
            "iam.tf", '"roles/logging.logWriter"', '"roles/editor"', "primitive role: roles/editor"
        ),
        "an indexed field exempted": mistake(
            "firestore.tf",
            'mailboxes = ["labels"',
            'mailboxes = ["nextDueAt", "labels"',
            "takes the index from a field that is queried: mailboxes.nextDueAt",
        ),
    },
    {
        "an entry point that does not exist": mistake(
            "functions.tf",
            "entry_point       = each.key",
            'entry_point       = each.key == "run_work" ? "do_work" : each.key',
            "main.py has no entry point do_work",
            "Entry point run_work of main.py is not deployed",
        ),
        "a subscription without dead letters": Mistake(
            (
                Edit(
                    "pubsub.tf",
                    "  dead_letter_policy {\n",
                    '  dynamic "dead_letter_policy" {\nfor_each = []\ncontent {\n',
                ),
                Edit("pubsub.tf", "max_delivery_attempts = 20\n", "max_delivery_attempts = 20\n}\n"),
            ),
            ('google_pubsub_subscription.push["mailbox-work"] has no dead letters',),
        ),
        "a push without a token": mistake(
            "pubsub.tf", TOKEN, "", 'google_pubsub_subscription.push["gmail-notifications"] pushes without a token'
        ),
        "a function without an account": mistake(
            "functions.tf",
            "    service_account_email            = google_service_account.function[each.key].email\n",
            "",
            'function["sync_history"] does not say as which of the planned accounts it runs',
        ),
        "an API that is not enabled": mistake(
            "apis.tf",
            '    "iamcredentials.googleapis.com",\n',
            "",
            "iamcredentials.googleapis.com is not enabled, but needed for what the functions call",
        ),
    },
    {
        "an API of an option that is not enabled": mistake(
            "apis.tf",
            '["admin.googleapis.com"]',
            "[]",
            "admin.googleapis.com is not enabled, but needed for whom administrators discover",
        ),
        "a topic open to another publisher": mistake(
            "pubsub.tf",
            '["serviceAccount:gmail-api-push@system.gserviceaccount.com"]',
            '["serviceAccount:gmail-api-push@system.gserviceaccount.com", google_service_account.push.member]',
            "publish to gmail-notifications",
        ),
        "functions that share an account": mistake(
            "functions.tf",
            "google_service_account.function[each.key].email",
            "google_service_account.build.email",
            "runs as the same account as",
        ),
        "a field exempted with what is queried in it": mistake(
            "firestore.tf",
            'mailboxes = ["labels"',
            'mailboxes = ["watch", "labels"',
            "takes the index from a field that is queried: mailboxes.watch.expiresAt",
        ),
        "a job without a token": mistake(
            "scheduler.tf",
            "service_account_email = google_service_account.scheduler.email",
            'service_account_email = "scheduler@example.com"',
            'job["renew_watches"] calls without a token of a planned account',
        ),
        "a function reached from outside": mistake(
            "functions.tf",
            "ingress_settings                 = each.value.ingress",
            'ingress_settings                 = "ALLOW_ALL"',
            'function["run_work"] can be reached from outside',
        ),
        "receipts that are kept for ever": mistake(
            "firestore.tf",
            'for_each = toset(["deltas", "receipts"])',
            'for_each = toset(["deltas"])',
            "Receipts are kept for ever: receipts.expireAt has no TTL policy",
        ),
    },
    {
        "a public function that nobody asked for": mistake(
            "functions.tf",
            'var.gmail_auth == "oauth" && var.public_consent',
            "true",
            "Entry point oauth_callback is for everybody, and nobody asked for that",
        ),
        "an invoker that is somebody else": mistake(
            "iam.tf",
            "scheduler = [google_service_account.scheduler.member]",
            'scheduler = ["user:eve@example.com"]',
            "lets user:eve@example.com call google_cloudfunctions2_function.function",
        ),
        "a publisher beside the binding": mistake(
            "pubsub.tf",
            "# Only functions publish work, and none that only reads.\n",
            OTHER_PUBLISHER,
            'google_pubsub_topic.topic["mailbox-work"] does not have exactly one binding',
        ),
        "a right in the whole project": mistake(
            "iam.tf",
            '"roles/logging.logWriter"',
            '"roles/datastore.user"',
            "google_project_iam_member.build_logs is for the whole project",
        ),
        "a role that allows more than it seems to": mistake(
            "iam.tf",
            '["iam.serviceAccounts.signJwt"]',
            '["iam.serviceAccounts.signJwt", "iam.serviceAccounts.actAs"]',
            "allows more than it seems to: iam.serviceAccounts.actAs",
        ),
        "a default account": mistake(
            "functions.tf",
            "service_account   = google_service_account.build.id",
            'service_account   = "123456789012-compute@developer.gserviceaccount.com"',
            "relies on a default service account",
            "does not say as which of the planned accounts it is built",
        ),
        "dead letters that nobody keeps": mistake(
            "pubsub.tf",
            "topic                      = google_pubsub_topic.dead_letters[each.key].id",
            "topic                      = google_pubsub_topic.topic[each.key].id",
            'google_pubsub_topic.dead_letters["mailbox-work"] has no subscription',
        ),
    },
    {
        "an invoker beside the admins": mistake(
            "iam.tf",
            "admins    = var.admins",
            'admins    = setunion(var.admins, ["group:all@example.com"])',
            'function["manage_mailboxes"] can be called by others than the admins',
        ),
        "applications that are everybody's": mistake(
            "iam.tf",
            "readers   = var.readers",
            'readers   = ["group:all@example.com"]',
            'function["read_mailboxes"] can be called by others than the readers',
        ),
        "a value that the functions refuse": mistake(
            "functions.tf",
            '"projects/${var.project}/topics/${google_pubsub_topic.topic["mailbox-work"].name}"',
            'google_pubsub_topic.topic["mailbox-work"].name',
            "would not start: WORK_TOPIC='mailbox-work' cannot be used",
        ),
        "a function that is stopped while somebody waits": mistake(
            "functions.tf",
            "answer_seconds = 240",
            "answer_seconds = 180",
            'function["manage_mailboxes"] is stopped before the 180 s are over that it may take',
        ),
        "mail that Firestore deletes by its date": Mistake(
            (
                Edit("firestore.tf", 'toset(["deltas", "receipts"])', 'toset(["deltas", "receipts", "messages"])'),
                Edit(
                    "firestore.tf",
                    'field      = "expireAt"',
                    'field      = each.key == "messages" ? "internalDate" : "expireAt"',
                ),
            ),
            ("Firestore deletes documents once messages.internalDate has passed",),
        ),
        "a push that is repeated while the function works": mistake(
            "pubsub.tf",
            "ack_deadline_seconds       = local.push_seconds",
            "ack_deadline_seconds       = 300",
            'google_pubsub_subscription.push["mailbox-work"] pushes again while the function still works',
        ),
        "an index on a field that does not exist": mistake(
            "firestore.tf", '"headers.from.address"', '"from.address"', "no document has: messages.from.address"
        ),
        "a database that can be deleted": mistake(
            "firestore.tf",
            '? "ABANDON" : "DELETE"',
            '? "DELETE" : "DELETE"',
            "google_firestore_database.main[0] can be deleted",
        ),
        "a secret in the state": mistake(
            "secrets.tf",
            'resource "google_secret_manager_secret" "oauth_client"',
            SECRET_VERSION + 'resource "google_secret_manager_secret" "oauth_client"',
            "google_secret_manager_secret_version.client puts a secret into the state",
        ),
    },
    {
        "functions that nobody may call": mistake(
            "iam.tf",
            "if length(local.invokers[function.callers]) > 0",
            'if function.callers == "admins"',
            'function["run_work"] can be called by nobody',
        ),
        "a job that is not repeated": mistake(
            "scheduler.tf",
            "retry_count          = 3",
            "retry_count          = 0",
            'job["sweep_mailboxes"] is not repeated when it fails',
        ),
        "an exemption of a field that does not exist": mistake(
            "firestore.tf", '"snippet", "syncedAt", ', '"preview", "syncedAt", ', "no document has: messages.preview"
        ),
        "a build before its account's rights are known": mistake(
            "functions.tf",
            "    google_firestore_index.query,\n",
            "",
            'function["run_work"] does not wait until Google knows everywhere',
        ),
        "a role given before it is known": mistake(
            "iam.tf",
            "  role   = google_project_iam_custom_role.body_writer.id\n"
            "  member = google_service_account.function[each.key].member\n\n"
            "  depends_on = [google_firestore_index.query]\n",
            "  role   = google_project_iam_custom_role.body_writer.id\n"
            "  member = google_service_account.function[each.key].member\n",
            'google_storage_bucket_iam_member.body_writer["sync_history"] does not wait until Google knows everywhere',
        ),
        "deltas that are kept for ever": mistake(
            "firestore.tf", "  ttl_config {}\n", "", "deltas.expireAt has no TTL policy"
        ),
        "bodies that could be made public": mistake(
            "storage.tf",
            'name                        = "${var.project}-mailmirror-bodies"\n'
            "  location                    = coalesce(var.storage_location, var.region)\n"
            "  uniform_bucket_level_access = true\n"
            '  public_access_prevention    = "enforced"\n',
            'name                        = "${var.project}-mailmirror-bodies"\n'
            "  location                    = coalesce(var.storage_location, var.region)\n",
            "google_storage_bucket.bodies[0] has rights beside IAM's",
            "google_storage_bucket.bodies[0] could be made public",
        ),
    },
)
# The same, where users consent in their own browsers.
IN_PUBLIC: tuple[dict[str, Mistake], ...] = (
    {
        "administrators who are everybody": mistake(
            "iam.tf",
            "admins    = var.admins",
            'admins    = ["allUsers"]',
            'invoker["manage_mailboxes"] is open to everybody: allUsers',
            'invoker["trigger_sync"] is open to everybody: allUsers',
        ),
        "a public function that is not for everybody": mistake(
            "iam.tf",
            'browsers = ["allUsers"]',
            'browsers = ["allAuthenticatedUsers"]',
            'invoker["oauth_callback"] is open to everybody: allAuthenticatedUsers',
            'function["oauth_callback"] cannot be called by every browser',
        ),
        "a public function that reaches bodies": mistake(
            "functions.tf",
            '"browsers", mirror = "connect", gmail = true, bodies = "none"',
            '"browsers", mirror = "connect", gmail = true, bodies = "write"',
            'body_writer["oauth_callback"] is for a function that everybody may call',
        ),
        "a public function that costs what strangers like": mistake(
            "functions.tf",
            "timeout = local.answer_seconds, instances = 2",
            "timeout = local.answer_seconds, instances = var.max_instances",
            'function["oauth_callback"] costs whatever everybody likes',
        ),
        "answers that are sent to administrators": mistake(
            "functions.tf",
            'local.public_callback ? local.redirect_uri : ""',
            '""',
            'function["manage_mailboxes"] sends users\' answers to where nothing takes them',
        ),
        "a right that is given before it is known": mistake(
            "iam.tf",
            ' || ${local.tokens_only}"\n  }\n\n  depends_on = [google_firestore_index.query]\n',
            ' || ${local.tokens_only}"\n  }\n',
            'google_project_iam_member.token_keeper["manage_mailboxes"] does not wait until Google knows everywhere',
        ),
    },
    {
        "a right to delete before it is known": mistake(
            "iam.tf",
            "    expression = local.tokens_only\n  }\n\n  depends_on = [google_firestore_index.query]\n",
            "    expression = local.tokens_only\n  }\n",
            'google_project_iam_member.token_remover["run_work"] does not wait until Google knows everywhere',
        ),
        "answers that nobody takes": mistake(
            "functions.tf",
            'function.callers != "browsers" || local.public_callback',
            'function.callers != "browsers"',
            "Entry point oauth_callback of main.py is not deployed",
        ),
        "a right to keep consents, and everything else": mistake(
            "iam.tf",
            """  condition {
    title      = "mailmirror-tokens"
    expression = "resource.type == \\"cloudresourcemanager.googleapis.com/Project\\" || ${local.tokens_only}"
  }

""",
            "",
            'google_project_iam_member.token_keeper["manage_mailboxes"] is for the whole project',
        ),
    },
    {
        "a public function that deletes": mistake(
            "iam.tf",
            'permissions = ["secretmanager.secrets.delete"]',
            'permissions = ["secretmanager.secrets.delete", "datastore.entities.delete"]',
            'token_remover["oauth_callback"] lets a function delete that everybody may call: datastore.entities.delete',
        ),
        "a public function that browsers cannot reach": mistake(
            "functions.tf",
            '"ALLOW_ALL", callers = "browsers"',
            '"ALLOW_INTERNAL_ONLY", callers = "browsers"',
            'function["oauth_callback"] cannot be reached by browsers',
        ),
        "a redirect URI that is none": mistake(
            "functions.tf",
            'redirect_uri    = "https://mailmirror-oauth-callback-${local.project_number}.${var.region}.run.app/oauth/callback"',
            'redirect_uri    = "https://mailmirror-oauth-callback.${var.region}.run.app/callback"',
            "would not start: OAUTH_REDIRECT_URI=",
        ),
    },
)
COPIES = [(LISTING, mistakes) for mistakes in TOGETHER] + [(CONSENTING, mistakes) for mistakes in IN_PUBLIC]
PLANTED = [(copy, name) for copy, (_, mistakes) in enumerate(COPIES) for name in mistakes]

Found = Callable[[int], list[str]]


@pytest.fixture(scope="session")
def found(configuration: Configuration) -> Found:
    """`found(copy)`: what the judge says to the mistakes that are planted together."""

    @cache
    def found(copy: int) -> list[str]:
        asked, mistakes = COPIES[copy]
        planted = configuration.copy(f"planted-{copy}", [edit for each in mistakes.values() for edit in each.edits])
        return judge.mistakes(Plan(planted.plan(**asked)))

    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deployment_is_without_mistakes(planned: Planned, variant: str) -> None:
    """Nothing is wrong with a deployment in either way to open mailboxes, nor with every option that goes with it."""
    assert judge.mistakes(planned(variant)) == []


@pytest.mark.parametrize(("copy", "name"), PLANTED, ids=[name for _, name in PLANTED])
def test_a_planted_mistake_is_named(found: Found, copy: int, name: str) -> None:
    """A mistake in the configuration is told in a sentence of its own."""
    _, mistakes = COPIES[copy]
    for part in mistakes[name].told:
        assert any(part in sentence for sentence in found(copy)), found(copy)


def test_the_source_is_understood() -> None:
    """What the judge compares with is really read from the source: queries and callers are those known today."""
    assert source.queries() == {
        ("mailboxes", "nextDueAt"),
        ("mailboxes", "watch.expiresAt"),
        ("parked", "nextAttemptAt"),
    }
    callers = {name: (entry.caller, entry.topic) for name, entry in source.entry_points().items()}
    assert callers["sync_history"] == ("push", "gmail-notifications")
    assert callers["run_work"] == ("push", "mailbox-work")
    assert callers["renew_watches"] == callers["sweep_mailboxes"] == ("scheduler", "")
    assert callers["oauth_callback"] == ("browsers", "")
    assert callers["read_mailboxes"] == ("readers", "")
    assert {name for name, names in source.fields().items() if "expireAt" in names} == {"deltas", "receipts"}
    assert {"ATTACHMENTS", "GOOGLE_CLOUD_PROJECT", "GMAIL_AUTH", "GMAIL_OAUTH_CLIENT"} <= source.variables().keys()


def test_what_is_left_out_is_read() -> None:
    """Each variable that a deployment may leave out is read: the list does not outlive its reasons."""
    assert judge.LEFT_OUT.keys() | set[str]().union(*judge.OF_THE_OTHER_AUTH.values()) <= source.variables().keys()


def test_the_directory_is_asked_with_the_scopes_that_are_delegated() -> None:
    """What the delegation output adds for an administrator of the directory are the scopes the code asks with."""
    text = (ROOT / "terraform" / "functions.tf").read_text()
    assert re.findall(r'"(https://www\.googleapis\.com/auth/admin\.[^"]+)"', text) == list(directory.SCOPES)
