"""Pub/Sub and Cloud Storage as workers reach them: `ports.Publisher`, `ports.Topic` and `ports.Blobs`.

Knows: that each call takes its turn, and may be refused or answered in vain. Does not know: who gets a message, or what
an object holds.
"""

from collections.abc import Iterable, Iterator, Mapping
from gzip import decompress
from itertools import islice

from mailmirror.errors import StoreUnavailable
from mailmirror.model import MailboxId
from mailmirror.ports import Task as WorkTask

from tests.simulation.checker import Checker
from tests.simulation.hub import Task
from tests.simulation.pubsub import PubSub
from tests.simulation.way import Way


class Outbox:
    """`ports.Publisher` into the virtual Pub/Sub."""

    def __init__(self, way: Way, pubsub: PubSub) -> None:
        self._way = way
        self._pubsub = pubsub

    def publish(self, mailbox: MailboxId, task: WorkTask) -> None:
        """Publish work, unless Pub/Sub is not there."""
        caller = self._way.there("publish")
        if self._way.faults.strikes("publish refused"):
            self._way.story.tell(caller, f"publish {task}: refused")
            raise StoreUnavailable("Pub/Sub was unavailable.")
        self._pubsub.publish("work", mailbox, {"mailbox": mailbox, "task": task})
        self._way.story.tell(caller, f"publishes {task} for {mailbox}")
        self._way.back(caller)
        if self._way.faults.strikes("publish answer lost"):
            raise StoreUnavailable("Pub/Sub did not answer.")


class TopicDown(StoreUnavailable):
    """The topic for applications did not answer: nobody but who published may ever hear of it."""


class Deltas:
    """`ports.Topic` to applications.

    Attributes:
        down: whether it takes nothing at all.
        checkers: who judges what is published, by mailbox.
    """

    def __init__(self, way: Way, checkers: Mapping[MailboxId, Checker]) -> None:
        self.down = False
        self._checkers = checkers
        self._way = way

    def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
        """Take a delta, unless the topic is not there."""
        caller, faults = self._way.there("announce"), self._way.faults
        if self.down or faults.strikes("publish refused"):
            faults.note("delta refused")
            self._way.story.tell(caller, "announce: refused")
            raise TopicDown("The topic was unavailable.")
        first = self._checkers[ordering_key].announcing.came(caller, data, attributes, ordering_key)
        faults.note("delta announced" if first else "delta announced again")
        self._way.story.tell(caller, f"announces {attributes['ce-id']}, {'first' if first else 'again'}")
        self._way.back(caller)
        if faults.strikes("publish answer lost"):
            raise TopicDown("The topic did not answer.")


class Objects:
    """`ports.Blobs` in a dictionary.

    Attributes:
        data: the objects by name, as readers get them.
        checkers: who judges what is written and deleted, by mailbox.
    """

    def __init__(self, way: Way) -> None:
        self.data: dict[str, bytes] = {}
        self.checkers: Mapping[MailboxId, Checker] = {}
        self._way = way
        self._versions: dict[str, int] = {}
        self._written = 0

    def put(self, name: str, pieces: Iterable[bytes], content_type: str, *, gzip: bool = False) -> str:
        """Keep an object, unless Cloud Storage is not there."""
        caller = self._there("put")
        data = b"".join(pieces)
        self._written += 1
        self.data[name], self._versions[name] = decompress(data) if gzip else data, self._written
        self._judge(name).wrote(caller, name)
        self._way.story.tell(caller, f"stores {name}")
        self._way.back(caller)
        return f"memory://{name}"

    def read(self, name: str) -> Iterator[bytes] | None:
        """Give an object, whole."""
        self._there("read")
        data = self.data.get(name)
        return None if data is None else iter((data,))

    def version(self, name: str) -> int | None:
        """Tell objects of one name apart."""
        caller = self._there("version")
        version = self._versions.get(name)
        self._way.story.tell(caller, f"looks at {name}: {'absent' if version is None else 'there'}")
        self._way.back(caller)
        return version

    def versions(self, prefix: str, *, limit: int) -> dict[str, int]:
        """List objects by the beginning of their names, in order."""
        caller = self._there("versions")
        found = {name: self._versions[name] for name in sorted(self._versions) if name.startswith(prefix)}
        self._way.story.tell(caller, f"lists {prefix}: {len(found)}")
        self._way.back(caller)
        return dict(islice(found.items(), limit))

    def delete(self, name: str, version: int) -> None:
        """Forget an object if it is still that one."""
        caller = self._there("delete")
        same = self._versions.get(name) == version
        if same:
            del self.data[name], self._versions[name]
            self._judge(name).deleted(caller, name)
        self._way.story.tell(caller, f"removes {name}" if same else f"finds {name} gone or replaced")
        self._way.back(caller)

    def _judge(self, name: str) -> Checker:
        return self.checkers[name.partition("/")[0]]

    def _there(self, call: str) -> Task:
        caller = self._way.there(call)
        if self._way.faults.strikes("blob refused"):
            self._way.story.tell(caller, f"{call}: refused")
            raise StoreUnavailable("Cloud Storage was unavailable.")
        return caller
