"""Failures: each has a name, a place in the drawn tree, an answer to Pub/Sub, one to people, and a next step."""

import inspect
import re
from datetime import UTC, datetime

import pytest
from mailmirror import errors
from mailmirror.errors import (
    NEEDS_SOMEBODY,
    AccessRevoked,
    GmailError,
    GmailRejected,
    InvalidInput,
    MailmirrorError,
    Throttled,
)

# The failures, and what becomes of a push or a request that meets them.
TREE = """
MailmirrorError
├── InvalidInput 400
├── UnknownMailbox 404
├── MailboxStopped 409
├── BeingPurged 409
├── NotMirrored 404
├── AttachmentGone 404
├── TextGone 409
├── CursorExpired 410
├── ConsentNotGiven 400
├── LeaseHeld ack
├── DocumentExists retry
├── LeaseLost retry
├── StoreUnavailable retry
├── DirectoryUnavailable retry
├── DirectoryRejected ack
└── GmailError
    ├── HistoryExpired retry
    ├── HistoryLag retry
    ├── PageTokenExpired retry
    ├── Throttled retry
    ├── GmailUnavailable retry
    ├── AccessRevoked ack
    │   ├── ConsentMissing ack
    │   ├── SessionEnded ack
    │   ├── DelegationMissing ack
    │   ├── NoSuchUser ack
    │   ├── MailServiceOff ack
    │   ├── BlockedByDomain ack
    │   └── WrongUser ack
    └── GmailRejected ack
        ├── ScopeMissing ack
        ├── NoSubject ack
        ├── ApiDisabled ack
        ├── CredentialsMissing ack
        ├── SigningDenied ack
        ├── ClientInvalid ack
        ├── PublishDenied ack
        ├── TopicElsewhere ack
        └── WatchTaken ack
"""
# What the tree says, and the codes Google's error model has for a status.
ANSWERS = {"ack": True, "retry": False, "400": False, "404": True, "409": True, "410": True}
CODES = {
    "INVALID_ARGUMENT": {400},
    "NOT_FOUND": {404},
    "OUT_OF_RANGE": {400, 410},
    "ABORTED": {409},
    "FAILED_PRECONDITION": {400, 409},
    "RESOURCE_EXHAUSTED": {429},
    "UNAVAILABLE": {503},
}
SENTENCE = re.compile(r"[A-Z].+\.")

FAILURES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, MailmirrorError) and value is not MailmirrorError
]
# What is raised: all but a branch that is no more than a kind.
RAISED = [failure for failure in FAILURES if failure is not GmailError]


def drawn() -> dict[str, tuple[str, str]]:
    """The tree: each name with its parent and its answer, empty for a branch."""
    found, above = {}, ["MailmirrorError"]
    for line in TREE.splitlines():
        if match := re.fullmatch(r"([ │]*)[├└]── (\w+) *(\w*).*", line):
            indent, name, answer = match.groups()
            depth = len(indent) // 4
            above[depth + 1 :] = [name]
            found[name] = (above[depth], answer)
    return found


def test_the_tree_shows_every_failure_and_no_other() -> None:
    """Who reads the tree above knows all failures and which is a kind of which."""
    tree = {name: parent for name, (parent, _) in drawn().items()}
    assert tree == {failure.__name__: failure.__base__.__name__ for failure in FAILURES if failure.__base__}


@pytest.mark.parametrize("failure", RAISED)
def test_the_tree_says_what_becomes_of_a_push(failure: type[MailmirrorError]) -> None:
    """The answer drawn beside a failure is the one Pub/Sub gets."""
    assert failure.acknowledge is ANSWERS[drawn()[failure.__name__][1]]


@pytest.mark.parametrize("failure", RAISED)
def test_a_failure_has_an_answer_for_people(failure: type[MailmirrorError]) -> None:
    """Code and status belong together in Google's model, and none of them blames the server for input."""
    assert failure.http_status in CODES[failure.status]


@pytest.mark.parametrize("failure", RAISED)
def test_a_failure_says_the_next_step(failure: type[MailmirrorError]) -> None:
    """The operator is told in a sentence what to do."""
    assert SENTENCE.fullmatch(failure.action)


@pytest.mark.parametrize("failure", [failure for failure in RAISED if failure.acknowledge])
def test_what_pubsub_will_not_bring_again_does_not_say_that_it_mends_itself(failure: type[MailmirrorError]) -> None:
    """A push that is acknowledged for a failure leaves work to somebody: to a person, or to who holds the lease."""
    nothing = failure.action.startswith("Nothing to do")
    assert not nothing or failure is errors.LeaseHeld


def test_each_kind_of_refusal_has_a_next_step_of_its_own() -> None:
    """A failure is a kind of its own because something else is to be done about it."""
    kinds = [failure for failure in FAILURES if failure.__base__ in (AccessRevoked, GmailRejected)]
    actions = [AccessRevoked.action, GmailRejected.action, *(failure.action for failure in kinds)]
    assert len(set(actions)) == len(actions) > 10


def test_what_needs_somebody() -> None:
    """Lost access and a wrong configuration keep a mailbox closed, by whatever name; nothing else does."""
    closed = {failure.__name__ for failure in FAILURES if issubclass(failure, AccessRevoked | GmailRejected)}
    assert closed == NEEDS_SOMEBODY
    assert all(failure.acknowledge for failure in FAILURES if failure.__name__ in closed)


def test_malformed_input_is_not_acknowledged() -> None:
    """A malformed message must reach the dead-letter topic, which an acknowledged one never does."""
    assert not InvalidInput.acknowledge
    assert InvalidInput.http_status == 400


@pytest.mark.parametrize("until", [None, datetime(2026, 11, 20, tzinfo=UTC)])
def test_throttled_keeps_the_time_to_come_back(until: datetime | None) -> None:
    """A refusal for quota carries the time Gmail named, or none."""
    assert Throttled("Not now.", until).until == until
    assert str(Throttled("Not now.", until)) == "Not now."
