"""Events: what happened, as a name in snake case and fields.

Knows: the fields of every event of a mailbox. Does not know: how events are written (`app`: JSON lines). Never mail
content, other addresses, or tokens.
"""

import logging
from typing import Any

from mailmirror.model import MailboxId

_logger = logging.getLogger("mailmirror")


def log(event: str, mailbox: MailboxId | None = None, *, level: int = logging.INFO, **fields: Any) -> None:
    """Log an event.

    Args:
        event: a fixed name; alerts rely on it.
        level: WARNING for what an operator should see, ERROR for what needs somebody.
        fields: anything JSON can hold.
    """
    if mailbox is not None:
        fields = {"mailbox": mailbox} | fields
    _logger.log(level, event, extra={"fields": fields})
