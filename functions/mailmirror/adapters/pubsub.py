"""`ports.Publisher` and `Topic` over Pub/Sub's REST API, which the local broker has, too.

Knows: one topic, and where Pub/Sub is. Does not know: what becomes of a message. It is accepted before `publish`
returns: there is no CPU between requests.
"""

import json
from collections.abc import Mapping

import requests
from google.api_core.exceptions import (
    Aborted,
    BadGateway,
    GatewayTimeout,
    GoogleAPIError,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
)
from google.api_core.retry import Retry, if_exception_type
from google.auth.credentials import AnonymousCredentials
from google.auth.exceptions import GoogleAuthError
from google.pubsub_v1 import PublisherClient
from google.pubsub_v1.services.publisher.transports.rest import PublisherRestTransport
from google.pubsub_v1.types import PubsubMessage

from mailmirror.errors import StoreUnavailable
from mailmirror.model import MailboxId
from mailmirror.ports import Task

TRY_SECONDS = 5.0
# Twice is harmless: work is a hint, deltas come at least once.
_PASSING = (
    Aborted,
    BadGateway,
    GatewayTimeout,
    InternalServerError,
    ServiceUnavailable,
    TooManyRequests,
    requests.ConnectionError,
    requests.Timeout,
)


class PubSubTopic:
    """Publishes to one topic; without credentials before the first message."""

    def __init__(self, topic: str, *, emulator_host: str | None = None, patience: float = 10.0) -> None:
        """`emulator_host`: `host:port`; `patience`: seconds of retries."""
        self._topic = topic
        self._emulator_host = emulator_host
        self._retry = Retry(if_exception_type(*_PASSING), initial=0.1, maximum=1.0, timeout=patience)
        self._client: PublisherClient | None = None

    def publish(self, data: bytes, attributes: Mapping[str, str], ordering_key: str) -> None:
        message = PubsubMessage(data=data, attributes=attributes, ordering_key=ordering_key)
        try:
            if self._client is None:
                self._client = self._connect()
            self._client.publish(topic=self._topic, messages=[message], retry=self._retry, timeout=TRY_SECONDS)
        except (GoogleAPIError, GoogleAuthError, requests.RequestException) as error:
            raise StoreUnavailable(
                f"Pub/Sub did not accept a message on {self._topic} ({type(error).__name__})."
            ) from error

    def _connect(self) -> PublisherClient:
        if self._emulator_host is None:
            return PublisherClient(transport="rest")
        transport = PublisherRestTransport(
            host=self._emulator_host, url_scheme="http", credentials=AnonymousCredentials()
        )
        # No proxy.
        transport._session.trust_env = False  # noqa: SLF001 -- there is no other way
        return PublisherClient(transport=transport)


class PubSubPublisher:
    """Publishes work; see `PubSubTopic`."""

    def __init__(self, topic: str, *, emulator_host: str | None = None, patience: float = 10.0) -> None:
        self._topic = PubSubTopic(topic, emulator_host=emulator_host, patience=patience)

    def publish(self, mailbox: MailboxId, task: Task) -> None:
        self._topic.publish(json.dumps({"mailbox": mailbox, "task": task}).encode(), {}, "")
