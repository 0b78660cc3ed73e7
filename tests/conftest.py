"""What every test gets: a clean environment, Google's emulators, and skips that count when they must not happen.

`MAILMIRROR_REQUIRE=all` (set by CI) turns every skip into a failure: what the machine lacks is then an error.
"""

import os
from collections.abc import Callable, Generator, Iterator
from typing import TypeVar

import hypothesis
import pytest

from local.emulators import EmulatorsMissing, EmulatorTools, FirestoreEmulator, PubSubEmulator, find

# Everything Mailmirror or a Google client library reads from the environment.
ENVIRONMENT = (
    "ATTACHMENTS",
    "BODY_BUCKET",
    "DELTA_TOPIC",
    "DIRECTORY_ADMIN",
    "DIRECTORY_API_ROOT",
    "FIRESTORE_DATABASE",
    "FIRESTORE_EMULATOR_HOST",
    "GCLOUD_PROJECT",
    "GMAIL_API_ROOT",
    "GMAIL_AUTH",
    "GMAIL_CONTENT",
    "GMAIL_DELEGATE",
    "GMAIL_OAUTH_CLIENT",
    "GMAIL_PRICES",
    "GMAIL_SCOPES",
    "GMAIL_TOKEN_PREFIX",
    "GMAIL_TOPIC",
    "GMAIL_UNITS_PER_DAY",
    "GMAIL_UNITS_PER_MINUTE",
    "GOOGLE_APPLICATION_CREDENTIALS",
    "GOOGLE_CLOUD_PROJECT",
    "LEASE_SECONDS",
    "LOG_LEVEL",
    "MAILMIRROR_STORE",
    "OAUTH_REDIRECT_URI",
    "PUBSUB_EMULATOR_HOST",
    "RECOVERY",
    "SECRET_MANAGER_EMULATOR_HOST",
    "STEP_SECONDS",
    "STORAGE_EMULATOR_HOST",
    "SWEEP_QUIET_MINUTES",
    "WATCH_LABEL_FILTER_BEHAVIOR",
    "WATCH_LABEL_IDS",
    "WORK_TOPIC",
)

# Tests say the same thing on every run and every machine; `make sim` is where new schedules are explored.
hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None, print_blob=True)
hypothesis.settings.load_profile("repeatable")

Require = Callable[[object, str], None]
_Report = TypeVar("_Report", pytest.TestReport, pytest.CollectReport)


@pytest.fixture(autouse=True, scope="session")
def _machine_environment_stays_out() -> Iterator[None]:
    """Session fixtures start processes: those must not inherit the developer's project or credentials either."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ENVIRONMENT:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(autouse=True)
def _clean_environment(_machine_environment_stays_out: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test starts with none of the variables Mailmirror reads, whatever the test before it left behind."""
    for name in ENVIRONMENT:
        monkeypatch.delenv(name, raising=False)
    # Cloud Storage's client would ask for the bucket in a thread of its own, beyond the end of the test.
    monkeypatch.setenv("DISABLE_GCS_PYTHON_CLIENT_OTEL_BUCKET_METADATA", "true")


@pytest.fixture(scope="session")
def require() -> Require:
    """`require(what, reason)`: without `what` the test is skipped for this reason, or fails when all is required."""

    def require(what: object, reason: str) -> None:
        if not what:
            pytest.skip(reason)

    return require


@pytest.fixture(scope="session")
def emulator_tools(_machine_environment_stays_out: None) -> EmulatorTools:
    """The start scripts of Google's emulators, or a skip that says what to install."""
    try:
        return find()
    except EmulatorsMissing as missing:
        pytest.skip(str(missing))


@pytest.fixture(scope="session")
def firestore_emulator(emulator_tools: EmulatorTools) -> Iterator[str]:
    """Google's Firestore emulator as `host:port`, one for the session: use a project id of your own in each test."""
    with FirestoreEmulator(emulator_tools.firestore) as emulator:
        yield emulator.host


@pytest.fixture(scope="session")
def pubsub_emulator(emulator_tools: EmulatorTools) -> Iterator[str]:
    """Google's Pub/Sub emulator as `host:port`, one for the session: use a project id of your own in each test."""
    with PubSubEmulator(emulator_tools.pubsub) as emulator:
        yield emulator.host


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """A skipped test is a failed one when everything is required."""
    return _fail_if_skipped((yield))


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report() -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """A module skipped as a whole, by `importorskip` for instance, is a failure too when everything is required."""
    return _fail_if_skipped((yield))


def _fail_if_skipped(report: _Report) -> _Report:
    # An expected failure also calls itself skipped, and marks itself with `wasxfail`.
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("MAILMIRROR_REQUIRE") == "all":
        reason = report.longrepr[2] if isinstance(report.longrepr, tuple) else str(report.longrepr)
        report.outcome = "failed"
        report.longrepr = f"{reason} (nothing may be skipped: MAILMIRROR_REQUIRE=all)"
    return report
