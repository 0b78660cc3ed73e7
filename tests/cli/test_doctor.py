"""`mailmirror doctor`: a healthy deployment, each thing that can be wrong with one, and what cannot be looked at."""

import json
import os
import re
import socket
from collections import Counter
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import pytest
from mailmirror.adapters import directory
from typer.testing import CliRunner, Result

from mailmirror_cli.__main__ import cli
from mailmirror_cli.checks import mailboxes
from mailmirror_cli.doctor import LOGIN, SUBJECTS
from mailmirror_cli.google import ROOT_VARIABLE
from mailmirror_cli.site import Check
from tests.cli import healthy as h
from tests.cli.conftest import Run, SignIn
from tests.cli.diseases import ALL
from tests.cli.harms import DEPLOY, Disease, ago, environment, lose, refuse, strip, undeploy, watch

HERE = "doctor", "--project=my-project"


def told(result: Result) -> dict[str, Any]:
    """What `--json` printed, and nothing but that."""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def by_id(result: Result) -> dict[str, dict[str, Any]]:
    """The checks by their id."""
    checks: list[dict[str, Any]] = told(result)["checks"]
    found = {each["id"]: each for each in checks}
    assert len(found) == len(checks)
    return found


@pytest.mark.parametrize("disease", ALL, ids=lambda disease: disease.name)
def test_what_is_wrong_is_seen_by_the_one_check_that_is_about_it(disease: Disease, run: Run) -> None:
    """One thing is broken: exactly that check says so, with the commands that mend it, and all others are as before."""
    cloud = h.healthy(disease.auth)
    disease.harm(cloud)
    result = run(cloud, *HERE, "--json", *([f"--mailbox={disease.mailbox}"] if disease.mailbox else []))
    checks = by_id(result)
    seen = {name for name, each in checks.items() if each["outcome"] != "ok"}
    assert seen == {disease.check} | disease.hides, {name: checks[name]["message"] for name in seen}
    found = checks[disease.check]
    assert found["outcome"] == disease.outcome
    assert tuple(found["commands"]) == disease.commands
    assert disease.says in found["message"]
    assert found["paste"] == dict(disease.paste)
    for name in disease.hides:
        assert (checks[name]["outcome"], checks[name]["message"][:10]) == ("unknown", "Not looked")
    assert result.exit_code == {"wrong": 1, "unknown": 2, "warning": 0}[disease.outcome]


def test_the_order_of_a_healthy_report(run: Run) -> None:
    """Nothing is wrong: every check is right, the exit code is 0, and there is nothing to paste into a shell."""
    result = run(h.healthy(), *HERE, f"--mailbox={h.ADA}")
    assert result.exit_code == 0
    assert not re.search(r"^\s*[!✗?] ", result.stdout, re.MULTILINE)
    assert "To paste" not in result.stdout
    assert re.search(r"^\d+ right\.$", result.stdout, re.MULTILINE)
    subjects = [line.strip() for line in result.stdout.splitlines() if line.strip() in dict(SUBJECTS)]
    assert subjects == [name for name, _ in SUBJECTS if name != "Consent"]


@pytest.mark.parametrize("auth", ["delegation", "oauth"])
def test_json_has_everything(auth: str, run: Run) -> None:
    """`--json` prints one object: what was looked at, the exit code, counts, and each check with the same fields."""
    result = run(h.healthy(auth), *HERE, "--json", "--region=europe-west1", f"--mailbox={h.ADA}")
    report = told(result)
    assert (report["project"], report["region"], report["mailbox"]) == ("my-project", "europe-west1", h.ADA)
    assert abs(datetime.fromisoformat(report["checkedAt"]) - datetime.now(UTC)) < timedelta(minutes=5)
    assert report["exitCode"] == result.exit_code == 0
    checks = report["checks"]
    assert report["counts"] == {"ok": len(checks), "warning": 0, "wrong": 0, "unknown": 0}
    fields = {"subject", "id", "title", "outcome", "message", "commands", "paste"}
    assert {frozenset(each) for each in checks} == {frozenset(fields)}
    assert {each["subject"] for each in checks} == dict(SUBJECTS).keys() - {
        "Consent" if auth == "delegation" else "Delegation"
    }


def test_every_check_is_put_to_the_test(run: Run) -> None:
    """Whatever is looked at, one of the diseases makes it wrong: no check can only say that all is well."""
    looked = {check.id: code(check) for _, checks in SUBJECTS for check in checks()}
    seen = {looked[disease.check] for disease in ALL if disease.outcome == "wrong"}
    untested = {name for name, each in looked.items() if each not in seen}
    # Without credentials nothing else can be known, and few dead letters are no failure: these never say wrong.
    assert untested == {"credentials", "pubsub.waiting"}


def code(check: Check) -> str:
    """The function that a check looks with."""
    look = check.look.func if isinstance(check.look, partial) else check.look
    return f"{look.__module__}.{look.__qualname__}"


def test_nobody_need_hear_of_deltas(run: Run) -> None:
    """Without DELTA_TOPIC there is no topic to look for, and nothing is wrong; those who only read need no right."""
    cloud = h.healthy()
    about_it = {"pubsub.mailbox-deltas", "pubsub.delta-publishers"}
    assert about_it <= by_id(run(cloud, *HERE, "--json")).keys()
    environment(DELTA_TOPIC="")(cloud)
    lose(f"{h.PUBSUB}/topics/mailbox-deltas")(cloud)
    result = run(cloud, *HERE, "--json")
    assert result.exit_code == 0
    assert not about_it & by_id(result).keys()


def test_the_delegation_to_enter_is_always_told(run: Run) -> None:
    """An administrator gets client id and scopes to paste, each on a line of its own however narrow the terminal."""
    cloud = h.healthy()
    environment(GMAIL_SCOPES=f"{h.SCOPE} https://mail.google.com/")(cloud)
    result = run(cloud, *HERE)
    assert f"  Client ID: {h.CLIENT_ID}\n" in result.stdout
    assert f"  OAuth scopes: {h.SCOPE},https://mail.google.com/\n" in result.stdout
    # Once, though the attempt that was refused asks for it as well.
    refused = run(cloud, *HERE, f"--mailbox={h.ADA}")
    assert refused.stdout.count("Client ID") == 1
    assert "To enter, for delegation: delegate, delegation: attempt:\n" in refused.stdout


def test_commands_are_printed_whole(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command longer than the terminal is wide is one line all the same, told once, with the checks it is for."""
    monkeypatch.setenv("COLUMNS", "50")
    cloud = h.healthy()
    for harm in (undeploy("mailmirror-run-work"), lose(f"{h.PUBSUB}/subscriptions/mailbox-work-dead-letters")):
        harm(cloud)
    publisher = "serviceAccount:gmail-api-push@system.gserviceaccount.com"
    strip(f"{h.PUBSUB}/topics/gmail-notifications", publisher)(cloud)
    result = run(cloud, *HERE)
    lines = result.stdout.splitlines()
    grant = "gcloud pubsub topics add-iam-policy-binding gmail-notifications --project=my-project"
    at = lines.index(f"{grant} --member={publisher} --role=roles/pubsub.publisher")
    assert lines[at - 1] == "# pub/sub: Gmail's right"
    assert lines.count(DEPLOY) == 1
    assert lines[lines.index(DEPLOY) - 1] == "# functions: run_work, pub/sub: dead letters of mailbox-work"
    assert result.exit_code == 1


def test_what_is_not_known_for_one_reason_is_told_once(run: Run) -> None:
    """Where Mailmirror is not deployed each subject says so in one row, and not for each of its checks."""
    cloud = h.healthy()
    cloud.resources[h.FUNCTIONS] = {}
    result = run(cloud, *HERE)
    assert "✗  region" in result.stdout
    (functions,) = re.findall(r"   Functions *\n(.*?)\n   Pub/Sub", result.stdout, re.DOTALL)
    assert functions.count("?") == 1
    assert result.exit_code == 1


def test_nothing_deployed(run: Run) -> None:
    """In a project without Mailmirror that alone is wrong; topics and the like are looked at by name."""
    cloud = h.healthy()
    cloud.resources[h.FUNCTIONS] = {"functions": []}
    checks = by_id(run(cloud, *HERE, "--json"))
    assert checks["region"]["commands"] == ["make deploy PROJECT=my-project REGION="]
    assert [name for name, each in checks.items() if each["outcome"] == "wrong"] == ["region"]
    assert checks["pubsub.gmail-publisher"]["outcome"] == "ok"
    assert checks["functions.run_work"]["message"] == "Not looked at, because Mailmirror is not deployed."


def test_another_region(run: Run) -> None:
    """A region in which Mailmirror is not is answered with the one in which it is."""
    result = run(h.healthy(), *HERE, "--region=us-east1", "--json")
    found = by_id(result)["region"]
    assert "not in us-east1 but in europe-west1" in found["message"]
    assert found["commands"] == ["mailmirror doctor --project=my-project --region=europe-west1"]
    assert result.exit_code == 1


def test_functions_on_several_pages(run: Run) -> None:
    """A project with many functions tells them page by page, and all pages are read."""
    cloud = h.healthy()
    functions = cloud.resources[h.FUNCTIONS]["functions"]
    cloud.resources[h.FUNCTIONS] = [{"functions": functions[:2]}, {}, {"functions": functions[2:]}]
    assert run(cloud, *HERE).exit_code == 0


def test_other_functions_are_none_of_its_business(run: Run) -> None:
    """What else is deployed in the project is not looked at."""
    cloud = h.healthy()
    cloud.resources[h.FUNCTIONS]["functions"].append(h.function("main", "mailmirror-like") | {"state": "FAILED"})
    assert run(cloud, *HERE).exit_code == 0


def test_a_schedule_in_another_region(run: Run) -> None:
    """Where the functions' region has no Cloud Scheduler the jobs are found where they are."""
    cloud = h.healthy()
    for name in ("mailmirror-renew-watches", "mailmirror-sweep-mailboxes"):
        job = cloud.resources.pop(f"{h.SCHEDULER}/europe-west1/jobs/{name}")
        job["name"] = job["name"].replace("europe-west1", "us-central1")
        cloud.resources[f"{h.SCHEDULER}/us-central1/jobs/{name}"] = job | {"state": "PAUSED"}
    command = "gcloud scheduler jobs resume mailmirror-sweep-mailboxes --location=us-central1 --project=my-project"
    assert by_id(run(cloud, *HERE, "--json"))["calls.sweep_mailboxes-job"]["commands"] == [command]


def test_a_right_given_in_the_project_counts(run: Run) -> None:
    """What a function may do in the whole project it may do on each topic."""
    cloud = h.healthy()
    strip(f"{h.PUBSUB}/topics/mailbox-work", h.member("mailmirror-run-work"))(cloud)
    cloud.policies[h.RESOURCES].append(h.binding("roles/pubsub.publisher", h.member("mailmirror-run-work")))
    assert run(cloud, *HERE).exit_code == 0


def test_mailboxes_that_nobody_watches(run: Run) -> None:
    """A stopped mailbox may have no watch, and one that was never synced has no last sync."""
    cloud = h.healthy()
    never = datetime(9999, 1, 1, tzinfo=UTC)
    h.mailbox(cloud, h.ADA, phase="stopped", watch=watch(ago(days=9)), nextDueAt=never, lastSyncAt=ago(days=9))
    h.mailbox(cloud, h.BOB, phase="connecting", lastSyncAt=None)
    checks = by_id(run(cloud, *HERE, "--json", f"--mailbox={h.BOB}"))
    assert {each["outcome"] for each in checks.values()} == {"ok"}
    assert checks["mailboxes.due"]["message"] == "Nothing is overdue."
    assert checks["mailboxes.mailbox"]["message"] == "bob@example.com is connecting."


def test_many_mailboxes(run: Run) -> None:
    """Of many that are closed a few are named, and so many documents are read that it stays cheap."""
    cloud = h.healthy()
    for number in range(mailboxes.LIMIT + 7):
        h.mailbox(cloud, f"user-{number:04}@example.com", phase="reauth_required", watch=watch(ago(days=9)))
    checks = by_id(run(cloud, *HERE, "--json"))
    told = "at least 300 mailboxes, such as user-0000@example.com, user-0001@example.com"
    assert told in checks["mailboxes.access"]["message"]
    assert checks["mailboxes.watches"]["message"].startswith("309 connected")


def test_no_mailboxes_yet(run: Run) -> None:
    """A deployment without a mailbox is healthy."""
    cloud = h.healthy()
    cloud.documents.clear()
    assert run(cloud, *HERE).exit_code == 0


def test_an_address_is_looked_up_in_lower_case(run: Run) -> None:
    """A mailbox's id is its address in lower case."""
    result = run(h.healthy(), *HERE, "--json", "--mailbox=Ada@Example.com")
    assert told(result)["mailbox"] == h.ADA
    assert result.exit_code == 0


def test_what_is_no_address_is_refused(run: Run) -> None:
    """Before anything is asked."""
    cloud = h.healthy()
    result = run(cloud, *HERE, "--mailbox=ada")
    assert result.exit_code == 2
    assert "--mailbox" in result.stderr
    assert cloud.asked == []


def test_the_directory_can_be_tried(run: Run) -> None:
    """Where people are listed as an administrator, and its scopes are delegated, that is tried too."""
    cloud = h.healthy()
    environment(DIRECTORY_ADMIN="root@example.com")(cloud)
    cloud.services["admin.googleapis.com"] = "ENABLED"
    cloud.delegated[h.CLIENT_ID] |= set(directory.SCOPES)
    cloud.users["root@example.com"] = "root@example.com"
    checks = by_id(run(cloud, *HERE, "--json", f"--mailbox={h.ADA}"))
    assert checks["delegation.directory"]["outcome"] == "ok"


def test_consent_at_a_terminal_alone(run: Run) -> None:
    """Without consents in the users' own browsers there is no public function, and none is missed."""
    cloud = h.healthy("oauth")
    undeploy("mailmirror-oauth-callback")(cloud)
    environment(OAUTH_REDIRECT_URI="")(cloud)
    h.oauth_client(cloud, {"installed": {"client_id": f"{h.NUMBER}-abc.apps.googleusercontent.com"}})
    checks = by_id(run(cloud, *HERE, "--json"))
    assert {each["outcome"] for each in checks.values()} == {"ok"}
    assert not {"functions.oauth_callback", "calls.oauth_callback"} & checks.keys()


def test_the_client_need_not_be_read(run: Run) -> None:
    """Who may not read the OAuth client is told that it is there, and that is no failure."""
    cloud = h.healthy("oauth")
    cloud.denied.add(f"{h.SECRETS}/{h.CLIENT}/versions/2:access")
    checks = by_id(run(cloud, *HERE, "--json"))
    assert checks["consent.client"]["outcome"] == "ok"
    assert "You may not read it" in checks["consent.client"]["message"]


@pytest.mark.parametrize(
    ("denied", "check", "role"),
    [
        (h.RESOURCES, "project", "roles/browser"),
        ("serviceusage.googleapis.com", "apis", "roles/serviceusage.serviceUsageViewer"),
        ("cloudfunctions.googleapis.com", "region", "roles/cloudfunctions.viewer"),
        (h.ACCOUNTS, "functions.accounts", "roles/iam.serviceAccountViewer"),
        (f"{h.PUBSUB}/topics/gmail-notifications", "pubsub.gmail-notifications", "roles/pubsub.viewer"),
        (f"{h.PUBSUB}/topics/gmail-notifications:", "pubsub.gmail-publisher", "roles/iam.securityReviewer"),
        ("monitoring.googleapis.com", "pubsub.waiting", "roles/monitoring.viewer"),
        ("run.googleapis.com", "calls.run_work", "roles/iam.securityReviewer"),
        ("cloudscheduler.googleapis.com", "calls.sweep_mailboxes-job", "roles/cloudscheduler.viewer"),
        (f"{h.IAM}/{h.own('mailmirrorJwtSigner')}", "delegation.signers", "roles/iam.roleViewer"),
        (f"{h.FIRESTORE}/documents", "mailboxes.watches", "roles/datastore.viewer"),
        (f"{h.FIRESTORE}/collectionGroups", "firestore.indexes", "roles/datastore.indexAdmin"),
        ("storage.googleapis.com", "bucket.bucket", "roles/storage.bucketViewer"),
    ],
)
def test_a_missing_right_is_named(denied: str, check: str, role: str, run: Run) -> None:
    """What the operator may not ask is not known: the role is named with the command that gives it; exit code 2."""
    cloud = h.healthy()
    cloud.denied.add(denied)
    result = run(cloud, *HERE, "--json")
    found = by_id(result)[check]
    assert found["outcome"] == "unknown"
    assert f"you lack {role}" in found["message"]
    grant = f"gcloud projects add-iam-policy-binding my-project --role={role} --condition=None"
    assert found["commands"] == [f"{grant} --member=user:ops@example.com"]
    assert result.exit_code == 2


def test_the_rest_is_looked_at_all_the_same(run: Run) -> None:
    """Who may ask next to nothing learns that everywhere, and what is wrong beside it still counts as wrong."""
    cloud = h.healthy()
    cloud.denied |= {"pubsub.googleapis.com", "firestore.googleapis.com", "iam.googleapis.com"}
    cloud.services["gmail.googleapis.com"] = "DISABLED"
    result = run(cloud, *HERE, "--json")
    outcomes = {name: each["outcome"] for name, each in by_id(result).items()}
    assert (outcomes["apis"], outcomes["bucket.bucket"], outcomes["functions.run_work"]) == ("wrong", "ok", "ok")
    assert {outcomes[name] for name in ("pubsub.mailbox-work", "firestore.database", "clocks.workers")} == {"unknown"}
    assert result.exit_code == 1


def test_an_api_that_is_off(run: Run) -> None:
    """What an API does not tell because it is off is not known, and the command enables it where it is off."""
    cloud = h.healthy()
    cloud.disabled.add("monitoring.googleapis.com")
    result = run(cloud, *HERE, "--json")
    found = by_id(result)["pubsub.waiting"]
    assert found["message"] == "Not looked at, because monitoring.googleapis.com is not enabled."
    assert found["commands"] == ["gcloud services enable monitoring.googleapis.com --project=123456789012"]
    assert result.exit_code == 2


def test_an_answer_that_is_none(run: Run) -> None:
    """What fails is asked again, three times in all, and is then not known."""
    cloud = h.healthy()
    cloud.failing[h.METRICS] = 503
    result = run(cloud, *HERE, "--json")
    assert by_id(result)["pubsub.waiting"]["message"] == "Not known: 503 Internal error encountered."
    assert [each.address for each in cloud.asked].count(h.METRICS) == 3
    assert result.exit_code == 2


def test_an_answer_in_another_shape(run: Run) -> None:
    """What cannot be understood is not known, and everything after it is looked at all the same."""
    cloud = h.healthy()
    cloud.resources[h.METRICS] = {"timeSeries": [{"points": []}]}
    result = run(cloud, *HERE, "--json")
    checks = by_id(result)
    assert "cannot be understood" in checks["pubsub.waiting"]["message"]
    assert [name for name, each in checks.items() if each["outcome"] != "ok"] == ["pubsub.waiting"]
    assert result.exit_code == 2


@pytest.mark.usefixtures("nobody")
def test_nobody_is_signed_in() -> None:
    """Without credentials everything is unknown, the one command is to sign in, and the exit code is 2."""
    result = CliRunner().invoke(cli, [*HERE, "--json"])
    checks = by_id(result)
    assert {each["outcome"] for each in checks.values()} == {"unknown"}
    assert checks["credentials"]["commands"] == ["gcloud auth application-default login"]
    assert {command for each in checks.values() for command in each["commands"]} == {LOGIN}
    assert result.exit_code == 2


def test_credentials_that_are_no_longer_good(run: Run, operator: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sign-in that has ended is told as such, and not as something wrong with the deployment."""
    cloud = h.healthy()
    assert run(cloud, *HERE).exit_code == 0
    operator(os.environ[ROOT_VARIABLE], refresh_token="1//ended")
    result = CliRunner().invoke(cli, [*HERE, "--json"])
    assert by_id(result)["credentials"]["commands"] == [LOGIN]
    assert result.exit_code == 2


def test_no_network(operator: SignIn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where Google cannot be reached nobody is told to sign in again."""
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        root = f"http://127.0.0.1:{closed.getsockname()[1]}"
        operator(root)
        monkeypatch.setenv(ROOT_VARIABLE, root)
        result = CliRunner().invoke(cli, [*HERE, "--json"])
    checks = by_id(result)
    assert {each["outcome"] for each in checks.values()} == {"unknown"}
    assert "cannot be reached" in checks["credentials"]["message"]
    assert {command for each in checks.values() for command in each["commands"]} == set()
    assert result.exit_code == 2


def test_quota_is_the_projects(run: Run) -> None:
    """A person's credentials belong to no project: the one that is looked at is named, as Google wants it."""
    cloud = h.healthy()
    run(cloud, *HERE)
    assert cloud.charged == {"my-project"}


def test_each_question_is_asked_once(run: Run) -> None:
    """However many checks need an answer, Google is asked for it one time."""
    cloud = h.healthy()
    run(cloud, *HERE)
    asked = Counter((each.method, each.address, each.body) for each in cloud.asked)
    assert {question for question, times in asked.items() if times > 1} == set()


@pytest.mark.parametrize("form", [[], ["--json"]])
@pytest.mark.parametrize("auth", ["delegation", "oauth"])
def test_no_secret_is_shown(auth: str, form: list[str], run: Run, caplog: pytest.LogCaptureFixture) -> None:
    """Neither tokens nor the OAuth client's secret nor a signed statement are printed or logged, whatever happens."""
    secrets = ("ya29.", "1//", "GOCSPX", "e30.", "not-a-secret")
    for harm in (lambda _: None, lambda cloud: cloud.users.clear(), refuse(500, "Backend Error")):
        cloud = h.healthy(auth)
        harm(cloud)
        result = run(cloud, *HERE, f"--mailbox={h.ADA}", *form)
        assert not [secret for secret in secrets if secret in result.output + caplog.text]
