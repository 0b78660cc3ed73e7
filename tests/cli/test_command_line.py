"""The commands that call functions: what people and programs are told, exit codes, help, and completion."""

import json
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Request, Response
from mailmirror.documents import to_document
from mailmirror.errors import GmailRejected
from mailmirror.model import Parked
from typer.testing import CliRunner, Result

from mailmirror_cli import mailboxes
from mailmirror_cli.__main__ import cli
from mailmirror_cli.target import VARIABLES
from mailmirror_cli.telling import clean
from tests.cli.conftest import Run
from tests.cli.functions import Functions
from tests.test_readme import section
from tests.world import ADA, mail

HOUR = timedelta(hours=1)
COMMANDS = {str(each.name or each.callback.__name__) for each in cli.registered_commands if each.callback is not None}


def told(result: Result) -> dict[str, Any]:
    """What a program was told: one object on stdout, nothing on stderr."""
    assert result.stderr == ""
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def pretend(functions: Functions, method: str, path: str, change: dict[str, Any]) -> None:
    """Let the answer to a request differ from what it is."""

    def take(request: Request) -> Response | None:
        if (request.method, request.path) != (method, path):
            return None
        functions.take = lambda request: None
        real = functions._answer("manage_mailboxes", request)
        functions.take = take
        return Response(json.dumps(json.loads(real.get_data()) | change), real.status_code)

    functions.take = take


# Help, README, completion


@pytest.mark.parametrize("name", sorted(COMMANDS))
def test_help(name: str) -> None:
    """Each command's help names `--json` and each exit code it may end with."""
    result = CliRunner().invoke(cli, [name, "--help"])
    text = " ".join(result.stdout.split())
    assert result.exit_code == 0
    assert "--json" in text
    codes = text.partition("Exit code: ")[2]
    expected = "012" if name == "doctor" else ["0", "1", "2", "3", "130"]
    assert re.findall(r"\b\d+\b", codes)[: len(expected)] == list(expected)


def test_the_commands_of_readme() -> None:
    """README has each command, and no other; its table has each exit code."""
    text = section("Command line")
    assert set(re.findall(r"^mailmirror ([a-z]+)", text, re.MULTILINE)) == COMMANDS
    codes = re.findall(r"^\| (\d+) \|", text, re.MULTILINE)
    help_text = " ".join(CliRunner().invoke(cli, ["--help"]).stdout.split())
    for code in codes:
        assert re.search(rf"(?:: |, ){code} [a-z]", help_text), code
    for variable in (*VARIABLES.values(), "MAILMIRROR_PROJECT", "MAILMIRROR_REGION"):
        assert variable in text
        assert variable in help_text


def complete(words: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """What bash is told for these words."""
    variables = {"_MAILMIRROR_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": str(words.count(" "))}
    return CliRunner().invoke(cli, [], prog_name="mailmirror", env=variables).stdout


def test_completion(ask: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tab completes commands, and the names of mailboxes where they can be had."""
    ask("connect", ADA)
    assert sorted(complete("mailmirror del", monkeypatch).split()) == ["delete", "deltas"]
    assert ADA in complete("mailmirror status a", monkeypatch)
    assert ADA in complete("mailmirror threads ", monkeypatch)
    assert ADA not in complete("mailmirror status b", monkeypatch)


def test_completion_fails_silently(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where mailboxes cannot be had, nothing is offered and nothing is said."""
    functions.take = lambda request: Response("no", 500)
    assert complete("mailmirror status a", monkeypatch).strip() == ""
    for variable in VARIABLES.values():
        monkeypatch.delenv(variable)
    assert complete("mailmirror status a", monkeypatch).strip() == ""


# Mailboxes


def test_connecting(ask: Run, functions: Functions) -> None:
    """A mailbox is connected, and the command returns when its first run is over."""
    result = ask("connect", "Ada@Example.com")
    assert result.exit_code == 0
    assert re.search(r"^phase +live", result.stdout, re.MULTILINE)
    assert re.search(r"^messages +3 in 3 threads", result.stdout, re.MULTILINE)
    assert functions.world.differences() == []


def test_connecting_without_waiting(ask: Run, functions: Functions) -> None:
    """With `--no-wait` it returns when the mailbox is connected."""
    result = ask("connect", ADA, "--no-wait", "--json")
    assert (result.exit_code, told(result)["phase"]) == (0, "connecting")
    assert len(functions.asked) == 1


@pytest.mark.parametrize("form", ["bare", "wrapped", "file"])
def test_a_policy(ask: Run, form: str, tmp_path: Any) -> None:
    """A policy is JSON or a file with it, alone or as the function takes it."""
    policy = '{"excludeLabelIds": ["SPAM"]}'
    if form == "wrapped":
        policy = f'{{"policy": {policy}}}'
    elif form == "file":
        (tmp_path / "policy.json").write_text(policy)
        policy = str(tmp_path / "policy.json")
    assert told(ask("connect", ADA, f"--policy={policy}", "--json"))["policy"]["excludeLabelIds"] == ["SPAM"]


@pytest.mark.parametrize("policy", ["nowhere.json", "{", "[]", '{"policy": 1}'])
def test_a_policy_that_is_none(ask: Run, functions: Functions, policy: str) -> None:
    """What is no policy is wrong usage, and nothing is asked."""
    assert ask("connect", ADA, f"--policy={policy}").exit_code == 2
    assert functions.asked == []


def test_a_policy_that_the_function_refuses(ask: Run) -> None:
    """The function's sentence is the command's."""
    result = ask("connect", ADA, '--policy={"labels": []}')
    assert (result.exit_code, result.stdout) == (1, "")
    assert "labels" in result.stderr


def test_a_problem(ask: Run, functions: Functions) -> None:
    """A mailbox with a problem: message and action are told, and the exit code is 1, of one and of all."""
    ask("connect", ADA)
    functions.world.accounts.before = lambda method, subject: _fail()
    functions.world.sweep()
    functions.world.accounts.before = None
    for words in (["status", ADA], ["status"]):
        result = ask(*words)
        assert result.exit_code == 1
        assert "no such scope" in result.stdout
        assert GmailRejected.action[:20] in result.stdout
    assert told(ask("status", ADA, "--json"))["problem"]["code"] == "GmailRejected"


def _fail() -> None:
    raise GmailRejected("no such scope.")


def test_more_than_a_page_of_mailboxes(ask: Run, functions: Functions) -> None:
    """All mailboxes are listed, however many pages that takes."""
    asked = []

    def take(request: Request) -> Response:
        asked.append(request.args.get("pageToken"))
        name = "b@example.com" if asked[-1] else "a@example.com"
        page = {"mailboxes": [{"emailAddress": name, "phase": "live"}]} | ({} if asked[-1] else {"nextPageToken": "a"})
        return Response(json.dumps(page))

    functions.take = take
    assert [each["emailAddress"] for each in told(ask("list", "--json"))["mailboxes"]] == [
        "a@example.com",
        "b@example.com",
    ]
    assert asked == [None, "a"]


def test_stop_and_delete(ask: Run, functions: Functions) -> None:
    """A mailbox is stopped; it is deleted only by who says so."""
    ask("connect", ADA)
    assert ask("stop", ADA).exit_code == 0
    assert told(ask("status", ADA, "--json"))["phase"] == "stopped"
    result = ask("delete", ADA)
    assert (result.exit_code, result.stdout) == (1, "")
    assert "--yes" in result.stderr
    assert told(ask("delete", ADA, "--json"))["error"]["status"] == "FAILED_PRECONDITION"
    assert ask("status", ADA).exit_code == 0
    assert told(ask("delete", ADA, "--yes", "--json"))["emailAddress"] == ADA
    assert told(ask("status", ADA, "--json"))["error"]["code"] == 404


@pytest.mark.parametrize(("answer", "left"), [("n\n", True), ("\n", True), ("y\n", False)])
def test_delete_asks(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch, answer: str, left: bool) -> None:
    """At a terminal it asks, and takes silence for no; the question is not part of the answer."""
    ask("connect", ADA)
    monkeypatch.setattr(mailboxes, "at_terminal", lambda: True)
    result = ask("delete", ADA, "--json", typed=answer)
    assert result.exit_code == (1 if left else 0)
    assert "3 messages" in result.stderr
    # What is typed is echoed before the answer.
    json.loads(result.stdout[result.stdout.index("{") :])
    assert (functions.world.store.mailbox(ADA) is not None) == left


@pytest.mark.parametrize(
    ("words", "method", "path"),
    [(["stop", ADA], "POST", f"/mailboxes/{ADA}/stop"), (["delete", ADA, "--yes"], "DELETE", f"/mailboxes/{ADA}")],
)
def test_what_goes_on_by_itself(ask: Run, functions: Functions, words: list[str], method: str, path: str) -> None:
    """202 is exit code 3."""

    def take(request: Request) -> Response | None:
        if (request.method, request.path) == (method, path):
            return Response(json.dumps({"status": "purging", "purge": {"documents": 7, "objects": 1}}), 202)
        return None

    functions.take = take
    assert ask(*words).exit_code == 3
    assert told(ask(*words, "--json"))["status"] == "purging"


# Runs


@pytest.mark.parametrize(
    ("words", "mode"), [(["sync", ADA], "incremental"), (["sync", ADA, "--full"], "full"), (["audit", ADA], "audit")]
)
def test_syncing(ask: Run, functions: Functions, words: list[str], mode: str) -> None:
    """The command returns when mailbox and mirror are equal, and a program gets the function's answer at the end."""
    ask("connect", ADA)
    functions.world.ada.deliver(mail("New"))
    answer = told(ask(*words, "--json"))
    assert (answer["ok"], answer["mode"], answer["status"]) == (True, mode, "done")
    # An audit finds what the catching up before it has brought.
    assert answer["messagesProcessed"] == {"full": 4, "incremental": 1, "audit": 0}[mode]
    assert functions.world.differences() == []
    if mode == "audit":
        assert (answer["coverage"]["listed"], answer["coverage"]["mirrored"]) == (4, 4)
    result = ask(*words)
    assert result.exit_code == 0
    assert ADA in result.stdout


def test_a_run_that_rests(ask: Run, functions: Functions) -> None:
    """A run that rests until tomorrow is not waited for: 3, and the reason."""
    ask("connect", ADA)
    functions.working = False
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()
    run = {"id": "other", "mode": "full", "stage": "fetching", "done": 1, "total": 9, "pausedUntil": tomorrow}
    pretend(functions, "GET", f"/mailboxes/{ADA}", {"run": run | {"finishedAt": None}, "requestDone": ""})
    result = ask("sync", ADA, "--full")
    assert result.exit_code == 3
    assert "rests until" in result.stdout
    assert "goes on by itself" in result.stdout
    assert told(ask("sync", ADA, "--full", "--json"))["status"] == "running"
    assert "rests until" in ask("status", ADA).stdout
    result = ask("connect", ADA)
    assert result.exit_code == 3
    assert "goes on by itself" in result.stderr


def test_a_run_that_nobody_can_finish(ask: Run, functions: Functions) -> None:
    """Who waits for a mailbox that lost its access is told what to do, and does not wait for ever."""
    ask("connect", ADA)
    functions.working = False
    problem = {"code": "ConsentMissing", "message": "No consent.", "action": "Ask for it.", "at": None, "since": None}
    change = {"phase": "reauth_required", "problem": problem, "cursor": 0, "run": None, "requestDone": ""}
    pretend(functions, "GET", f"/mailboxes/{ADA}", change)
    for words in (["connect", ADA], ["sync", ADA, "--full"]):
        result = ask(*words)
        assert result.exit_code == 1
        assert "No consent. Ask for it." in result.stderr


def test_a_run_that_another_replaced(ask: Run, functions: Functions) -> None:
    """A run whose place another has taken is over with that one, and no longer told of."""
    ask("connect", ADA)
    functions.working = False
    run = {"id": "later", "mode": "audit", "stage": "finished", "finishedAt": "2026-11-20T12:00:00Z"}
    pretend(functions, "GET", f"/mailboxes/{ADA}", {"run": run, "requestDone": "requested-1"})
    assert told(ask("sync", ADA, "--full", "--json"))["status"] == "done"


def test_leaving(ask: Run, functions: Functions, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C while a run is shown: 130, that it goes on, and it does."""
    ask("connect", ADA)
    functions.working = False

    def press(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("mailmirror_cli.runs.time.sleep", press)
    result = ask("sync", ADA, "--full")
    assert (result.exit_code, result.stdout) == (130, "")
    assert "goes on by itself" in result.stderr
    assert told(ask("sync", ADA, "--full", "--json"))["error"]["status"] == "CANCELLED"
    functions.world.work()
    assert functions.world.differences() == []


# Mail and deltas


def test_threads(ask: Run, functions: Functions) -> None:
    """The conditions are the function's; a title that is no title for a terminal is harmless."""
    functions.world.ada.deliver(mail("Evil \x1b[2J title"))
    ask("connect", ADA)
    words = "--label=INBOX", "--unread", "--from=grace@example.com", f"--to={ADA}", "--after=2020-01-01"
    found = told(ask("threads", ADA, *words, "--before=2030-01-01", "--limit=2", "--json"))
    assert len(found["threads"]) == 2
    assert functions.asked[-1][3].count("=") == 7
    shown = ask("threads", ADA)
    assert shown.exit_code == 0
    assert "\x1b" not in shown.stdout
    assert "Old 1" in shown.stdout
    assert ask("threads", ADA, "--from=nobody@example.com").stdout == "No thread is like that.\n"
    assert ask("threads", ADA, "--after=tomorrow").exit_code == 1


def test_pages_of_threads(ask: Run, functions: Functions) -> None:
    """As many pages are read as it takes to have so many, empty ones among them."""
    limits = []

    def take(request: Request) -> Response:
        limits.append(int(request.args["limit"]))
        number = len(limits)
        page: dict[str, Any] = {"threads": [{"id": str(number)}] * (0 if number == 2 else limits[-1])}
        return Response(json.dumps(page | {"nextPageToken": str(number)}))

    functions.take = take
    found = told(ask("threads", ADA, "--limit=150", "--json"))
    assert limits == [100, 50, 50]
    assert (len(found["threads"]), found["nextPageToken"]) == (150, "3")


def test_a_message(ask: Run, functions: Functions) -> None:
    """Headers and text for people, the HTML alone where it is asked for, the document for programs."""
    source = (
        b"From: Bob <bob@example.com>\r\nTo: Ada <ada@example.com>\r\nSubject: Plan\r\nMIME-Version: 1.0\r\n"
        b"Content-Type: multipart/alternative; boundary=x\r\n\r\n--x\r\nContent-Type: text/plain\r\n\r\nThe text.\r\n"
        b"--x\r\nContent-Type: text/html\r\n\r\n<p>The [b]HTML[/b].</p>\r\n--x--\r\n"
    )
    written = functions.world.ada.deliver(source)
    plain = functions.world.ada.deliver(mail("No HTML"))
    ask("connect", ADA)
    shown = ask("message", ADA, written).stdout
    assert "From: Bob <bob@example.com>\nTo: Ada <ada@example.com>\nSubject: Plan\n" in shown
    assert shown.rstrip().endswith("The text.")
    assert ask("message", ADA, written, "--html").stdout.strip() == "<p>The [b]HTML[/b].</p>"
    assert told(ask("message", ADA, written, "--json"))["id"] == written
    result = ask("message", ADA, plain, "--html")
    assert (result.exit_code, result.stdout) == (1, "")
    assert ask("message", ADA, "none").exit_code == 1


def test_deltas(ask: Run, functions: Functions) -> None:
    """A page of the log; what is left out is said; the cursor goes on."""
    ask("connect", ADA)
    page = told(ask("deltas", ADA, "--json"))
    assert [each["seq"] for each in page["deltas"]] == [1]
    functions.world.ada.deliver(mail("New"))
    ask("sync", ADA)
    shown = ask("deltas", ADA, f"--cursor={page['cursor']}", "--types=messageAdded", "--origin=live")
    assert shown.stdout.count(" live added ") == shown.stdout.count("\n") == 1
    assert "--cursor=" in shown.stderr
    assert ask("deltas", ADA, "--types=none").exit_code == 1
    result = ask("deltas", ADA, "--follow", f"--cursor={page['cursor']}", "--limit=1", "--json")
    assert [json.loads(line)["origin"] for line in result.stdout.splitlines()] == ["live"]


def test_parked(ask: Run, functions: Functions) -> None:
    """What could not be mirrored is listed with its reason, and tried again when that is asked for."""
    world = functions.world
    message = world.ada.deliver(mail("Broken"))

    ask("connect", ADA, "--no-wait")
    put_aside = Parked(message, message, "It cannot be read.", 1, world.clock.now(), world.clock.now() + HOUR)
    rows = {"parked": [to_document(put_aside)], "total": 501}
    functions.take = lambda request: _json(rows) if request.path.endswith("/parked") else None
    shown = ask("parked", ADA).stdout
    assert message in shown
    assert "It cannot be read." in shown
    assert "501 messages are parked" in shown
    functions.take = lambda request: None
    assert told(ask("parked", ADA, "--json")) == {"parked": [], "total": 0}
    answer = told(ask("parked", ADA, "--retry", "--json"))
    assert (answer["status"], answer["total"]) == ("done", 0)
    assert "retryParked=true" in next(query for _, _, path, query in functions.asked if path.endswith("/sync"))


def _json(content: dict[str, Any]) -> Response:
    return Response(json.dumps(content, default=str))


# What every command does


def test_wrong_usage(ask: Run) -> None:
    """Wrong usage is 2; a program is told so in Google's error model."""
    for words in (["status", "nobody"], ["threads"], ["threads", ADA, "--limit=0"], ["sync", ADA, "--fast"]):
        result = ask(*words)
        assert (result.exit_code, result.stdout) == (2, "")
        answer = ask(*words, "--json")
        assert answer.exit_code == 2
        assert told(answer)["error"]["status"] == "INVALID_ARGUMENT"
    assert ask("status", "--watch", "--json").exit_code == 2


def test_an_answer_that_is_no_json(ask: Run, functions: Functions) -> None:
    """Somebody else's server is not taken for a function."""
    functions.take = lambda request: Response("<html>", 200)
    result = ask("list", "--json")
    assert (result.exit_code, told(result)["error"]["code"]) == (1, 503)


def test_long_answers_are_not_cut(ask: Run, functions: Functions) -> None:
    """What is piped has the width it needs."""
    sentence = "word " * 200
    problem = {"code": "X", "message": sentence.strip() + ".", "action": "Act.", "at": None, "since": None}
    ask("connect", ADA)
    pretend(functions, "GET", f"/mailboxes/{ADA}", {"problem": problem})
    assert sentence.strip() in ask("status", ADA).stdout


def test_what_a_terminal_would_obey() -> None:
    """Escape sequences and marks that turn the direction are replaced; lines and tabs stay."""
    assert clean("a\x1b[31m\tb\r\nc\u202ed") == "a\ufffd[31m\tb\nc\ufffdd"
