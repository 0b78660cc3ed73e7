"""A plan for an empty project, judged: nothing is wrong with it, and every mistake that is planted is named."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import pytest

from tests import source
from tests.terraform import judge
from tests.terraform.configuration import Configuration, Edit
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

# A plan costs seconds, so several mistakes are planted in each copy: such as do not touch one another.
TOGETHER: tuple[dict[str, Mistake], ...] = (
    {
        "a public invoker": mistake(
            "iam.tf",
            "push = [google_service_account.push.member]",
            'push = ["allUsers"]',
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
    },
    {
        "an invoker that is somebody else": mistake(
            "iam.tf",
            "scheduler = [google_service_account.scheduler.member]",
            'scheduler = ["user:eve@example.com"]',
            "lets user:eve@example.com call google_cloudfunctions2_function.function",
        ),
        "a publisher beside the binding": mistake(
            "pubsub.tf",
            "# Only the functions publish work.\n",
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
            "admins = var.admins }",
            'admins = setunion(var.admins, ["group:all@example.com"]) }',
            'function["manage_mailboxes"] can be called by others than the admins',
        ),
        "a value that the functions refuse": mistake(
            "functions.tf",
            '"projects/${var.project}/topics/${google_pubsub_topic.topic["mailbox-work"].name}"',
            'google_pubsub_topic.topic["mailbox-work"].name',
            "would not start: WORK_TOPIC='mailbox-work' cannot be used",
        ),
        "a push that is repeated while the function works": mistake(
            "pubsub.tf",
            "ack_deadline_seconds       = local.push_seconds",
            "ack_deadline_seconds       = 300",
            'google_pubsub_subscription.push["mailbox-work"] pushes again while the function still works',
        ),
        "an index on a field that does not exist": mistake(
            "firestore.tf", 'where = "headers.from"', 'where = "from"', "no document has: messages.from"
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
            'if function.callers != "admins" || length(var.admins) > 0',
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
            "firestore.tf", '"snippet", "syncedAt"]', '"preview", "syncedAt"]', "no document has: messages.preview"
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
PLANTED = [(copy, name) for copy, mistakes in enumerate(TOGETHER) for name in mistakes]

Found = Callable[[int], list[str]]


@pytest.fixture(scope="session")
def found(configuration: Configuration) -> Found:
    """`found(copy)`: what the judge says to the mistakes that are planted together."""

    @cache
    def found(copy: int) -> list[str]:
        edits = [edit for each in TOGETHER[copy].values() for edit in each.edits]
        planted = configuration.copy(f"planted-{copy}", edits)
        return judge.mistakes(Plan(planted.plan(admins=["group:mail-admins@example.com"])))

    return found


@pytest.mark.parametrize("variant", VARIANTS)
def test_a_deployment_is_without_mistakes(planned: Planned, variant: str) -> None:
    """Nothing is wrong with a deployment in either way to open mailboxes, nor with every option at once."""
    assert judge.mistakes(planned(variant)) == []


@pytest.mark.parametrize(("copy", "name"), PLANTED, ids=[name for _, name in PLANTED])
def test_a_planted_mistake_is_named(found: Found, copy: int, name: str) -> None:
    """A mistake in the configuration is told in a sentence of its own."""
    for part in TOGETHER[copy][name].told:
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
    assert {"GOOGLE_CLOUD_PROJECT", "GMAIL_AUTH", "GMAIL_OAUTH_CLIENT"} <= source.variables().keys()


def test_what_is_left_out_is_read() -> None:
    """Each variable that a deployment may leave out is read: the list does not outlive its reasons."""
    assert judge.LEFT_OUT.keys() | set[str]().union(*judge.OF_THE_OTHER_AUTH.values()) <= source.variables().keys()
