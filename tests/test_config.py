"""Configuration: each variable with its default, what it takes, and the sentence that refuses anything else."""

import dataclasses
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from datetime import timedelta
from pathlib import Path

import pytest
from mailmirror.config import READONLY_SCOPE, BadSetting, Settings

from tests.conftest import ENVIRONMENT

FUNCTIONS = Path(__file__).resolve().parent.parent / "functions"
REQUIRED = {
    "GOOGLE_CLOUD_PROJECT": "my-project",
    "GMAIL_TOPIC": "projects/my-project/topics/gmail-notifications",
    "WORK_TOPIC": "projects/my-project/topics/mailbox-work",
    "GMAIL_AUTH": "none",
}
DEFAULTS = {
    "firestore_database": "(default)",
    "delta_topic": "",
    "body_bucket": "",
    "gmail_content": "full",
    "attachments": "none",
    "gmail_delegate": "",
    "gmail_oauth_client": "",
    "gmail_token_prefix": "",
    "oauth_redirect_uri": "",
    "gmail_scopes": (READONLY_SCOPE,),
    "gmail_api_root": "https://gmail.googleapis.com/",
    "directory_admin": "",
    "directory_api_root": "https://admin.googleapis.com/",
    "gmail_units_per_minute": 6_000,
    "gmail_units_per_day": None,
    "gmail_prices": "2026",
    "recovery": "thread-history",
    "watch_label_ids": (),
    "watch_label_filter_behavior": "include",
    "sweep_quiet": timedelta(minutes=15),
    "step": timedelta(seconds=480),
    "lease": timedelta(seconds=120),
    "store": "firestore",
    "log_level": "INFO",
    "pubsub_emulator_host": "",
    "secret_manager_emulator_host": "",
}
GOOD = [
    ("GOOGLE_CLOUD_PROJECT", "example.com:my-project", "google_cloud_project", "example.com:my-project"),
    ("FIRESTORE_DATABASE", "mail", "firestore_database", "mail"),
    ("GMAIL_TOPIC", "projects/other/topics/t", "gmail_topic", "projects/other/topics/t"),
    ("WORK_TOPIC", "projects/other/topics/w", "work_topic", "projects/other/topics/w"),
    ("DELTA_TOPIC", "projects/other/topics/d", "delta_topic", "projects/other/topics/d"),
    ("BODY_BUCKET", "my-bodies", "body_bucket", "my-bodies"),
    ("GMAIL_CONTENT", "metadata", "gmail_content", "metadata"),
    ("GMAIL_CONTENT", "full", "gmail_content", "full"),
    ("ATTACHMENTS", "none", "attachments", "none"),
    ("GMAIL_AUTH", "none", "gmail_auth", "none"),
    ("GMAIL_DELEGATE", "mail@p.iam.gserviceaccount.com", "gmail_delegate", "mail@p.iam.gserviceaccount.com"),
    ("GMAIL_OAUTH_CLIENT", "projects/p/secrets/client", "gmail_oauth_client", "projects/p/secrets/client"),
    (
        "GMAIL_OAUTH_CLIENT",
        "projects/example.com:p/secrets/A-b_9",
        "gmail_oauth_client",
        "projects/example.com:p/secrets/A-b_9",
    ),
    ("GMAIL_TOKEN_PREFIX", "projects/p/secrets/token-", "gmail_token_prefix", "projects/p/secrets/token-"),
    *(
        ("OAUTH_REDIRECT_URI", address, "oauth_redirect_uri", address)
        for address in (
            "https://mail.example.com/oauth/callback",
            "https://region-p.cloudfunctions.net/oauth_callback/oauth/callback",
            "http://localhost:8765/oauth/callback",
            "http://127.0.0.1/oauth/callback",
        )
    ),
    ("GMAIL_SCOPES", "https://mail.google.com/", "gmail_scopes", ("https://mail.google.com/",)),
    ("GMAIL_SCOPES", "https://a/b,https://a/c", "gmail_scopes", ("https://a/b", "https://a/c")),
    ("GMAIL_SCOPES", "https://a/b  https://a/c", "gmail_scopes", ("https://a/b", "https://a/c")),
    ("GMAIL_API_ROOT", "http://127.0.0.1:8080", "gmail_api_root", "http://127.0.0.1:8080/"),
    ("GMAIL_API_ROOT", "http://127.0.0.1:8080/", "gmail_api_root", "http://127.0.0.1:8080/"),
    ("DIRECTORY_ADMIN", "root@example.com", "directory_admin", "root@example.com"),
    ("DIRECTORY_API_ROOT", "http://127.0.0.1:8087", "directory_api_root", "http://127.0.0.1:8087/"),
    ("GMAIL_UNITS_PER_MINUTE", "15000", "gmail_units_per_minute", 15_000),
    ("GMAIL_UNITS_PER_MINUTE", "500", "gmail_units_per_minute", 500),
    ("GMAIL_UNITS_PER_DAY", "1000000", "gmail_units_per_day", 1_000_000),
    ("GMAIL_UNITS_PER_DAY", "10000", "gmail_units_per_day", 10_000),
    ("GMAIL_UNITS_PER_DAY", " ", "gmail_units_per_day", None),
    ("GMAIL_PRICES", "legacy", "gmail_prices", "legacy"),
    ("GMAIL_PRICES", "2026", "gmail_prices", "2026"),
    ("RECOVERY", "full", "recovery", "full"),
    ("RECOVERY", "thread-history", "recovery", "thread-history"),
    ("WATCH_LABEL_IDS", "INBOX, Label_7", "watch_label_ids", ("INBOX", "Label_7")),
    ("WATCH_LABEL_FILTER_BEHAVIOR", "EXCLUDE", "watch_label_filter_behavior", "exclude"),
    ("SWEEP_QUIET_MINUTES", "0.5", "sweep_quiet", timedelta(seconds=30)),
    ("STEP_SECONDS", "20", "step", timedelta(seconds=20)),
    ("LEASE_SECONDS", "2.5", "lease", timedelta(seconds=2.5)),
    ("MAILMIRROR_STORE", "firestore", "store", "firestore"),
    ("MAILMIRROR_STORE", f"sqlite:{FUNCTIONS}/mirror.db", "store", f"sqlite:{FUNCTIONS}/mirror.db"),
    ("MAILMIRROR_STORE", "sqlite:mirror.db", "store", "sqlite:mirror.db"),
    ("LOG_LEVEL", "debug", "log_level", "DEBUG"),
    ("PUBSUB_EMULATOR_HOST", "localhost:8085", "pubsub_emulator_host", "localhost:8085"),
    ("PUBSUB_EMULATOR_HOST", "[::1]:8085", "pubsub_emulator_host", "[::1]:8085"),
    ("SECRET_MANAGER_EMULATOR_HOST", "127.0.0.1:8086", "secret_manager_emulator_host", "127.0.0.1:8086"),
]
BAD = [
    ("GOOGLE_CLOUD_PROJECT", "projects/my-project"),
    ("GOOGLE_CLOUD_PROJECT", "my project"),
    ("FIRESTORE_DATABASE", "projects/p/databases/d"),
    ("GMAIL_TOPIC", "gmail-notifications"),
    ("GMAIL_TOPIC", "projects/p/topics/"),
    ("GMAIL_TOPIC", "projects/p/topics/t/"),
    ("WORK_TOPIC", "projects/p/subscriptions/s"),
    ("WORK_TOPIC", "//pubsub.googleapis.com/projects/p/topics/t"),
    ("DELTA_TOPIC", "mailbox-deltas"),
    ("DELTA_TOPIC", "true"),
    ("BODY_BUCKET", "gs://my-bodies"),
    ("GMAIL_CONTENT", "none"),
    ("GMAIL_CONTENT", "Full"),
    ("ATTACHMENTS", "all"),
    ("ATTACHMENTS", "Store"),
    ("ATTACHMENTS", "store"),  # without a bucket
    ("GMAIL_AUTH", "None"),
    ("GMAIL_AUTH", "delegation oauth"),
    ("GMAIL_DELEGATE", "my-service-account"),
    ("GMAIL_OAUTH_CLIENT", "client"),
    ("GMAIL_OAUTH_CLIENT", "projects/p/secrets/client/versions/latest"),
    ("GMAIL_OAUTH_CLIENT", "projects/p/secrets/"),
    ("GMAIL_OAUTH_CLIENT", '{"installed": {}}'),
    ("GMAIL_TOKEN_PREFIX", "token-"),
    ("GMAIL_TOKEN_PREFIX", "projects/p/secrets/"),
    ("GMAIL_TOKEN_PREFIX", "projects/p/secrets/" + "t" * 216),
    ("OAUTH_REDIRECT_URI", "a.io/oauth/callback"),
    ("OAUTH_REDIRECT_URI", "http://a.io/oauth/callback"),
    ("OAUTH_REDIRECT_URI", "https://a.io/"),
    ("OAUTH_REDIRECT_URI", "https://a.io/oauth/callback/"),
    ("OAUTH_REDIRECT_URI", "https://a.io/oauth/callback?to=me"),
    ("OAUTH_REDIRECT_URI", "https://a.io/#/oauth/callback"),
    ("GMAIL_SCOPES", ","),
    ("DIRECTORY_ADMIN", "root"),
    ("DIRECTORY_ADMIN", "root@example.com, admin@example.com"),
    ("DIRECTORY_API_ROOT", "admin.googleapis.com"),
    ("GMAIL_API_ROOT", "gmail.googleapis.com"),
    ("GMAIL_API_ROOT", "ftp://gmail.googleapis.com/"),
    ("GMAIL_API_ROOT", "https://gmail.googleapis.com/gmail/v1"),
    ("GMAIL_UNITS_PER_MINUTE", "many"),
    ("GMAIL_UNITS_PER_MINUTE", "499"),
    ("GMAIL_UNITS_PER_MINUTE", "-6000"),
    ("GMAIL_UNITS_PER_MINUTE", "6000.5"),
    ("GMAIL_UNITS_PER_MINUTE", "9" * 5_000),
    *(("GMAIL_UNITS_PER_DAY", value) for value in ("none", "0", "9999", "-1", "1e6", "9" * 5_000)),
    ("GMAIL_PRICES", "2025"),
    ("RECOVERY", "none"),
    ("RECOVERY", "Full"),
    ("WATCH_LABEL_FILTER_BEHAVIOR", "all"),
    *(
        (name, value)
        for name in ("SWEEP_QUIET_MINUTES", "STEP_SECONDS", "LEASE_SECONDS")
        for value in ("soon", "0", "-1", "nan", "inf", "1000000", "9" * 5_000, "1:30")
    ),
    ("MAILMIRROR_STORE", "sqlite"),
    ("MAILMIRROR_STORE", "sqlite:"),
    ("MAILMIRROR_STORE", "postgres://db"),
    ("MAILMIRROR_STORE", f"sqlite:{FUNCTIONS}/no/such/folder/mirror.db"),
    ("LOG_LEVEL", "LOUD"),
    ("LOG_LEVEL", "10"),
    ("PUBSUB_EMULATOR_HOST", "localhost"),
    ("PUBSUB_EMULATOR_HOST", "http://localhost:8085"),
    ("SECRET_MANAGER_EMULATOR_HOST", "http://127.0.0.1:8086"),
]


class Seen(Mapping[str, str]):
    """An environment that remembers what was asked for."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def __getitem__(self, name: str) -> str:
        self.names.add(name)
        return REQUIRED[name]

    def __iter__(self) -> Iterator[str]:
        return iter(REQUIRED)

    def __len__(self) -> int:
        return len(REQUIRED)


def variables() -> set[str]:
    """Every variable that is read."""
    environment = Seen()
    Settings.from_env(environment)
    return environment.names


@pytest.mark.parametrize(("attribute", "value"), DEFAULTS.items())
def test_a_default(attribute: str, value: object) -> None:
    """What is not set has the value the documentation names."""
    assert getattr(Settings.from_env(REQUIRED), attribute) == value


@pytest.mark.parametrize(("name", "text", "attribute", "value"), GOOD)
def test_a_good_value(name: str, text: str, attribute: str, value: object) -> None:
    """A value that can be used is used, and nothing but its own setting changes."""
    settings = dataclasses.asdict(Settings.from_env(REQUIRED | {name: f" {text} "}))
    assert settings == dataclasses.asdict(Settings.from_env(REQUIRED)) | {attribute: value}


@pytest.mark.parametrize(("name", "text"), BAD, ids=lambda part: part[:30])
def test_a_bad_value(name: str, text: str) -> None:
    """A value that cannot be used is refused with a sentence that names the variable and what it may be."""
    with pytest.raises(BadSetting) as refused:
        Settings.from_env(REQUIRED | {name: text})
    sentence = str(refused.value)
    assert sentence.startswith(f"{name}=")
    assert sentence.endswith(".")
    assert any(words in sentence for words in (" it must ", " use "))


@pytest.mark.parametrize("empty", [None, "", "  "])
@pytest.mark.parametrize("name", REQUIRED)
def test_what_has_no_default_must_be_there(name: str, empty: str | None) -> None:
    """A variable without default that is absent or empty is named."""
    environment = {key: value for key, value in REQUIRED.items() if key != name}
    if empty is not None:
        environment[name] = empty
    with pytest.raises(BadSetting, match=f"^{name} is not set\\.$"):
        Settings.from_env(environment)


@pytest.mark.parametrize("name", sorted(variables() - REQUIRED.keys()))
def test_an_empty_value_counts_as_absent(name: str) -> None:
    """Terraform and shells pass empty strings for what is not set."""
    assert Settings.from_env(REQUIRED | {name: ""}) == Settings.from_env(REQUIRED)


def test_delegation_needs_the_account_to_impersonate() -> None:
    """With domain-wide delegation GMAIL_DELEGATE has no default."""
    environment = REQUIRED | {"GMAIL_AUTH": "delegation"}
    with pytest.raises(BadSetting, match=r"^GMAIL_DELEGATE is not set\.$"):
        Settings.from_env(environment)
    settings = Settings.from_env(environment | {"GMAIL_DELEGATE": "a@p.iam.gserviceaccount.com"})
    assert (settings.gmail_auth, settings.gmail_delegate) == ("delegation", "a@p.iam.gserviceaccount.com")


@pytest.mark.parametrize("missing", ["GMAIL_OAUTH_CLIENT", "GMAIL_TOKEN_PREFIX"])
def test_consents_need_the_names_of_their_secrets(missing: str) -> None:
    """With users' own consent the two names have no default, and nobody is impersonated."""
    names = {
        "GMAIL_OAUTH_CLIENT": "projects/p/secrets/client",
        "GMAIL_TOKEN_PREFIX": "projects/p/secrets/token-",
    }
    environment = REQUIRED | {"GMAIL_AUTH": "oauth"} | names
    settings = Settings.from_env(environment)
    assert (settings.gmail_auth, settings.gmail_delegate) == ("oauth", "")
    assert [settings.gmail_oauth_client, settings.gmail_token_prefix] == list(names.values())
    del environment[missing]
    with pytest.raises(BadSetting, match=rf"^{missing} is not set\.$"):
        Settings.from_env(environment)


def test_attachments_need_a_bucket_and_messages_in_full() -> None:
    """Bytes of attachments are kept only where there is a bucket and Gmail is asked for whole messages."""
    environment = REQUIRED | {"ATTACHMENTS": "store"}
    with pytest.raises(BadSetting, match=r"^ATTACHMENTS='store' .* BODY_BUCKET is not set\.$"):
        Settings.from_env(environment)
    environment["BODY_BUCKET"] = "bodies"
    assert Settings.from_env(environment).attachments == "store"
    with pytest.raises(BadSetting, match=r"^ATTACHMENTS='store' .* GMAIL_CONTENT=metadata .*\.$"):
        Settings.from_env(environment | {"GMAIL_CONTENT": "metadata"})
    kept = Settings.from_env(REQUIRED | {"BODY_BUCKET": "bodies", "GMAIL_CONTENT": "metadata"})
    assert (kept.gmail_content, kept.attachments) == ("metadata", "none")


def test_a_client_pasted_where_its_name_belongs_is_not_repeated() -> None:
    """What the Cloud console downloads begins with the client's id; its secret does not get into the sentence."""
    client = {
        "client_id": f"{10**12}-{'x' * 32}.apps.googleusercontent.com",
        "project_id": "my-project",
        "client_secret": "GOCSPX-not-told",
    }
    with pytest.raises(BadSetting, match="GMAIL_OAUTH_CLIENT=") as refused:
        Settings.from_env(REQUIRED | {"GMAIL_OAUTH_CLIENT": json.dumps({"web": client})})
    assert "not-told" not in str(refused.value)


def test_each_variable_is_tested_here() -> None:
    """A variable that is added gets a good and a bad value in the tables above, if it can be bad."""
    assert {name for name, *_ in GOOD} == variables()
    assert {name for name, _ in BAD} == variables() - {"WATCH_LABEL_IDS"}
    assert DEFAULTS.keys() | {name.lower() for name in REQUIRED} == {f.name for f in dataclasses.fields(Settings)}


def test_no_variable_of_the_machine_reaches_a_test() -> None:
    """The tests' own environment is cleaned of every variable that is read."""
    assert variables() - set(ENVIRONMENT) == set()


def start(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Start main.py in a process of its own, which is to fail."""
    return subprocess.run(
        [sys.executable, *command],
        cwd=FUNCTIONS,
        env={"PATH": os.environ["PATH"], **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.mark.parametrize(
    "command", [("main.py",), ("-m", "functions_framework", "--target", "sync_history", "--port", "1")]
)
@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"WORK_TOPIC": ""}, "WORK_TOPIC is not set."),
        (
            {"STEP_SECONDS": "soon"},
            "STEP_SECONDS='soon' cannot be used: it must be a number above 0 and below 1,000,000.",
        ),
    ],
)
def test_a_bad_setting_stops_the_start(command: tuple[str, ...], change: dict[str, str], sentence: str) -> None:
    """main.py, alone or under functions-framework, ends with the sentence and nothing else: no stack trace."""
    ended = start(*command, **(REQUIRED | change))
    assert ended.returncode == 1
    assert ended.stderr == f"Mailmirror cannot start: {sentence}\n"
    assert ended.stdout == ""
