"""The log: events as JSON lines, and never anything of the mail."""

import ast
import json
import logging
import re
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from mailmirror.api import MODES
from mailmirror.app import configure_logs, log_unexpected
from mailmirror.errors import AccessRevoked, GmailUnavailable
from mailmirror.log import log
from mailmirror.model import Policy

from tests import source
from tests.world import ADA, World, mail, push

SOURCES = sorted((Path(__file__).resolve().parent.parent / "functions").rglob("*.py"))
MARKER = "xyzzy"
LARGE = 300_000


@pytest.fixture(autouse=True)
def _logger() -> Iterator[None]:
    """Each test finds the logger unconfigured and leaves it so."""
    logger = logging.getLogger("mailmirror")
    before = logger.handlers[:], logger.level, logger.propagate
    yield
    logger.handlers[:], logger.level, logger.propagate = before


def lines(capsys: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """What was logged: each line must be one JSON object, and nothing may be elsewhere."""
    written = capsys.readouterr()
    assert written.err == ""
    events = [json.loads(line) for line in written.out.splitlines()]
    assert all(isinstance(event, dict) for event in events)
    return events


def test_an_event(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is a line with severity, time, name, mailbox and its fields, as Cloud Logging reads them."""
    configure_logs("INFO")
    log("watch_renewed", ADA, expires_at=datetime(2026, 11, 27, tzinfo=UTC), units=100)
    [line] = lines(capsys)
    assert datetime.fromisoformat(line.pop("time")).tzinfo is not None
    assert line == {
        "severity": "INFO",
        "event": "watch_renewed",
        "mailbox": ADA,
        "expires_at": "2026-11-27T00:00:00+00:00",
        "units": 100,
    }


def test_an_event_of_no_mailbox(capsys: pytest.CaptureFixture[str]) -> None:
    """An event that is about no mailbox names none."""
    configure_logs("INFO")
    log("swept", mailboxes=3)
    [line] = lines(capsys)
    assert (line["event"], line["mailboxes"]) == ("swept", 3)
    assert "mailbox" not in line


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("two\nlines", "two\nlines"),
        ("line\u2028separator", "line\u2028separator"),
        ('a "quote"', 'a "quote"'),
        ("\ud800", "\ud800"),
        ("\x00", "\x00"),
        (1 << 80, 1 << 80),
        (None, None),
        (b"bytes", "b'bytes'"),
        ({1}, "{1}"),
        (ValueError("Why."), "Why."),
    ],
    ids=repr,
)
def test_a_value_of_any_kind_stays_on_its_line(
    value: object, written: object, capsys: pytest.CaptureFixture[str]
) -> None:
    """No value of a field breaks the line or the logging."""
    configure_logs("INFO")
    log("odd", ADA, value=value)
    assert [line["value"] for line in lines(capsys)] == [written]


@pytest.mark.parametrize("level", [logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR])
def test_a_severity(level: int, capsys: pytest.CaptureFixture[str]) -> None:
    """The severity is the level's name, which is what Cloud Logging calls it too."""
    configure_logs("DEBUG")
    log("something", level=level)
    assert [line["severity"] for line in lines(capsys)] == [logging.getLevelName(level)]


def test_a_level_that_is_not_wanted(capsys: pytest.CaptureFixture[str]) -> None:
    """LOG_LEVEL leaves out what is below it."""
    configure_logs("WARNING")
    log("swept")
    log("push_malformed", level=logging.WARNING)
    assert [line["event"] for line in lines(capsys)] == ["push_malformed"]


def test_configuring_twice(capsys: pytest.CaptureFixture[str]) -> None:
    """An event is written once, also when the functions share a process."""
    configure_logs("INFO")
    configure_logs("INFO")
    log("swept")
    assert len(lines(capsys)) == 1


def test_the_root_logger_does_not_repeat_an_event(
    capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """A handler that a framework gives the root logger writes no second, unstructured line."""
    configure_logs("INFO")
    log("swept")
    assert caplog.records == []
    assert len(lines(capsys)) == 1


def test_event_names_are_fixed() -> None:
    """Each event has one literal name in snake case: alerts and searches rely on it."""
    names = [event.name for event in source.events()]
    assert len(names) > 10
    assert [name for name in names if not re.fullmatch(r"[a-z]+(_[a-z]+)*", name)] == []


def test_nothing_is_printed() -> None:
    """Nothing but `log` writes: a print would be a line that is no JSON."""
    for file in SOURCES:
        calls = [node.func for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.Call)]
        assert [call.id for call in calls if isinstance(call, ast.Name) and call.id == "print"] == []


def test_an_unexpected_failure_tells_its_place_and_not_its_text(capsys: pytest.CaptureFixture[str]) -> None:
    """The text of an exception without a name may hold mail; its type and where it happened do not."""
    configure_logs("INFO")
    try:
        int(MARKER)
    except ValueError as error:
        log_unexpected(error)
    [line] = lines(capsys)
    assert (line["severity"], line["event"], line["error"]) == ("ERROR", "unexpected_failure", "ValueError")
    assert re.fullmatch(r".*/test_log\.py:\d+", line["at"][-1])
    assert MARKER not in json.dumps(line)


def secret_mail(number: int, text: str = "") -> bytes:
    """A message with the marker everywhere that content can be."""
    parts = [
        f"From: {MARKER} <grace@example.org>",
        f"To: {ADA}",
        f"Subject: {MARKER} {number}",
        f"Message-ID: <{MARKER}-{number}@example.org>",
        'Content-Type: multipart/mixed; boundary="b"',
        "",
        "--b",
        "Content-Type: text/plain; charset=utf-8",
        "",
        f"{MARKER} {text}",
        "--b",
        f'Content-Type: application/pdf; name="{MARKER}.pdf"',
        f'Content-Disposition: attachment; filename="{MARKER}.pdf"',
        "",
        MARKER,
        "--b--",
        "",
    ]
    return "\r\n".join(parts).encode()


def test_no_mail_in_the_log(capsys: pytest.CaptureFixture[str]) -> None:
    """A mailbox's whole life, failures included, leaves no subject, text, name, label or other address in the log."""
    configure_logs("DEBUG")
    world = World()
    messages = [world.ada.deliver(secret_mail(number)) for number in range(5)]
    label = world.ada.create_label(MARKER)
    world.connect()
    messages.append(world.ada.deliver(secret_mail(5, "large " * (LARGE // 6))))
    messages.append(world.ada.deliver(b"Subject: " + MARKER.encode() + b" \xff\xfe\r\n\r\n\xff" + MARKER.encode()))
    world.ada.modify(messages[:2], [label], ["UNREAD"])
    assert world.notify() == 204

    refused: list[str] = []

    def refuse(method: str, subject: str) -> None:
        if method == "users.messages.get" and not refused:
            refused.append(subject)
            raise GmailUnavailable("Gmail did not answer.")

    world.accounts.before = refuse
    messages.append(world.ada.deliver(secret_mail(6)))
    world.notify()
    assert refused

    failures: list[Exception] = [AccessRevoked("Access was withdrawn."), GmailUnavailable("Gmail did not answer.")]

    def fail(method: str, subject: str) -> None:
        raise failures.pop()

    world.accounts.before = fail
    while failures:
        world.clock.advance(4_000)
        world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"}))
    world.accounts.before = None
    world.clock.advance(4_000)
    world.ada.trash(messages[0])
    world.ada.delete([messages[1]])
    for mode in MODES.values():
        world.app.trigger_sync(ADA, mode, 50)
    for malformed in (MARKER.encode(), push({"emailAddress": MARKER, "historyId": 1}), push({MARKER: MARKER})):
        world.app.push(world.app.sync_history, malformed)
        world.app.push(world.app.run_work, malformed)
    world.sweep()
    world.app.plan(ADA)
    mirrored = json.dumps(world.documents("messages")) + json.dumps(world.documents("labels"))
    assert mirrored.count(MARKER) > 20
    assert any(MARKER.encode() in body for body in world.blobs.objects.values())
    world.app.stop(ADA, 50)
    world.app.connect(ADA, Policy(bodies=False))
    world.work()
    world.app.delete(ADA, 50)
    world.work()
    assert world.blobs.objects == {}
    events = lines(capsys)
    assert {"run_started", "synced", "message_parked", "turn_failed", "push_failed", "push_malformed"} <= {
        event["event"] for event in events
    }
    told = "\n".join(json.dumps(event) for event in events)
    assert MARKER not in told
    assert set(re.findall(r"[\w.]+@[\w.]+", told)) == {ADA}
    world.sqlite.close()


def test_what_alerts_are_made_of(capsys: pytest.CaptureFixture[str]) -> None:
    """The events that operators are woken by say how late a sync was, what is parked, what Gmail refused, which mailbox
    needs access again, and which watch nobody renewed.
    """
    configure_logs("INFO")
    world = World()
    world.connect()
    message = world.ada.deliver(mail("New"))

    def unreadable(method: str, subject: str) -> None:
        if method == "users.messages.get":
            raise GmailUnavailable("Gmail did not answer.")

    world.accounts.before = unreadable
    notice = push({"emailAddress": ADA, "historyId": world.head()})
    world.clock.advance(30)
    assert world.app.push(world.app.sync_history, notice) == 204
    synced = [event for event in lines(capsys) if event["event"] == "synced"][-1]
    assert (synced["status"], synced["lag"], synced["parked"], synced["rejected"]) == ("done", 30.0, 1, 0)
    assert message not in json.dumps(synced)

    world.app.run_work(push({"mailbox": ADA, "task": "sync"}))
    assert [event["lag"] for event in lines(capsys) if event["event"] == "synced"] == [None]

    def revoked(method: str, subject: str) -> None:
        raise AccessRevoked("Access was withdrawn.")

    world.accounts.before = revoked
    assert world.app.push(world.app.run_work, push({"mailbox": ADA, "task": "sync"})) == 204
    told = {event["event"]: event for event in lines(capsys)}
    assert told["turn_failed"]["rejected"] == 0
    wanted = {"severity": "ERROR", "mailbox": ADA, "error": "AccessRevoked", "reason": "Access was withdrawn."}
    assert wanted.items() <= told["reauth_required"].items()

    world.app.renew_watches()
    assert "watch_expiring" not in {event["event"] for event in lines(capsys)}
    world.clock.advance(86_400 * 5 + 1)
    world.app.renew_watches()
    expiring = [event for event in lines(capsys) if event["event"] == "watch_expiring"]
    assert [(event["mailbox"], event["severity"]) for event in expiring] == [(ADA, "WARNING")]
    world.sqlite.close()


def test_a_triggered_sync_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """What an administrator's request spends is in the log like what a push spends; waiting for a worker is not."""
    configure_logs("INFO")
    world = World()
    world.connect()
    world.ada.deliver(mail("New"))
    lines(capsys)
    world.app.trigger_sync(ADA, "incremental", 0)
    [synced] = [event for event in lines(capsys) if event["event"] == "synced"]
    assert (synced["status"], synced["messages"], synced["units"]) == ("done", 1, 22)
    now = world.clock.now()
    held = world.store.acquire(world.state(), owner="other", now=now, expires_at=now + timedelta(seconds=120))
    world.app.trigger_sync(ADA, "incremental", 10)
    assert "synced" not in {event["event"] for event in lines(capsys)}
    world.store.commit(held, held.mailbox, expires_at=now, release=True)
    world.sqlite.close()


def test_an_overdue_mailbox_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    """A sweep says how late the most overdue mailbox is."""
    configure_logs("INFO")
    world = World()
    world.connect()
    world.app.sweep_mailboxes()
    world.clock.advance(7_200)
    world.app.sweep_mailboxes()
    swept = [event for event in lines(capsys) if event["event"] == "swept"]
    assert swept[0]["overdue"] == 0.0
    assert swept[1]["mailboxes"] == 1
    assert 6_000 < swept[1]["overdue"] <= 7_200
    world.sqlite.close()
