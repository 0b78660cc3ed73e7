"""What Firestore would put on the bill, counted below the store: documents read and written, call by call.

`CountingFirestore(client)` places itself between a client and its gRPC methods. A document got is a read even if it is
absent, a query is at least one read, and only commits that were applied count.
"""

from collections.abc import Callable, Iterator
from threading import Lock
from typing import Any

from google.cloud import firestore


class CountingFirestore:
    """Counts for one client, from the moment it is attached.

    Example:
        counting = CountingFirestore(client)
        FirestoreStore(client).mailbox("ann@example.com")
        assert (counting.reads, counting.writes) == (1, 0)

    Attributes:
        reads: documents read.
        writes: documents written or deleted.
        deletes: those of the writes that were deletions, which cost less.
    """

    def __init__(self, client: firestore.Client) -> None:
        self._api: Any = client._firestore_api
        self._lock = Lock()
        self.reset()
        client._firestore_api_internal = self

    def reset(self) -> None:
        """Start again from nothing."""
        self.reads = 0
        self.writes = 0
        self.deletes = 0

    def batch_get_documents(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        responses = self._api.batch_get_documents(*args, **kwargs)
        return self._counted(responses, lambda response: bool(response.found or response.missing), least=0)

    def run_query(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        responses = self._api.run_query(*args, **kwargs)
        return self._counted(responses, lambda response: bool(response.document), least=1)

    def list_collection_ids(self, *args: Any, **kwargs: Any) -> Any:
        # Billed as one read a page of names: https://cloud.google.com/firestore/pricing
        self._add(reads=1)
        return self._api.list_collection_ids(*args, **kwargs)

    def commit(self, *args: Any, **kwargs: Any) -> Any:
        response = self._api.commit(*args, **kwargs)
        writes = kwargs["request"]["writes"]
        self._add(writes=len(writes), deletes=sum(1 for write in writes if write.delete))
        return response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._api, name)

    def _counted(self, responses: Iterator[Any], is_document: Callable[[Any], bool], *, least: int) -> Iterator[Any]:
        for response in responses:
            if is_document(response):
                # Now, not at the end: who wants one document stops there.
                self._add(reads=1)
                least = 0
            yield response
        self._add(reads=least)

    def _add(self, *, reads: int = 0, writes: int = 0, deletes: int = 0) -> None:
        with self._lock:
            self.reads += reads
            self.writes += writes
            self.deletes += deletes
