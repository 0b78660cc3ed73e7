"""The deployment as it is found: which functions there are, how they are configured, and in which project.

Knows: how the functions are recognised and that their own environment is the deployment's configuration, so that what
is deployed is checked and not what somebody believes. Does not know: what is right or wrong about it. A fact that
cannot be had is `NotKnown` to every check that needs it; the one check that is about it tells why.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

from mailmirror.config import BadSetting, Settings

from mailmirror_cli import commands
from mailmirror_cli.expected import ENTRY_POINTS, EntryPoint
from mailmirror_cli.google import Google, NoAnswer, NoCredentials
from mailmirror_cli.report import Finding

Fact = TypeVar("Fact")


class NotKnown(Exception):
    """A check needs a fact that could not be had; the message says which."""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing to look at.

    Attributes:
        id: its name for programs, the same for ever.
        title: its name for people.
        look: returns what it saw, or None where there is nothing to look at.
    """

    id: str
    title: str
    look: "Callable[[Site], Finding | None]"


@dataclass(frozen=True, slots=True)
class Function:
    """A function as it is deployed.

    Attributes:
        trouble: what Google says is the matter with it.
        bundle: the object it was built from.
        address: its run.app URL, which Pub/Sub and Cloud Scheduler call.
    """

    name: str
    region: str
    state: str
    trouble: str
    entry_point: str
    bundle: str
    account: str
    address: str
    timeout: timedelta
    environment: Mapping[str, str]


class Site:
    """What is looked at: a project, and in it the one deployment.

    Attributes:
        google: whom to ask.
        project: its id.
        asked_region: the region the operator named.
        mailbox: the mailbox the operator named.
    """

    def __init__(self, google: Google, project: str, region: str | None, mailbox: str | None) -> None:
        self.google = google
        self.project = project
        self.asked_region = region
        self.mailbox = mailbox

    @property
    def deploy(self) -> str:
        """The line that makes the deployment what terraform/ says."""
        try:
            return commands.deploy(self.project, self.region)
        except NotKnown:
            return commands.deploy(self.project, self.asked_region)

    def ask_number(self) -> str:
        """Return the project's number.

        Raises:
            NoAnswer: it is not told.
        """
        found = self.google.get("cloudresourcemanager", f"v3/projects/{self.project}", role="roles/browser")
        return str(found["name"]).removeprefix("projects/")

    def ask_functions(self) -> dict[str, dict[str, Function]]:
        """Return the functions that bear Mailmirror's names, by region and name.

        Raises:
            NoAnswer: they are not told.
        """
        path = f"v2/projects/{self.project}/locations/-/functions"
        rows = self.google.listing("cloudfunctions", path, "functions", role="roles/cloudfunctions.viewer")
        ours = {entry_point.function for entry_point in ENTRY_POINTS}
        found: dict[str, dict[str, Function]] = {}
        for function in map(_function, rows):
            if function.name in ours:
                found.setdefault(function.region, {})[function.name] = function
        return found

    @cached_property
    def number(self) -> str:
        """The project's number. Raises `NotKnown`."""
        return _fact(self.ask_number, "the project's number is not known")

    @cached_property
    def functions(self) -> dict[str, Function]:
        """The functions of the region that is looked at, by name. Raises `NotKnown`."""
        found = _fact(self.ask_functions, "the functions could not be read")
        if not found:
            raise NotKnown("Mailmirror is not deployed")
        if self.asked_region is not None:
            if self.asked_region not in found:
                raise NotKnown(f"Mailmirror is not deployed in {self.asked_region}")
            return found[self.asked_region]
        # The larger part, if a deployment was left half in another region.
        return max(found.values(), key=len)

    @property
    def region(self) -> str:
        """Where the functions are. Raises `NotKnown`."""
        return next(iter(self.functions.values())).region

    def function(self, entry_point: EntryPoint | str) -> Function:
        """Return one function. Raises `NotKnown`."""
        name = entry_point.function if isinstance(entry_point, EntryPoint) else named(entry_point).function
        if name not in self.functions:
            raise NotKnown(f"there is no function {name}")
        return self.functions[name]

    @cached_property
    def settings(self) -> Settings:
        """What the functions are configured with, as the first says that says it well. Raises `NotKnown`."""
        for entry_point in ENTRY_POINTS:
            if entry_point.function in self.functions:
                try:
                    return Settings.from_env(self.functions[entry_point.function].environment)
                except BadSetting:
                    continue
        raise NotKnown("no function has an environment that can be used")

    @cached_property
    def entry_points(self) -> tuple[EntryPoint, ...]:
        """What is to be deployed as the deployment is configured. Raises `NotKnown`."""
        browsers = self.settings.gmail_auth == "oauth" and self.settings.oauth_redirect_uri
        return tuple(each for each in ENTRY_POINTS if each.callers != "browsers" or browsers)

    @property
    def database(self) -> str:
        """Full name of the mirror's database. Raises `NotKnown`."""
        return f"projects/{self.project}/databases/{self.settings.firestore_database}"

    def account(self, name: str) -> str:
        """Return the address of one of the project's service accounts."""
        return f"{name}@{self.project}.iam.gserviceaccount.com"

    def member(self, name: str) -> str:
        """Return one of the project's service accounts as IAM writes it."""
        return f"serviceAccount:{self.account(name)}"

    @property
    def pubsub_agent(self) -> str:
        """Pub/Sub's own account for this project, as IAM writes it. Raises `NotKnown`."""
        return f"serviceAccount:service-{self.number}@gcp-sa-pubsub.iam.gserviceaccount.com"


def named(entry_point: str) -> EntryPoint:
    """Return the entry point of that name."""
    return next(each for each in ENTRY_POINTS if each.name == entry_point)


def _fact(ask: Callable[[], Fact], otherwise: str) -> Fact:
    try:
        return ask()
    except NoCredentials:
        raise
    except NoAnswer:
        raise NotKnown(otherwise) from None


def _function(row: dict[str, Any]) -> Function:
    _, _, _, region, _, name = str(row["name"]).split("/")
    build, service = row.get("buildConfig", {}), row.get("serviceConfig", {})
    return Function(
        name=name,
        region=region,
        state=row.get("state", "UNKNOWN"),
        trouble=" ".join(each.get("message", "") for each in row.get("stateMessages", ())),
        entry_point=build.get("entryPoint", ""),
        bundle=build.get("source", {}).get("storageSource", {}).get("object", ""),
        account=service.get("serviceAccountEmail", ""),
        address=str(service.get("uri", "")).rstrip("/"),
        timeout=timedelta(seconds=service.get("timeoutSeconds", 60)),
        environment=service.get("environmentVariables", {}),
    )
