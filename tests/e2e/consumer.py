"""An application with a cache of its own: `python -m tests.e2e.consumer ADDRESS MAILBOX FILE HOW`.

Knows: the client. Does not know: that somebody kills it. It writes each delta that it applies into a journal, within
the transaction that applies it. `HOW`: `stream`, `pages`, or `once`, which ends when it is equal.
"""

import sqlite3
import sys

from mailmirror_client.cache import Cache
from mailmirror_client.reader import Delta, Reader
from mailmirror_client.service import Service


def main(address: str, mailbox: str, file: str, how: str) -> None:
    """Keep the cache."""

    def write_down(database: sqlite3.Connection, delta: Delta) -> None:
        database.execute("CREATE TABLE IF NOT EXISTS journal (seq INTEGER, how TEXT)")
        database.execute("INSERT INTO journal VALUES (?, ?)", (delta.seq, how))

    with Cache(file, Reader(Service(address), mailbox), applied=write_down) as cache:
        if how == "once":
            cache.catch_up()
            return
        for _ in cache.follow(stream=how == "stream"):
            pass


if __name__ == "__main__":
    main(*sys.argv[1:])
