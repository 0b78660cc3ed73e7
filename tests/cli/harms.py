"""How a healthy deployment is harmed, and what is to be said of it: the words that diseases are written in."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.cli import healthy as h
from tests.cli.googleapis import Cloud, Refused

Harm = Callable[[Cloud], object]

DEPLOY = "make deploy PROJECT=my-project REGION=europe-west1"


@dataclass(frozen=True)
class Disease:
    """One thing that is wrong with a deployment.

    Attributes:
        name: what it is, in words.
        check: the one check that sees it.
        harm: does it to a healthy deployment.
        commands: what mends it.
        says: words of the finding.
        auth: how mailboxes are opened.
        mailbox: the mailbox that the command is told, if it is told one.
        outcome: what the check comes to.
        hides: checks that cannot be looked at because of it.
        paste: what is to be entered on a web page.
    """

    name: str
    check: str
    harm: Harm
    commands: tuple[str, ...] = (DEPLOY,)
    says: str = ""
    auth: str = "delegation"
    mailbox: str = ""
    outcome: str = "wrong"
    hides: frozenset[str] = frozenset()
    paste: tuple[tuple[str, str], ...] = ()


def change(address: str, **changes: Any) -> Harm:
    """Other values in a resource; None takes a field away."""

    def harm(cloud: Cloud) -> None:
        found = cloud.resources[address]
        for name, value in changes.items():
            found.pop(name, None)
            if value is not None:
                found[name] = value

    return harm


def lose(address: str) -> Harm:
    """A resource that is gone."""
    return lambda cloud: cloud.resources.pop(address)


def strip(address: str, who: str) -> Harm:
    """A member that lost what it had on a resource."""

    def harm(cloud: Cloud) -> None:
        for binding in cloud.policies[address]:
            binding["members"] = [each for each in binding["members"] if each != who]

    return harm


def publish(address: str, role: str) -> Harm:
    """A resource that is everybody's."""
    return lambda cloud: cloud.policies[address].append(h.binding(role, "allUsers"))


def function(name: str, **changes: Any) -> Harm:
    """Other values in a function."""
    return lambda cloud: h.deployed(cloud, name).update(changes)


def service(name: str, **changes: Any) -> Harm:
    """Other values in how a function runs."""
    return lambda cloud: h.deployed(cloud, name)["serviceConfig"].update(changes)


def built(name: str, entry_point: str, bundle: str) -> Harm:
    """A function that was built from something else."""
    return function(name, buildConfig={"entryPoint": entry_point, "source": {"storageSource": {"object": bundle}}})


def environment(*names: str, **changes: str) -> Harm:
    """Other variables in the environment of these functions, of all if none is named."""

    def harm(cloud: Cloud) -> None:
        for each in cloud.resources[h.FUNCTIONS]["functions"]:
            if not names or each["name"].rpartition("/")[2] in names:
                each["serviceConfig"]["environmentVariables"].update(changes)

    return harm


def undeploy(name: str) -> Harm:
    """A function that is not there."""
    return lambda cloud: cloud.resources[h.FUNCTIONS]["functions"].remove(h.deployed(cloud, name))


def account(name: str, **changes: Any) -> Harm:
    """A service account that is disabled, or gone if nothing is said."""

    def harm(cloud: Cloud) -> None:
        accounts = cloud.resources[h.ACCOUNTS]["accounts"]
        found = next(each for each in accounts if each["email"] == h.account(name))
        found.update(changes)
        if not changes:
            accounts.remove(found)

    return harm


def mailbox(**changes: Any) -> Harm:
    """Other values in Bob's mailbox."""
    return lambda cloud: h.mailbox(cloud, h.BOB, **changes)


def watch(expires_at: datetime, error: str | None = None) -> dict[str, Any]:
    """Return a watch as the mailbox document has it."""
    return {"expiresAt": expires_at, "historyId": 7, "renewedAt": None, "error": error}


def ago(**past: float) -> datetime:
    """Return a time in the past."""
    return datetime.now(UTC) - timedelta(**past)


def ahead(seconds: float) -> Harm:
    """A machine whose clock is wrong."""

    def harm(cloud: Cloud) -> None:
        cloud.ahead = timedelta(seconds=seconds)

    return harm


def refuse(code: int, message: str, **info: Any) -> Harm:
    """Gmail does not tell the profile."""

    def harm(cloud: Cloud) -> None:
        cloud.gmail = Refused(code, "FAILED_PRECONDITION", message, **info)

    return harm


def token(error: str, description: str) -> Harm:
    """The token endpoint gives none."""

    def harm(cloud: Cloud) -> None:
        cloud.token = error, description

    return harm
