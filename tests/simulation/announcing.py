"""Announcing, judged: what applications get of a mailbox's deltas, life by life.

Knows: every delta that was committed, and what was published in which order. Does not know: where a worker begins to
publish or how it remembers that; nothing of `mailmirror` runs here. The promise: whatever comes for the first time
comes right after the one before it, each is what was committed, and in the end all have come.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from tests.simulation.violation import Violation, who

Document = Mapping[str, Any]


class Life:
    """One life of a mailbox: its deltas by number, and how far they have come."""

    def __init__(self) -> None:
        self.log: dict[int, Document] = {}
        self.come = 0


class Announcing:
    """Judges what is published of one mailbox."""

    def __init__(self, address: str) -> None:
        self._address = address
        self._lives = [Life()]
        self._ids: dict[str, Document] = {}
        self.repeated = 0

    def begin(self) -> None:
        """Take in that the mailbox was removed: the next one of this address has another log."""
        self._lives.append(Life())

    def committed(self, delta: Document) -> None:
        """Take in a delta at its commit."""
        self._lives[-1].log[delta["seq"]] = delta

    @property
    def left(self) -> list[int]:
        """The deltas of this life that have not come."""
        life = self._lives[-1]
        return [seq for seq in life.log if seq > life.come]

    def came(self, task: object, data: bytes, attributes: Mapping[str, str], key: str) -> bool:
        """Judge a message that was accepted; return whether it came for the first time.

        Raises:
            Violation: it is no delta that was committed, or one before it has not come.
        """
        told = json.loads(data)
        life, delta = self._meant(task, told)
        if key != self._address or attributes["mailbox"] != self._address or attributes["origin"] != delta["origin"]:
            raise self._wrong(f"{who(task)} published delta {told['seq']} with {key} and {attributes}.")
        # Two events of one id count as one.
        if self._ids.setdefault(attributes["ce-id"], delta) is not delta:
            raise self._wrong(f"{who(task)} published delta {told['seq']} under another's id {attributes['ce-id']}.")
        if told["seq"] <= life.come:
            self.repeated += 1
            return False
        if told["seq"] != life.come + 1:
            raise self._wrong(f"{who(task)} published delta {told['seq']}, and only up to {life.come} they have come.")
        life.come += 1
        return True

    def _meant(self, task: object, told: Document) -> tuple[Life, Document]:
        for life in reversed(self._lives):
            delta = life.log.get(told["seq"])
            if delta is not None and _same(delta, told):
                return life, delta
        raise self._wrong(f"{who(task)} published {told}, which nobody committed.")

    def _wrong(self, sentence: str) -> Violation:
        return Violation(f"{self._address}: {sentence}")


def _same(delta: Document, told: Document) -> bool:
    return bool(
        told["origin"] == delta["origin"]
        and told["historyId"] == delta["cursor"]
        and told["changes"] == delta["changes"]
        and datetime.fromisoformat(told["at"]) == delta["at"]
    )
