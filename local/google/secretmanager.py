"""A small Secret Manager over HTTP: secrets, their versions and what reading one answers.

Knows: the four methods of the REST API that Mailmirror calls, by their paths, and Google's error model. Everybody may
do anything, but for the secrets in `denied`; a version is never changed, only its state. What was just written may be
known late, but a new version by its number at once
(https://docs.cloud.google.com/secret-manager/regional-secrets/reference/consistency). There is no emulator of Google's;
what this one answers to reading a version that is disabled is in
https://github.com/google-github-actions/get-secretmanager-secrets/issues/268.
"""

from __future__ import annotations

import base64
import threading
from dataclasses import dataclass, field
from typing import Any

import flask


@dataclass
class Version:
    """One version of a secret."""

    data: bytes
    state: str = "ENABLED"


class Refused(Exception):
    """An answer in Google's error model."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass
class SecretManager:
    """Secrets by full name.

    Attributes:
        secrets: their versions, the oldest first.
        read: the name of each secret whose latest version was asked for, and of each version asked for by its number.
        behind: how many of a secret's newest versions are not its `latest` one yet, by secret.
        unknown: how often a secret that was just made is said not to be there when it is to be changed.
        denied: secrets nobody may read, add to or delete.
        failing: a status that everything is answered with; 0 when it works.
        closed: nobody may make a secret.
        garbled: a version is answered with something that is no JSON.
    """

    secrets: dict[str, list[Version]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    behind: dict[str, int] = field(default_factory=dict)
    unknown: int = 0
    failing: int = 0
    closed: bool = False
    garbled: bool = False
    _unknown: dict[str, int] = field(default_factory=dict)
    lock: Any = field(default_factory=threading.RLock)

    def put(self, name: str, data: bytes) -> None:
        """Add a version, as an operator would."""
        self.secrets.setdefault(name, []).append(Version(data))

    def latest(self, name: str) -> bytes:
        """What `versions/latest:access` gives: the newest version that it knows, whatever its state, or an error."""
        return self.access(name, "latest")[1]

    def access(self, name: str, version: str) -> tuple[int, bytes]:
        """What `versions/…:access` gives: the number of the version and what it holds, or an error."""
        self.read.append(name if version == "latest" else f"{name}/versions/{version}")
        if name in self.denied:
            raise Refused(403, "PERMISSION_DENIED", f"Permission denied on resource {name} (or it may not exist).")
        versions = self.secrets.get(name, [])
        number = len(versions) - self.behind.get(name, 0) if version == "latest" else int(version)
        if not 1 <= number <= len(versions):
            raise Refused(404, "NOT_FOUND", f"Secret [{name}] not found or has no versions.")
        found = versions[number - 1]
        if found.state != "ENABLED":
            message = f"Secret Version [{name}/versions/{number}] is in {found.state} state."
            raise Refused(400, "FAILED_PRECONDITION", message)
        return number, found.data

    def create(self, name: str, secret: dict[str, Any]) -> None:
        """Create a secret; it has no version yet."""
        if self.closed:
            raise Refused(403, "PERMISSION_DENIED", "Permission 'secretmanager.secrets.create' denied.")
        if name in self.secrets:
            raise Refused(409, "ALREADY_EXISTS", f"Secret [{name}] already exists.")
        if secret.get("replication") != {"automatic": {}}:
            raise Refused(400, "INVALID_ARGUMENT", "The fake knows automatic replication alone.")
        self.secrets[name] = []
        self._unknown[name] = self.unknown

    def _known(self, name: str) -> None:
        """Refuse what is not there, or not known to be."""
        if name in self.secrets and self._unknown.get(name, 0) == 0:
            return
        if name in self.secrets:
            self._unknown[name] -= 1
        raise Refused(404, "NOT_FOUND", f"Secret [{name}] not found.")

    def add(self, name: str, data: bytes) -> None:
        """Add a version to a secret that exists."""
        if name in self.denied:
            raise Refused(403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.add' denied.")
        self._known(name)
        self.put(name, data)

    def delete(self, name: str) -> None:
        """Delete a secret with all its versions."""
        if name in self.denied:
            raise Refused(403, "PERMISSION_DENIED", "Permission 'secretmanager.secrets.delete' denied.")
        self._known(name)
        del self.secrets[name]


def blueprint(manager: SecretManager) -> flask.Blueprint:
    """The REST API."""
    http = flask.Blueprint("secretmanager", __name__, url_prefix="/v1/projects/<project>/secrets")

    @http.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error={"code": error.code, "message": str(error), "status": error.status}), error.code

    @http.before_request
    def fail() -> None:
        if manager.failing:
            raise Refused(manager.failing, "UNAVAILABLE", "The service is currently unavailable.")

    @http.get("/<secret>/versions/<version>:access")
    def access(project: str, secret: str, version: str) -> Any:
        name = _name(project, secret)
        with manager.lock:
            number, data = manager.access(name, version)
        if manager.garbled:
            return b"<html>" + data
        return {"name": f"{name}/versions/{number}", "payload": {"data": base64.b64encode(data).decode()}}

    @http.post("")
    def create(project: str) -> dict[str, object]:
        name = _name(project, flask.request.args["secretId"])
        with manager.lock:
            manager.create(name, flask.request.get_json(force=True))
        return {"name": name}

    @http.post("/<secret>:addVersion")
    def add(project: str, secret: str) -> dict[str, object]:
        name = _name(project, secret)
        data = base64.b64decode(flask.request.get_json(force=True)["payload"]["data"], validate=True)
        with manager.lock:
            manager.add(name, data)
            return {"name": f"{name}/versions/{len(manager.secrets[name])}", "state": "ENABLED"}

    @http.delete("/<secret>")
    def delete(project: str, secret: str) -> dict[str, object]:
        with manager.lock:
            manager.delete(_name(project, secret))
        return {}

    return http


def _name(project: str, secret: str) -> str:
    return f"projects/{project}/secrets/{secret}"
