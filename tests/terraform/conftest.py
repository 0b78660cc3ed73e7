"""What tests of the deployment share: an initialised copy of each configuration, and plans made of terraform/."""

from collections.abc import Callable
from functools import cache

import pytest

from tests.terraform.configuration import Configuration, TerraformMissing, initialised
from tests.terraform.plan import Plan

_KEY = "projects/my-project/locations/europe-west1/keyRings/my-ring/cryptoKeys"
# Deployments that are judged: each way to open mailboxes by itself, and every option that goes with it.
VARIANTS: dict[str, dict[str, object]] = {
    "delegation": {},
    "oauth": {"gmail_auth": "oauth", "admins": ["group:mail-admins@example.com"]},
    "public": {
        "gmail_auth": "oauth",
        "public_consent": True,
        "admins": ["group:mail-admins@example.com"],
        "gmail_units_per_day": 10_000,
        "gmail_content": "metadata",
        "gmail_scopes": ["https://www.googleapis.com/auth/gmail.metadata"],
    },
    "everything": {
        "admins": ["group:mail-admins@example.com", "serviceAccount:bot@my-project.iam.gserviceaccount.com"],
        "readers": ["serviceAccount:app@my-project.iam.gserviceaccount.com"],
        "firestore_database": "mail",
        "firestore_location": "eur3",
        "storage_location": "EU",
        "scheduler_region": "europe-west3",
        "directory_admin": "root@example.com",
        "gmail_units_per_day": 999_999_999_999,
        "recovery": "full",
        "delta_topic": True,
        "attachments": "store",
        "watch_label_ids": ["INBOX", "SENT"],
        "kms_key": f"{_KEY}/my-key",
        "firestore_kms_key": f"{_KEY}/my-database-key",
        "vpc": {"connector": "projects/my-project/locations/europe-west1/connectors/my-connector"},
        "notification_channels": ["projects/my-project/notificationChannels/1234567890"],
        "labels": {"team": "mail"},
        "grant_token_creator": True,
    },
}

Initialise = Callable[[str], Configuration]
Planned = Callable[[str], Plan]


@pytest.fixture(scope="session")
def initialise(tmp_path_factory: pytest.TempPathFactory) -> Initialise:
    """`initialise(which)`: a copy of a configuration in which `terraform init` has been run, or a skip."""

    @cache
    def initialise(which: str) -> Configuration:
        try:
            return initialised(tmp_path_factory.mktemp("configuration"), which)
        except TerraformMissing as missing:
            pytest.skip(str(missing))

    return initialise


@pytest.fixture(scope="session")
def configuration(initialise: Initialise) -> Configuration:
    """terraform/, initialised; whoever changes files works on a `copy` of it."""
    return initialise("terraform")


@pytest.fixture(scope="session")
def planned(configuration: Configuration) -> Planned:
    """`planned(variant)`: the plan of one of `VARIANTS`."""
    return cache(lambda variant: Plan(configuration.plan(**VARIANTS[variant])))
