"""Run by the Python of lieer's own environment: one whole `gmi pull` of a mailbox, and how long it took.

    python -I bench/lieer_pull.py ROOT ADDRESS FOLDER

Knows: how lieer is pointed at another Gmail, and what of notmuch it needs. Does not know: Mailmirror. lieer's own code
does everything it does at a user's, with its own defaults: it lists, fetches in its batches, writes its maildir and
keeps its state. What is not lieer's stands in: notmuch's index, which takes no time here, and Google's sign-in. The
search `-in:chats` is left out, because the fake Gmail has neither a search nor chats.
"""

import importlib
import json
import os
import sys
import time
from contextlib import AbstractContextManager, nullcontext, redirect_stdout
from importlib import resources
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, Self


class Tags(set[str]):
    """A message's tags."""

    def to_maildir_flags(self) -> None:
        """Rename nothing: lieer has given the file the right name."""


class Indexed:
    """A message that the index knows."""

    def __init__(self, path: str) -> None:
        """Know it by its file."""
        self.tags = Tags()
        self._path = Path(path)

    def frozen(self) -> AbstractContextManager[None]:
        """Change tags together."""
        return nullcontext()

    def filenames(self) -> Any:
        """Yield its only file."""
        yield self._path


class Database:
    """An index that knows nothing and forgets everything at once."""

    MODE = SimpleNamespace(READ_ONLY=0, READ_WRITE=1)

    def __init__(self, mode: int = 0) -> None:
        """Lie in the working folder."""
        self.mode = mode
        self.path = Path.cwd()
        self.config: dict[str, str] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Close nothing."""

    def revision(self) -> Any:
        """Return how often it changed."""
        return SimpleNamespace(rev=0)

    def get(self, path: str) -> Any:
        """Find no message: each is new."""
        raise LookupError(path)

    def add(self, path: str, *, sync_flags: bool) -> tuple[Indexed, bool]:
        """Take a message."""
        assert sync_flags
        return Indexed(path), False


def point_at(root: str) -> Any:
    """Return what stands for `googleapiclient.discovery`: its own service, for single calls and batches at `root`."""
    discovery = importlib.import_module("googleapiclient.discovery")

    def build(name: str, version: str, credentials: Any) -> Any:
        documents = resources.files("googleapiclient.discovery_cache") / "documents"
        document = json.loads((documents / f"{name}.{version}.json").read_text("utf-8"))
        return discovery.build_from_document(document | {"rootUrl": root, "servicePath": ""}, credentials=credentials)

    return SimpleNamespace(build=build)


def main() -> None:
    """Pull, and print how many messages came, in how many seconds, with how many of CPU."""
    root, account, folder = sys.argv[1:]
    notmuch: Any = ModuleType("notmuch2")
    notmuch.Database, notmuch.FileNotEmailError = Database, ValueError
    sys.modules["notmuch2"] = notmuch
    remote: Any = importlib.import_module("lieer.remote")
    remote.discovery = point_at(root)
    remote.Remote.query = None
    gmi = importlib.import_module("lieer.gmailieer").Gmailieer
    os.chdir(folder)
    os.environ["no_proxy"] = "127.0.0.1"
    # A token that is good for years: the fake takes the address for one.
    token = {
        "token": account,
        "refresh_token": "-",
        "client_id": "-",
        "client_secret": "-",
        "expiry": "2099-01-01T00:00:00Z",
    }
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        sys.argv = ["gmi", "init", "--no-auth", account]
        gmi().main()
        Path(".credentials.gmailieer.json").write_text(json.dumps(token))
        sys.argv = ["gmi", "pull", "--no-progress"]
        began, spent = time.perf_counter(), time.process_time()
        gmi().main()
        seconds, cpu = time.perf_counter() - began, time.process_time() - spent
    messages = sum(1 for _ in Path("mail", "cur").iterdir())
    print(json.dumps({"messages": messages, "seconds": seconds, "cpu": cpu}))


if __name__ == "__main__":
    main()
