"""The objects of a mailbox in the hands of the worker that holds its lease: which of them may go, and when.

Knows: that an object is named by what it holds, so that messages may share it, and that each write is a version of its
own. Does not know: what objects hold (`keep`), or what a commit writes.

The promise: no object that a mirrored message names is ever deleted. By law 2 whoever commits a message wrote its
objects before, under the same lease. So an object is deleted

* only in the version from before a commit of this worker: later holders write another;
* only if the store knows, after that, no message that names it;
* not while written here for a message that is not committed.

An object without a message may stay: its worker died, lost its lease or got no answer. Nothing looks for it; the same
content uses it again, and it goes with the mailbox at the latest.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress

from mailmirror.errors import StoreUnavailable
from mailmirror.model import MailboxId, MessageId
from mailmirror.ports import Blobs, Store
from mailmirror.slice import Write

# A message document may have 1 MiB, and only the names in it are wanted.
_DOCUMENTS = 20
# Names to ask about at once.
_NAMES = 20


class Objects:
    """The objects of one mailbox, under one lease."""

    def __init__(self, mailbox: MailboxId, store: Store, blobs: Blobs, renew: Callable[[], None]) -> None:
        self._mailbox = mailbox
        self._store = store
        self._blobs = blobs
        self._renew = renew
        # By message: written under this lease, and not in a document committed since.
        self._in_hand: dict[MessageId, set[str]] = {}

    def writing(self, message_id: MessageId, name: str) -> None:
        """Note an object about to be written."""
        self._in_hand.setdefault(message_id, set()).add(name)

    def leaving(self, message_ids: Sequence[MessageId], *, release: bool) -> dict[str, int]:
        """Return, before a commit, the objects that may be of no use after it, with their versions.

        `message_ids`: those with objects that it removes or writes anew. `release`: the lease ends, so nothing in hand
        will be committed. Raises `StoreUnavailable`.
        """
        versions = self._versions(self._named_by(message_ids))
        if release:
            # Not worth a turn whose work is done.
            with suppress(StoreUnavailable):
                versions |= self._versions(self._names_in_hand() - versions.keys())
        return versions

    def committed(self, writes: Iterable[Write], leaving: dict[str, int], *, release: bool) -> None:
        """Delete, after a commit and its writes, of what was leaving all that no message names.

        Raises `StoreUnavailable`: some objects stay.
        """
        for write in writes:
            # Not by a deletion: the message may be on its way into another thread.
            if write.brings is not None:
                self._in_hand.pop(write.brings, None)
        # Looked at again when the lease ends.
        spared = set() if release else self._names_in_hand()
        going = [name for name in leaving if name not in spared]
        for start in range(0, len(going), _NAMES):
            self._delete_unnamed({name: leaving[name] for name in going[start : start + _NAMES]})
            if not release:
                self._renew()

    def withdraw(self) -> None:
        """Delete what was written since the last commit, after the lease was lost to a purge that may not have seen it.

        The mailbox's next life writes other versions. Where it lives, the next holder may mirror the message.
        """
        names = self._names_in_hand()
        if not names:
            return
        with suppress(StoreUnavailable):
            versions = {name: version for name in sorted(names) if (version := self._blobs.version(name)) is not None}
            state = self._store.mailbox(self._mailbox)
            if state is not None and state.wanted != "purged":
                return
            # What a document names the purge will find.
            self._delete_unnamed(versions)
        self._in_hand.clear()

    def _delete_unnamed(self, versions: Mapping[str, int]) -> None:
        named = self._store.named_objects(self._mailbox, versions)
        for name, version in versions.items():
            if name not in named:
                self._blobs.delete(name, version)

    def _names_in_hand(self) -> set[str]:
        return {name for names in self._in_hand.values() for name in names}

    def _named_by(self, message_ids: Sequence[MessageId]) -> set[str]:
        names: set[str] = set()
        for start in range(0, len(message_ids), _DOCUMENTS):
            paths = [("messages", message_id) for message_id in message_ids[start : start + _DOCUMENTS]]
            for document in self._store.documents(self._mailbox, paths).values():
                names.update(document.get("objects") or ())
            self._renew()
        return names

    def _versions(self, names: Iterable[str]) -> dict[str, int]:
        versions: dict[str, int] = {}
        for name in sorted(names):
            version = self._blobs.version(name)
            if version is not None:
                versions[name] = version
            # There may be hundreds before the commit.
            self._renew()
        return versions
