"""Large bodies in Cloud Storage: `ports.Blobs` over google-cloud-storage.

Knows: that an object's version is its generation, that writing an object and deleting one generation of it may be
repeated, and what is retried for how long. Does not know: what the objects hold. A bucket that does not exist or may
not be written stays the client's own error: configuration.
"""

from collections.abc import Callable
from contextlib import suppress
from typing import TypeVar

from google.api_core import exceptions
from google.auth.exceptions import TransportError
from google.cloud import storage
from google.cloud.storage.exceptions import DataCorruption
from google.cloud.storage.retry import DEFAULT_RETRY

from mailmirror.errors import StoreUnavailable

# As long as the store may take: half a minute, so that a lease held meanwhile does not run out.
_ATTEMPT_SECONDS = 20.0
_RETRY = DEFAULT_RETRY.with_delay(initial=0.1, maximum=2.0, multiplier=2.0).with_timeout(10.0)
_NO_ANSWER = (
    DataCorruption,
    TransportError,
    exceptions.RetryError,
    exceptions.ServerError,
    exceptions.TooManyRequests,
)
_Answer = TypeVar("_Answer")


class StorageBlobs:
    """Objects in one bucket.

    Example:
        blobs = StorageBlobs(storage.Client(project="my-project"), "my-bodies")
        uri = blobs.put("ann@example.com/18c0ffee", b"...", "application/json")  # gs://my-bodies/ann@example.com/18c0ffee
    """

    def __init__(self, client: storage.Client, bucket: str) -> None:
        self._bucket = client.bucket(bucket)

    def put(self, name: str, data: bytes, content_type: str) -> str:
        blob = self._bucket.blob(name)
        _ask(
            lambda: blob.upload_from_string(data, content_type=content_type, timeout=_ATTEMPT_SECONDS, retry=_RETRY),
        )
        return f"gs://{self._bucket.name}/{name}"

    def version(self, name: str) -> int | None:
        # A listing tells it to who may list objects and not read them. It is in the order of names, and nothing that
        # begins with this name comes before it.
        return self.versions(name, limit=1).get(name)

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        listed = _ask(
            lambda: list(
                self._bucket.list_blobs(
                    prefix=prefix,
                    max_results=limit,
                    fields="items(name,generation),nextPageToken",
                    timeout=_ATTEMPT_SECONDS,
                    retry=_RETRY,
                )
            )
        )
        return {blob.name: blob.generation for blob in listed}

    def delete(self, name: str, version: int) -> None:
        blob = self._bucket.blob(name)
        with suppress(exceptions.NotFound, exceptions.PreconditionFailed):
            _ask(lambda: blob.delete(if_generation_match=version, timeout=_ATTEMPT_SECONDS, retry=_RETRY))


def _ask(call: Callable[[], _Answer]) -> _Answer:
    try:
        return call()
    except _NO_ANSWER as error:
        raise StoreUnavailable(f"Cloud Storage did not do what it was asked: {error}") from error
