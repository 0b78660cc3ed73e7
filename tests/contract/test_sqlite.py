"""What the SQLite store promises besides the contract: memory, processes, and a file that somebody else holds."""

import json
import sqlite3
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.errors import StoreUnavailable

from tests.contract.samples import ADDRESS, LEASE, MAILBOX, NOW, new_mailbox


def test_memory() -> None:
    """A store in memory keeps the contract without a file, from any thread, and is gone when it is closed."""
    with SqliteStore(":memory:") as store:
        store.create_mailbox(MAILBOX)
        with ThreadPoolExecutor(1) as pool:
            assert pool.submit(store.mailbox, ADDRESS).result() == MAILBOX
    with SqliteStore(":memory:") as store:
        assert store.mailbox(ADDRESS) is None


def test_stored_for_the_next_process(tmp_path: Path) -> None:
    """What is stored is there when the file is opened again, and the lease goes on where it was."""
    path = tmp_path / "mirror.db"
    with SqliteStore(path) as store:
        store.create_mailbox(new_mailbox())
        held = store.acquire(new_mailbox(), owner="a", now=NOW, expires_at=NOW + LEASE)
    with SqliteStore(path) as store:
        assert store.lease(ADDRESS) == held.lease
        store.commit(held, replace(held.mailbox, cursor=1), expires_at=NOW + LEASE)


def test_processes_open_a_new_file_together(tmp_path: Path) -> None:
    """Processes that open the same new file at once all get a store, and none of their writes is lost."""
    path = tmp_path / "mirror.db"
    program = (
        "import sys\n"
        "from mailmirror.adapters.sqlite import SqliteStore\n"
        "from tests.contract.samples import new_mailbox\n"
        "sys.stdin.readline()\n"
        "with SqliteStore(sys.argv[1]) as store: store.create_mailbox(new_mailbox(sys.argv[2]))"
    )
    names = [f"{number}@example.com" for number in range(6)]
    environment = {"PYTHONPATH": ":".join(entry for entry in sys.path if entry)}
    workers = [
        subprocess.Popen([sys.executable, "-c", program, path, name], stdin=subprocess.PIPE, env=environment)
        for name in names
    ]
    for worker in workers:
        assert worker.stdin is not None
        worker.stdin.close()
    assert [worker.wait() for worker in workers] == [0] * len(names)
    with SqliteStore(path) as store:
        assert [mailbox.email_address for mailbox in store.mailboxes()] == names


def test_busy_file_is_store_unavailable(tmp_path: Path) -> None:
    """When another process writes for longer than the store's patience, that is StoreUnavailable; reading goes on."""
    path = tmp_path / "mirror.db"
    with SqliteStore(path, patience=0) as store:
        store.create_mailbox(new_mailbox())
        other = sqlite3.connect(path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(StoreUnavailable):
                store.raise_hint(ADDRESS, 1, NOW)
            assert store.mailbox(ADDRESS) == new_mailbox()
        finally:
            other.close()
        store.raise_hint(ADDRESS, 1, NOW)


def test_other_errors_stay_what_they_are(tmp_path: Path) -> None:
    """What waiting cannot mend is not dressed up as StoreUnavailable."""
    path = tmp_path / "mirror.db"
    with SqliteStore(path) as store:
        store._connection.execute("DROP TABLE documents")
        with pytest.raises(sqlite3.OperationalError, match="no such table"):
            store.mailbox(ADDRESS)
    with pytest.raises(sqlite3.OperationalError, match="unable to open"):
        SqliteStore(tmp_path / "none" / "mirror.db")


def test_format_is_what_the_docstring_says(tmp_path: Path) -> None:
    """Others may read the file: a row for each document, found by its path, JSON with tagged times."""
    path = tmp_path / "mirror.db"
    with SqliteStore(path) as store:
        store.create_mailbox(new_mailbox())
        connection = sqlite3.connect(path)
        rows = connection.execute("SELECT collection, id, data, version FROM documents").fetchall()
        connection.close()
    ((collection, name, data, version),) = rows
    assert (collection, name, version) == ("mailboxes", ADDRESS, 1)
    assert json.loads(data)["createdAt"] == {"$time": "2026-11-20T12:34:56.789123+00:00"}


def test_a_failed_write_leaves_no_transaction_open(tmp_path: Path) -> None:
    """After a write that failed in the middle the file is free and unchanged."""
    path = tmp_path / "mirror.db"
    with SqliteStore(path) as store, SqliteStore(path, patience=0) as other:
        with pytest.raises(TypeError, match="cannot hold"):
            store.create_mailbox(replace(new_mailbox(), labels={"a": object()}))  # type: ignore[dict-item]
        other.create_mailbox(new_mailbox("b@example.com"))
        assert [mailbox.email_address for mailbox in store.mailboxes()] == ["b@example.com"]


def test_announced_begins_on_a_document_without_the_field(tmp_path: Path) -> None:
    """A mailbox that an older version connected has no such field."""
    with SqliteStore(tmp_path / "mirror.db") as store:
        store.create_mailbox(new_mailbox())
        with closing(sqlite3.connect(tmp_path / "mirror.db")) as other, other:
            other.execute("UPDATE documents SET data = json_remove(data, '$.announced')")
        assert store.mailbox(ADDRESS) == new_mailbox()
        store.announced(ADDRESS, 5)
        assert store.mailbox(ADDRESS) == replace(new_mailbox(), announced=5)
