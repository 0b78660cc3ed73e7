"""Pub/Sub, virtual: it loses nothing that it accepted, and duplicates, delays and reorders as it likes.

Knows: deliveries, back-off between attempts, and dead letters. Does not know: what a message says, or what handles it.
"""

import base64
import json
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tests.simulation.faults import Faults
from tests.simulation.hub import Hub

# As terraform/pubsub.tf sets them.
MINIMUM_BACKOFF = 10.0
MAXIMUM_BACKOFF = 600.0
MAX_ATTEMPTS = 20


@dataclass(slots=True, eq=False)
class Letter:
    """A message until it is acknowledged.

    Attributes:
        topic: `notification` or `work`.
        mailbox: whom it is about.
        history_id: what a true notification says; 0 when it is something else.
        body: the push envelope.
    """

    topic: str
    mailbox: str
    history_id: int
    body: bytes
    attempts: int = 0


Push = Callable[[Letter], None]


class PubSub:
    """The topics and what is on its way.

    Attributes:
        push: how a letter is delivered; whoever does that says later whether it was acknowledged.
        underway: by mailbox, how many letters are not acknowledged yet.
    """

    def __init__(self, hub: Hub, faults: Faults) -> None:
        self._hub = hub
        self._faults = faults
        self.push: Push = _refused
        self.underway: Counter[str] = Counter()
        self.dead_letters = 0

    def publish(self, topic: str, mailbox: str, data: dict[str, Any], *, history_id: int = 0) -> None:
        """Accept a message; it is pushed soon, perhaps twice, perhaps late, and not in the order of publishing."""
        body = envelope(json.dumps(data).encode(), self._hub)
        for _ in range(2 if self._faults.strikes("push duplicated") else 1):
            self.send(Letter(topic, mailbox, history_id, body))

    def send(self, letter: Letter) -> None:
        """Bring a message on its way."""
        rng = self._hub.rng
        late = self._faults.strikes("push delayed")
        self.underway[letter.mailbox] += 1
        self._hub.at(rng.choice([30, 300]) * rng.random() if late else rng.random(), lambda: self.push(letter))

    def acknowledged(self, letter: Letter) -> None:
        """Forget a message."""
        self.underway[letter.mailbox] -= 1

    def refused(self, letter: Letter) -> None:
        """Push a message again after a while, or make it a dead letter."""
        letter.attempts += 1
        if letter.attempts == MAX_ATTEMPTS:
            self.dead_letters += 1
            self.acknowledged(letter)
            return
        wait = min(MAXIMUM_BACKOFF, MINIMUM_BACKOFF * 2 ** min(letter.attempts - 1, 6))
        self._hub.at(wait * (0.75 + 0.5 * self._hub.rng.random()), lambda: self.push(letter))


def envelope(data: bytes, hub: Hub) -> bytes:
    """The body of a push."""
    encoded = base64.b64encode(data).decode()
    at = hub.now().isoformat()
    return f'{{"message":{{"data":"{encoded}","messageId":"1","publishTime":"{at}"}},"subscription":"s"}}'.encode()


def _refused(letter: Letter) -> None:
    raise LookupError(f"Nobody takes pushes: {letter}.")
