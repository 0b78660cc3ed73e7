"""A store, opened from a line of text, and a worker in a process of its own that takes a lease and commits when told.

A place is `sqlite PATH` or `firestore HOST:PORT PROJECT`. At a line on its standard input the worker takes the lease
and says `{"token": n}`; at the next it commits and says `{"result": "committed"}` or `{"result": "LeaseLost"}`.
"""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

from google.auth.credentials import AnonymousCredentials
from google.cloud import firestore
from mailmirror.adapters.firestore import FirestoreStore
from mailmirror.adapters.sqlite import SqliteStore
from mailmirror.documents import to_document
from mailmirror.errors import MailmirrorError
from mailmirror.model import Change, Delta
from mailmirror.ports import Store
from mailmirror.slice import Write


@contextmanager
def firestore_client(host: str, project: str) -> Iterator[firestore.Client]:
    """Connect to the emulator, for as long as the `with` block lasts."""
    os.environ["FIRESTORE_EMULATOR_HOST"] = host  # the client reads it only while it is made
    try:
        client = firestore.Client(project=project, credentials=AnonymousCredentials())
    finally:
        del os.environ["FIRESTORE_EMULATOR_HOST"]
    try:
        yield client
    finally:
        client.close()


@contextmanager
def opened(place: str) -> Iterator[Store]:
    """Open the store at a place, for as long as the `with` block lasts."""
    kind, *where = place.split(" ")
    if kind == "sqlite":
        with SqliteStore(where[0]) as store:
            yield store
    else:
        with firestore_client(*where) as client:
            yield FirestoreStore(client)


def main(place: str, mailbox: str, owner: str, now: str) -> None:
    """Take the lease as of `now`, then commit a message, a delta and a cursor named after the owner."""
    at = datetime.fromisoformat(now)
    expires_at = at + timedelta(seconds=120)
    with opened(place) as store:
        sys.stdin.readline()
        state = store.mailbox(mailbox)
        assert state is not None
        held = store.acquire(state, owner=owner, now=at, expires_at=expires_at)
        print(json.dumps({"token": held.lease.token}), flush=True)
        sys.stdin.readline()
        seq = held.mailbox.delta_seq + 1
        change = Change("messageAdded", owner, "t1")
        delta = Delta(seq, at, "live", held.lease.token, (change,), at + timedelta(days=30))
        writes = [
            Write("put", ("messages", owner), {"id": owner}),
            Write("put", ("deltas", f"{seq:020d}"), to_document(delta)),
        ]
        after = replace(held.mailbox, delta_seq=seq, cursor=held.lease.token)
        try:
            store.commit(held, after, writes, expires_at=expires_at)
            result = "committed"
        except MailmirrorError as error:
            result = type(error).__name__
        print(json.dumps({"result": result}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
