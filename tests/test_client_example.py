"""README's example of a cache, and a stream followed over HTTP: a server of the real routes, and a life meanwhile."""

import re
import sqlite3
from collections.abc import Iterable, Iterator
from contextlib import closing
from itertools import islice
from pathlib import Path
from threading import Thread
from wsgiref.types import StartResponse, WSGIEnvironment

import pytest
from flask import Request
from mailmirror import read_api
from werkzeug.serving import WSGIRequestHandler, make_server

from mailmirror_client.cache import Cache
from mailmirror_client.reader import Reader
from mailmirror_client.service import Service
from tests.test_client_cache import Keeper, check_journal, differences, write_down
from tests.test_readme import section
from tests.world import ADA, World, mail


class Handler(WSGIRequestHandler):
    """Sends a stream in chunks, as what stands before a function does."""

    protocol_version = "HTTP/1.1"

    def log(self, type: str, message: str, *args: object) -> None:  # noqa: A002 -- the library's name
        """Be silent."""


@pytest.fixture
def world() -> World:
    """A connected mailbox."""
    world = World()
    for number in range(3):
        world.ada.deliver(mail(f"Number {number}"))
        world.clock.advance(60)
    world.connect()
    return world


@pytest.fixture
def address(world: World) -> Iterator[str]:
    """Where its read_mailboxes is."""

    def application(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return read_api.read_mailboxes(world.app, Request(environ))(environ, start_response)

    server = make_server("127.0.0.1", 0, application, threaded=True, request_handler=Handler)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class Enough(BaseException):
    """Nobody looks any more."""


def test_readmes_example(
    world: World, address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It prints the inbox, then what changes, and leaves a file that anybody may read."""
    code, *_ = re.findall(r"```python\n(.*?)```", section("A cache of your own"), re.DOTALL)
    monkeypatch.setenv("MAILMIRROR_READ_URL", address)
    monkeypatch.chdir(tmp_path)
    lines = 0

    def shown(*values: object) -> None:
        nonlocal lines
        print(*values)
        lines += 1
        if lines == 3:
            world.ada.deliver(mail("Number 3"))
            world.notify()
        if lines == 4:
            raise Enough

    with pytest.raises(Enough):
        exec(code, {"print": shown})
    assert capsys.readouterr().out.splitlines() == [
        *(f"grace@example.com Number {number}" for number in (2, 1, 0)),
        "live ['messageAdded']",
    ]
    assert "read_mailboxes_uri" in section("A cache of your own")
    with closing(sqlite3.connect("ada.sqlite")) as database:
        (columns,) = re.findall(r"`messages \((.*?)\)`", section("A cache of your own"))
        assert len(database.execute(f"SELECT {columns} FROM messages").fetchall()) == 4


@pytest.mark.parametrize("stream", [False, True])
def test_following_over_http(world: World, address: str, tmp_path: Path, stream: bool) -> None:
    """Each change is applied as it comes, over connections that end again and again."""
    keeper = Keeper(world, tmp_path / "ada.sqlite")
    with Cache(keeper.path, Reader(Service(address), ADA), applied=write_down) as cache:
        cache.catch_up()
        deltas = cache.follow(stream=stream)
        for number in range(5):
            world.ada.deliver(mail(f"New {number}"))
            world.notify()
            (delta,) = islice(deltas, 1)
            assert delta.changes[0].type == "messageAdded"
            assert differences(world, cache) == []
        deltas.close()  # type: ignore[attr-defined]
    assert len(check_journal(keeper)) == 5
