"""Large bodies: in Cloud Storage when a bucket is configured, cut otherwise, so that a message document stays below 1
MiB.

Knows: the object of a body, JSON with `text` and `html`, named by mailbox and message so that writing it again replaces
it, and that what the policy leaves out is stored nowhere. Does not know: Cloud Storage.
"""

import json
from dataclasses import replace

from mailmirror.content import inline, too_large
from mailmirror.mirror import without_body
from mailmirror.model import Body, MailboxId, Message, MessageId, Policy
from mailmirror.ports import Blobs


def name(mailbox: MailboxId, message_id: MessageId) -> str:
    """Return the object's name in the bucket."""
    return f"{mailbox}/{message_id}.json"


def place(mailbox: MailboxId, message: Message, blobs: Blobs | None, policy: Policy) -> Message:
    """Return the message with a body that fits its document, the whole of it written to `blobs` when it is too large.

    Args:
        mailbox: whose message it is.
        message: as fetched.
        blobs: where large bodies go; None cuts them.
        policy: whether bodies are mirrored, and whether this message is; nothing is written for one that is not.

    Raises:
        StoreUnavailable: the object was not written.
    """
    if not policy.bodies:
        return without_body(message)
    body = message.body
    if not too_large(body):
        return message
    if blobs is None or not policy.wants(message.label_ids, message.internal_date):
        return replace(message, body=inline(body))
    data = json.dumps({"text": body.text, "html": body.html}, ensure_ascii=False).encode()
    uri = blobs.put(name(mailbox, message.id), data, "application/json")
    return replace(message, body=Body(stored="storage", uri=uri, truncated=body.truncated))
