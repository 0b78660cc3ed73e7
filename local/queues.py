"""Pub/Sub's rules without Pub/Sub: topics, subscriptions, and what becomes of a message until somebody acknowledges it.

Knows: acknowledgement deadlines, back-off, dead letters, and the shapes of Pub/Sub's REST API. Does not know: HTTP,
threads, the clock (the time is given), what a message says. Law: a message is kept until it is acknowledged or a dead
letter.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

PUSHES_AT_ONCE = 8

Now = Callable[[], datetime]


class Refused(Exception):
    """A request the broker cannot serve; rendered in Google's error model."""

    def __init__(self, code: int, status: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.status = status


@dataclass(frozen=True, slots=True)
class Message:
    """A published message. `data` stays base64, as it came."""

    id: str
    data: str
    attributes: Mapping[str, str]
    published_at: datetime
    ordering_key: str = ""

    def as_json(self) -> dict[str, object]:
        """The message as push and pull write it, with both spellings that push uses."""
        at = self.published_at.isoformat(timespec="milliseconds").replace("+00:00", "Z")
        return {
            "data": self.data,
            "attributes": dict(self.attributes),
            "messageId": self.id,
            "message_id": self.id,
            "publishTime": at,
            "publish_time": at,
            **({"orderingKey": self.ordering_key} if self.ordering_key else {}),
        }


@dataclass(frozen=True, slots=True)
class Subscription:
    """How a subscription delivers. Without `endpoint` it is pulled; without `dead_letter_topic` it tries for ever."""

    name: str
    topic: str
    endpoint: str | None = None
    ack_deadline: timedelta = timedelta(seconds=10)
    minimum_backoff: timedelta = timedelta(seconds=10)
    maximum_backoff: timedelta = timedelta(seconds=600)
    dead_letter_topic: str | None = None
    max_delivery_attempts: int = 5

    def backoff(self, attempt: int) -> timedelta:
        """How long to wait after this many attempts: twice as long each time."""
        doublings = min(attempt - 1, 20)
        wait = (
            max(self.minimum_backoff, timedelta(milliseconds=1)) * 2**doublings if doublings else self.minimum_backoff
        )
        return min(wait, self.maximum_backoff)

    @classmethod
    def from_json(cls, name: str, body: Mapping[str, Any]) -> "Subscription":
        """Read a REST Subscription; what it leaves out has Pub/Sub's defaults."""
        retry = body.get("retryPolicy", {})
        dead = body.get("deadLetterPolicy", {})
        return cls(
            name=name,
            topic=str(body.get("topic", "")),
            endpoint=body.get("pushConfig", {}).get("pushEndpoint") or None,
            ack_deadline=timedelta(seconds=int(body.get("ackDeadlineSeconds") or 10)),
            minimum_backoff=_duration(retry.get("minimumBackoff", "10s")),
            maximum_backoff=_duration(retry.get("maximumBackoff", "600s")),
            dead_letter_topic=dead.get("deadLetterTopic"),
            max_delivery_attempts=int(dead.get("maxDeliveryAttempts") or 5),
        )


@dataclass(frozen=True, slots=True)
class Delivery:
    """A message in somebody's hand until it is settled or the deadline has passed."""

    subscription: Subscription
    message: Message
    attempt: int

    def envelope(self) -> dict[str, Any]:
        """The body of a push request."""
        body: dict[str, Any] = {"message": self.message.as_json(), "subscription": self.subscription.name}
        if self.subscription.dead_letter_topic:
            body["deliveryAttempt"] = self.attempt
        return body


@dataclass(slots=True)
class _Waiting:
    message: Message
    due_at: datetime
    attempts: int = 0
    in_hand: bool = False


@dataclass(slots=True)
class _Queue:
    subscription: Subscription
    waiting: dict[str, _Waiting] = field(default_factory=dict)
    published: int = 0
    delivered: int = 0
    retried: int = 0
    dead_lettered: int = 0


class Queues:
    """Topics, subscriptions and the messages not yet acknowledged. Pure but for the time it asks; not thread-safe."""

    def __init__(self, now: Now) -> None:
        self._now = now
        self._topics: set[str] = set()
        self._queues: dict[str, _Queue] = {}
        self._last_id = 0

    def create_topic(self, name: str) -> None:
        if name in self._topics:
            raise Refused(409, "ALREADY_EXISTS", f"Topic already exists: {name}.")
        self._topics.add(name)

    def create_subscription(self, subscription: Subscription) -> None:
        """Messages published from now on are kept for it."""
        if subscription.name in self._queues:
            raise Refused(409, "ALREADY_EXISTS", f"Subscription already exists: {subscription.name}.")
        self._need_topic(subscription.topic)
        self._queues[subscription.name] = _Queue(subscription)

    def publish(self, topic: str, data: str, attributes: Mapping[str, str], ordering_key: str = "") -> str:
        """Keep a message for each subscription of the topic and return its id."""
        self._need_topic(topic)
        if not data and not attributes:
            raise Refused(400, "INVALID_ARGUMENT", "A message must have data or at least one attribute.")
        now = self._now()
        self._last_id += 1
        message = Message(str(self._last_id), data, dict(attributes), now, ordering_key)
        for queue in self._queues.values():
            if queue.subscription.topic == topic:
                queue.waiting[message.id] = _Waiting(message, due_at=now)
                queue.published += 1
        return message.id

    def take_pushes(self) -> list[Delivery]:
        """Hand out what is due for push: the longest waiting first, as many at once as a subscription may push."""
        taken = []
        for queue in self._queues.values():
            if queue.subscription.endpoint:
                under_way = sum(waiting.in_hand for waiting in queue.waiting.values())
                taken += self._take(queue, PUSHES_AT_ONCE - under_way)
        return taken

    def next_push_at(self) -> datetime | None:
        """When a waiting push will be due; None when nothing waits but for a free hand."""
        times = [
            waiting.due_at
            for queue in self._queues.values()
            if queue.subscription.endpoint
            for waiting in queue.waiting.values()
            if not waiting.in_hand
        ]
        return min(times, default=None)

    def settle(self, delivery: Delivery, *, acknowledged: bool) -> None:
        """The outcome of a push: forget the message, deliver it again after the back-off, or make it a dead letter."""
        queue = self._queues[delivery.subscription.name]
        waiting = queue.waiting.get(delivery.message.id)
        if waiting is None or (not acknowledged and waiting.attempts != delivery.attempt):
            return
        if acknowledged:
            del queue.waiting[delivery.message.id]
            queue.delivered += 1
            return
        subscription = queue.subscription
        if subscription.dead_letter_topic and delivery.attempt >= subscription.max_delivery_attempts:
            del queue.waiting[delivery.message.id]
            queue.dead_lettered += 1
            self._publish_dead_letter(subscription, delivery)
            return
        queue.retried += 1
        waiting.in_hand = False
        waiting.due_at = self._now() + subscription.backoff(delivery.attempt)

    def pull(self, name: str, limit: int) -> list[Delivery]:
        """Hand out up to `limit` messages; what is not acknowledged within the deadline is handed out again."""
        queue = self._queue(name)
        if queue.subscription.endpoint:
            raise Refused(400, "FAILED_PRECONDITION", f"Subscription {name} pushes; pull from one without pushConfig.")
        for waiting in queue.waiting.values():
            waiting.in_hand = waiting.in_hand and waiting.due_at > self._now()
        return self._take(queue, limit)

    def acknowledge(self, name: str, ack_ids: list[str]) -> None:
        """Forget pulled messages; an id that is no longer known is ignored, as Pub/Sub does."""
        queue = self._queue(name)
        for ack_id in ack_ids:
            if queue.waiting.pop(ack_id.partition(":")[0], None) is not None:
                queue.delivered += 1

    def account(self) -> dict[str, dict[str, int]]:
        """What became of the messages, per subscription: published = delivered + deadLettered + outstanding."""
        return {
            name: {
                "published": queue.published,
                "delivered": queue.delivered,
                "retried": queue.retried,
                "deadLettered": queue.dead_lettered,
                "outstanding": len(queue.waiting),
            }
            for name, queue in self._queues.items()
        }

    def _take(self, queue: _Queue, limit: int) -> list[Delivery]:
        now = self._now()
        due = sorted(
            (waiting for waiting in queue.waiting.values() if not waiting.in_hand and waiting.due_at <= now),
            key=lambda waiting: waiting.due_at,
        )
        taken = []
        for waiting in due[: max(limit, 0)]:
            waiting.in_hand = True
            waiting.attempts += 1
            waiting.due_at = now + queue.subscription.ack_deadline
            taken.append(Delivery(queue.subscription, waiting.message, waiting.attempts))
        return taken

    def _publish_dead_letter(self, subscription: Subscription, delivery: Delivery) -> None:
        # A dead-letter topic that does not exist loses the message, in Pub/Sub as here; the account still counts it.
        if subscription.dead_letter_topic in self._topics:
            _, project, _, short_name = subscription.name.split("/", 3)
            source = {
                "CloudPubSubDeadLetterSourceDeliveryCount": str(delivery.attempt),
                "CloudPubSubDeadLetterSourceSubscription": short_name.removeprefix("subscriptions/"),
                "CloudPubSubDeadLetterSourceSubscriptionProject": project,
            }
            self.publish(
                subscription.dead_letter_topic, delivery.message.data, {**delivery.message.attributes, **source}
            )

    def _queue(self, name: str) -> _Queue:
        if name not in self._queues:
            raise Refused(404, "NOT_FOUND", f"Subscription does not exist: {name}. Create it with PUT /v1/{name}.")
        return self._queues[name]

    def _need_topic(self, name: str) -> None:
        if name not in self._topics:
            raise Refused(404, "NOT_FOUND", f"Topic not found: {name}. Create it with PUT /v1/{name}.")


def _duration(text: str) -> timedelta:
    try:
        return timedelta(seconds=float(text.removesuffix("s")))
    except (ValueError, AttributeError):
        raise Refused(400, "INVALID_ARGUMENT", f'A duration is seconds with an s, as "10s"; got {text!r}.') from None
