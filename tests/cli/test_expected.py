"""What the command expects of a deployment is what terraform/ makes and functions/main.py has."""

import re
from pathlib import Path
from typing import Any

import hcl2
import pytest

from mailmirror_cli import expected
from mailmirror_cli.checks.delegation import SIGNER
from tests import source

TERRAFORM = Path(__file__).resolve().parents[2] / "terraform"


def blocks(name: str, kind: str) -> list[dict[str, Any]]:
    """The blocks of a kind in a file of terraform/; expressions stay text."""
    options = hcl2.SerializationOptions(with_comments=False, explicit_blocks=False, strip_string_quotes=True)
    with (TERRAFORM / f"{name}.tf").open() as file:
        found: list[dict[str, Any]] = hcl2.load(file, serialization_options=options).get(kind, [])
    return found


def local(name: str, value: str) -> Any:
    """A local value."""
    (found,) = [block[value] for block in blocks(name, "locals") if value in block]
    return found


def seconds(value: int | str) -> int:
    """A number, or the local value of functions.tf that stands for it."""
    named = re.fullmatch(r"\$\{local\.(\w+)\}", str(value))
    return int(local("functions", named[1]) if named else value)


def resources(name: str, kind: str) -> dict[str, dict[str, Any]]:
    """The resources of a type, by the name they have in the configuration."""
    return {label: each for block in blocks(name, "resource") for label, each in block.get(kind, {}).items()}


def test_the_apis_are_those_that_terraform_enables() -> None:
    """Every API that a deployment enables is looked for, and no other."""
    enabled = set(re.findall(r'"([a-z]+\.googleapis\.com)"', (TERRAFORM / "apis.tf").read_text()))
    assert enabled == {*expected.APIS, expected.DIRECTORY_API}


def test_the_entry_points_are_those_of_main() -> None:
    """Each entry point of main.py is expected, with the caller that its docstring names."""
    assert {each.name: each.callers for each in expected.ENTRY_POINTS} == {
        name: each.caller for name, each in source.entry_points().items()
    }
    assert {name for name, each in source.entry_points().items() if each.topic} == set(expected.PUSHES.values())


def test_the_entry_points_are_terraforms_table() -> None:
    """Each function may do what its row in functions.tf says, and has time for a step if it takes one."""
    rows = local("functions", "every_function")
    columns = "callers", "mirror", "gmail", "bodies", "publishes", "keeps", "forgets"
    assert {name: tuple(row[column] for column in columns) for name, row in rows.items()} == {
        each.name: tuple(getattr(each, column) for column in columns) for each in expected.ENTRY_POINTS
    }
    step = local("functions", "step_seconds")
    enough = {name for name, row in rows.items() if seconds(row["timeout"]) > step}
    assert enough == set(expected.STEPPING)


@pytest.mark.parametrize("kind", ["google_service_account", "google_cloudfunctions2_function"])
def test_functions_and_their_accounts_are_named_alike(kind: str) -> None:
    """A function and its account have the name that is derived from the entry point."""
    file = "iam" if kind == "google_service_account" else "functions"
    made = resources(file, kind)["function"]
    assert 'mailmirror-${replace(each.key, "_", "-")}' in (made.get("account_id"), made.get("name"))
    assert expected.ENTRY_POINTS[0].function == "mailmirror-sync-history"


def test_the_accounts_are_terraforms() -> None:
    """The accounts that call have the names that iam.tf gives them."""
    accounts = resources("iam", "google_service_account")
    assert accounts["push"]["account_id"] == expected.PUSH_ACCOUNT
    assert accounts["scheduler"]["account_id"] == expected.SCHEDULER_ACCOUNT


def test_the_roles_are_terraforms() -> None:
    """The project's own roles have the permissions that iam.tf gives them, and are used where it uses them."""
    roles = resources("iam", "google_project_iam_custom_role")
    assert {role["role_id"]: tuple(role["permissions"]) for role in roles.values()} == expected.ROLES
    assert roles["signer"]["role_id"] == SIGNER
    mirror = {"write": "mirror_writer", "connect": "mirror_connector", "read": "mirror_reader"}
    assert {right: roles[name]["role_id"] for right, name in mirror.items()} == expected.MIRROR_ROLES
    bodies = {"write": "body_writer", "read": "body_reader"}
    assert {right: roles[name]["role_id"] for right, name in bodies.items()} == expected.BODY_ROLES
    assert local("iam", "database_title") == expected.DATABASE_CONDITION
    (tokens,) = resources("iam", "google_project_iam_member")["tokens"]["condition"]
    assert tokens["title"] == expected.TOKENS_CONDITION


def test_the_topics_and_subscriptions_are_terraforms() -> None:
    """Topics, subscriptions, their names and their terms are those of pubsub.tf."""
    assert local("pubsub", "pushes") == expected.PUSHES
    assert {expected.GMAIL_TOPIC, expected.WORK_TOPIC} == set(expected.PUSHES)
    assert local("functions", "push_seconds") == expected.ACK_DEADLINE_SECONDS
    subscriptions = resources("pubsub", "google_pubsub_subscription")
    assert subscriptions["push"]["name"] == "${each.key}-push"
    (letters,) = subscriptions["push"]["dead_letter_policy"]
    assert letters["max_delivery_attempts"] == expected.MAX_DELIVERY_ATTEMPTS
    assert subscriptions["dead_letters"]["name"] == "${each.key}-dead-letters"
    assert resources("pubsub", "google_pubsub_topic")["dead_letters"]["name"] == "${each.key}-dead-letters"
    publishers = resources("pubsub", "google_pubsub_topic_iam_binding")
    assert publishers["gmail_publisher"]["members"] == [expected.GMAIL_PUBLISHER]
    assert resources("pubsub", "google_pubsub_topic")["deltas"]["name"] == expected.DELTA_TOPIC
    assert 'if function.mirror == "write"' in str(publishers["delta_publisher"]["members"])


def test_the_schedules_are_terraforms() -> None:
    """The functions that Cloud Scheduler may call are those that it has jobs for."""
    scheduled = {each.name for each in expected.ENTRY_POINTS if each.callers == "scheduler"}
    assert local("scheduler", "schedules").keys() == scheduled
    assert resources("scheduler", "google_cloud_scheduler_job")["job"]["name"].startswith("mailmirror-${")


def test_the_indexes_are_terraforms() -> None:
    """Composite indexes and TTL policies are those of firestore.tf."""
    rows = local("firestore", "indexes").values()
    made = {expected.Index(row["collection"], tuple(map(tuple, row["fields"]))) for row in rows}
    assert made == set(expected.INDEXES)
    found = set()
    for field in resources("firestore", "google_firestore_field").values():
        if "ttl_config" in field:
            each = re.findall(r'"([a-z]+)"', str(field.get("for_each", "")))
            found |= {(collection, field["field"]) for collection in each or [field["collection"]]}
    assert found == set(expected.TTLS)
