"""A small Secret Manager over HTTP: secrets, their versions and what reading one answers.

Knows: the three methods of the REST API that Mailmirror calls, by their paths, and Google's error model. Everybody may
do anything, but for the secrets in `denied`; a version is never changed, only its state.
"""

import base64
import threading
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import flask

from local.gmail.server import serve


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
        read: the name of each secret whose latest version was asked for.
        denied: secrets nobody may read or add to.
        failing: a status that everything is answered with; 0 when it works.
        garbled: a version is answered with something that is no JSON.
    """

    secrets: dict[str, list[Version]] = field(default_factory=dict)
    read: list[str] = field(default_factory=list)
    denied: set[str] = field(default_factory=set)
    failing: int = 0
    garbled: bool = False

    def put(self, name: str, data: bytes) -> None:
        """Add a version, as an operator would."""
        self.secrets.setdefault(name, []).append(Version(data))

    def latest(self, name: str) -> bytes:
        """What `versions/latest:access` gives: the newest version, whatever its state, or an error."""
        self.read.append(name)
        if name in self.denied:
            raise Refused(403, "PERMISSION_DENIED", f"Permission denied on resource {name} (or it may not exist).")
        versions = self.secrets.get(name)
        if not versions:
            raise Refused(404, "NOT_FOUND", f"Secret [{name}] not found or has no versions.")
        if versions[-1].state != "ENABLED":
            number = len(versions)
            message = f"Secret Version [{name}/versions/{number}] is in {versions[-1].state} state."
            raise Refused(400, "FAILED_PRECONDITION", message)
        return versions[-1].data

    def create(self, name: str, secret: dict[str, Any]) -> None:
        """Create a secret; it has no version yet."""
        if name in self.secrets:
            raise Refused(409, "ALREADY_EXISTS", f"Secret [{name}] already exists.")
        if secret.get("replication") != {"automatic": {}}:
            raise Refused(400, "INVALID_ARGUMENT", "The fake knows automatic replication alone.")
        self.secrets[name] = []

    def add(self, name: str, data: bytes) -> None:
        """Add a version to a secret that exists."""
        if name in self.denied:
            raise Refused(403, "PERMISSION_DENIED", "Permission 'secretmanager.versions.add' denied.")
        if name not in self.secrets:
            raise Refused(404, "NOT_FOUND", f"Secret [{name}] not found.")
        self.put(name, data)


def create_app(manager: SecretManager) -> flask.Flask:
    """The REST API."""
    app = flask.Flask("tests.secretmanager")

    @app.errorhandler(Refused)
    def refused(error: Refused) -> tuple[flask.Response, int]:
        return flask.jsonify(error={"code": error.code, "message": str(error), "status": error.status}), error.code

    @app.before_request
    def fail() -> None:
        if manager.failing:
            raise Refused(manager.failing, "UNAVAILABLE", "The service is currently unavailable.")

    @app.get("/v1/projects/<project>/secrets/<secret>/versions/latest:access")
    def access(project: str, secret: str) -> Any:
        data = manager.latest(f"projects/{project}/secrets/{secret}")
        if manager.garbled:
            return b"<html>" + data
        return {"name": flask.request.path[4:], "payload": {"data": base64.b64encode(data).decode()}}

    @app.post("/v1/projects/<project>/secrets")
    def create(project: str) -> dict[str, object]:
        name = f"projects/{project}/secrets/{flask.request.args['secretId']}"
        manager.create(name, flask.request.get_json(force=True))
        return {"name": name}

    @app.post("/v1/projects/<project>/secrets/<secret>:addVersion")
    def add(project: str, secret: str) -> dict[str, object]:
        name = f"projects/{project}/secrets/{secret}"
        body = flask.request.get_json(force=True)
        manager.add(name, base64.b64decode(body["payload"]["data"], validate=True))
        return {"name": f"{name}/versions/{len(manager.secrets[name])}", "state": "ENABLED"}

    return app


class Served:
    """An application on a loopback port, as a context.

    Attributes:
        host: `127.0.0.1:PORT`.
    """

    def __init__(self, app: flask.Flask) -> None:
        self._server = serve(app)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True)
        self.host = f"127.0.0.1:{self._server.server_port}"

    def __enter__(self) -> "Served":
        self._thread.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()
