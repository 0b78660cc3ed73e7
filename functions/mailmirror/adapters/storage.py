"""Large bodies and attachments in Cloud Storage: `ports.Blobs` over google-cloud-storage.

Knows: that an object's version is its generation; that writing an object and deleting a generation may be repeated;
that what is not small goes in chunks, one held at a time, and appears with the last or not at all. Does not know: what
objects hold. A bucket that does not exist or may not be written is the client's own error: configuration.

A request takes half a minute at the most, with retries. Before all but an object's first, pieces are asked for: who
makes them keeps the lease.
"""

import zlib
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import partial
from itertools import chain
from typing import Any, TypeVar

from google.api_core import exceptions
from google.auth.exceptions import TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from mailmirror.errors import StoreUnavailable

# With 10 s of retries half a minute: a lease lasts.
_RETRY = DEFAULT_RETRY.with_delay(initial=0.1, maximum=2.0, multiplier=2.0).with_timeout(10.0)
_PATIENT: dict[str, Any] = {"timeout": 20.0, "retry": _RETRY}
# Cloud Storage wants a multiple of 256 KiB.
_CHUNK = 4 * 1024 * 1024
# Unpacked at once: gzip may hold a thousand times its bytes.
_UNPACKED = 256 * 1024
_NO_ANSWER = (DataCorruption, TransportError, exceptions.RetryError, exceptions.ServerError, exceptions.TooManyRequests)
_Answer = TypeVar("_Answer")


class StorageBlobs:
    """Objects in one bucket: gs://my-bodies/ann@example.com/9f86d081."""

    def __init__(self, client: storage.Client, bucket: str) -> None:
        self._bucket = client.bucket(bucket)

    def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        blob = self._bucket.blob(name, chunk_size=_CHUNK)
        if gzip:
            blob.content_encoding = "gzip"
        stream = _Stream(pieces)
        first = stream.read(_CHUNK)
        if len(first) < _CHUNK:
            _ask(lambda: blob.upload_from_string(first, content_type=content_type, **_PATIENT))
        else:
            whole = _Stream(chain([first], iter(partial(stream.read, _CHUNK), b"")))
            _ask(lambda: blob.upload_from_file(whole, content_type=content_type, **_PATIENT))
        return f"gs://{self._bucket.name}/{name}"

    def read(self, name: str) -> Iterator[bytes] | None:
        blob = _ask(lambda: self._bucket.get_blob(name, **_PATIENT))
        if blob is None:
            return None
        chunks = (self._chunk(name, start) for start in range(0, blob.size, _CHUNK))
        return _unpacked(chunks) if blob.content_encoding == "gzip" else chunks

    def _chunk(self, name: str, start: int) -> bytes:
        # Of any generation: an object written again holds the same.
        blob = self._bucket.blob(name)
        try:
            # The checksum is the whole object's.
            chunk: bytes = _ask(
                lambda: blob.download_as_bytes(
                    start=start, end=start + _CHUNK - 1, raw_download=True, checksum=None, **_PATIENT
                )
            )
        except exceptions.NotFound as gone:
            raise StoreUnavailable(f"An object was deleted while it was read: {gone}") from gone
        return chunk

    def version(self, name: str) -> int | None:
        # A listing takes no right to read. In the order of names this one is first.
        return self.versions(name, limit=1).get(name)

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        listed = _ask(
            lambda: list(
                self._bucket.list_blobs(
                    prefix=prefix, max_results=limit, fields="items(name,generation),nextPageToken", **_PATIENT
                )
            )
        )
        return {blob.name: blob.generation for blob in listed}

    def delete(self, name: str, version: int) -> None:
        blob = self._bucket.blob(name)
        with suppress(exceptions.NotFound, exceptions.PreconditionFailed):
            _ask(lambda: blob.delete(if_generation_match=version, **_PATIENT))


class _Stream:
    """Pieces as a file, read once."""

    def __init__(self, pieces: Iterable[bytes]) -> None:
        self._pieces = iter(pieces)
        self._read = 0
        self._left = b""

    def tell(self) -> int:
        return self._read

    def read(self, size: int) -> bytes:
        """Fewer bytes only at the end."""
        gathered, room = [], size
        while room and (piece := self._left or next(self._pieces, None)) is not None:
            gathered.append(piece[:room])
            self._left = piece[room:]
            room -= len(gathered[-1])
        self._read += size - room
        return b"".join(gathered)


def _unpacked(chunks: Iterable[bytes]) -> Iterator[bytes]:
    packed = zlib.decompressobj(wbits=zlib.MAX_WBITS | 16)
    for chunk in chunks:
        left = chunk
        while left:
            if piece := packed.decompress(left, _UNPACKED):
                yield piece
            left = packed.unconsumed_tail
    yield packed.flush()


def _ask(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except _NO_ANSWER as error:
        raise StoreUnavailable(f"Cloud Storage did not do what it was asked: {error}") from error
