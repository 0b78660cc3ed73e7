"""Where the functions are: those of a deployment, found by Google's API, or those that the environment names.

Knows: the variables, which of them counts, and who is sent an identity token: the functions of a deployment alone,
never a server on this machine. Does not know: what the functions are asked.
"""

import os
from collections.abc import Mapping
from functools import cached_property
from urllib.parse import urlsplit

import typer

from mailmirror_cli.expected import EntryPoint
from mailmirror_cli.google import ROOT_VARIABLE, Denied, Google, NoAnswer, NoCredentials
from mailmirror_cli.identity import Identity
from mailmirror_cli.site import NotKnown, Site, named
from mailmirror_cli.telling import Refused
from mailmirror_client.service import Service

PROJECT_VARIABLE, REGION_VARIABLE = "MAILMIRROR_PROJECT", "MAILMIRROR_REGION"
# Each with the output of terraform/ that holds its value.
VARIABLES = {
    "manage_mailboxes": "MAILMIRROR_MANAGE_URL",
    "trigger_sync": "MAILMIRROR_TRIGGER_URL",
    "read_mailboxes": "MAILMIRROR_READ_URL",
}
_HERE = frozenset({"127.0.0.1", "localhost", "::1"})


class Target:
    """The functions a command calls.

    What is said on the command line counts most, then the addresses in the environment, then the project named there.
    """

    def __init__(
        self,
        project: str | None,
        region: str | None,
        *,
        environment: Mapping[str, str] | None = None,
        patience: float = 30.0,
    ) -> None:
        """Say where to.

        Args:
            project: as on the command line.
            region: likewise.
            environment: of the process, unless said otherwise.
            patience: seconds for which what passes by itself is tried again.
        """
        self._environment = os.environ if environment is None else environment
        said = project or region
        self._addresses = {} if said else {name: self._environment.get(each) for name, each in VARIABLES.items()}
        self._project = project or self._environment.get(PROJECT_VARIABLE)
        self._region = region or self._environment.get(REGION_VARIABLE)
        self._patience = patience

    @property
    def known(self) -> bool:
        """Whether anything says where the mailboxes are listed."""
        return bool(self._project or self._addresses.get("manage_mailboxes"))

    @cached_property
    def manage(self) -> Service:
        """manage_mailboxes."""
        return self._service("manage_mailboxes")

    @cached_property
    def trigger(self) -> Service:
        """trigger_sync."""
        return self._service("trigger_sync")

    @cached_property
    def read(self) -> Service:
        """read_mailboxes."""
        return self._service("read_mailboxes")

    def _service(self, name: str) -> Service:
        address = self._addresses.get(name)
        if not address:
            address = self._deployed(named(name))
            return Service(address, token=Identity(address), patience=self._patience)
        try:
            parts = urlsplit(address)
        except ValueError:
            parts = urlsplit("")
        if parts.hostname in _HERE and parts.scheme in ("http", "https"):
            return Service(address, patience=self._patience)
        if parts.scheme != "https" or not parts.hostname:
            raise typer.BadParameter(f"{VARIABLES[name]} must be an https address, or http://127.0.0.1:PORT.")
        address = f"https://{parts.netloc}"
        return Service(address, token=Identity(address), patience=self._patience)

    def _deployed(self, function: EntryPoint) -> str:
        variable = VARIABLES[function.name]
        if not self._project:
            raise typer.BadParameter(
                f"Say where: --project=my-project (or {PROJECT_VARIABLE}) for a deployment, or {variable} with the "
                "address of the function, which for a local stack `make dev` prints."
            )
        site = Site(Google(self._project, self._environment.get(ROOT_VARIABLE, "")), self._project, self._region, None)
        try:
            site.ask_functions()
            return site.function(function).address
        except NoCredentials as none:
            told = f"You are not signed in: {none.text.rstrip('.')}. Sign in: gcloud auth application-default login."
            raise Refused(told, "UNAUTHENTICATED", 401) from None
        except Denied as denied:
            told = (
                f"You may not look up the functions, for which {denied.role or 'a role'} is needed: "
                f"{denied.text.rstrip('.')}. Or set {variable} to what `terraform -chdir=terraform output -raw "
                f"{function.name}_uri` prints."
            )
            raise Refused(told, "PERMISSION_DENIED", 403) from None
        except NoAnswer as none:
            told = f"The functions could not be looked up: {none.text.rstrip('.')}. Try again."
            raise Refused(told, "UNAVAILABLE", none.status or 503) from None
        except NotKnown as reason:
            told = f"In {self._project} {reason}. `mailmirror doctor --project={self._project}` says what is missing."
            raise Refused(told, "NOT_FOUND", 404) from None
