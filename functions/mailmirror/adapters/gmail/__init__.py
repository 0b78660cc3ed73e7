"""Gmail through google-api-python-client: single calls and batches, within the budget, with every failure named.

Knows: Gmail's JSON, its ways to refuse (by endpoint, because one body says two things), what is worth a second try, and
that a batch may fail in parts. Does not know: what the mirror does with what it gets. Laws 6, 7, 8: a result for every
id asked, a price paid before every call, a name for every failure.

A call that was refused or never answered has been paid for all the same. No message of an error carries a token, mail
or an address other than the mailbox's own.

From the bottom: `wire` reads JSON, `refusal` names failures, `batch` writes and reads many requests in one, `transport`
sends, `lanes` sends at the same time, `patience` waits, `calls` pays for what is sent, `gets` brings many, `client` is
the port. Each imports only what stands before it.
"""

from mailmirror.adapters.gmail.client import GmailApiAccounts
from mailmirror.adapters.gmail.wire import (
    parse_history_page,
    parse_label_state,
    parse_labels,
    parse_message,
    parse_message_page,
    parse_profile,
    parse_thread,
    parse_thread_page,
    parse_watch,
    read_message,
)

__all__ = [
    "GmailApiAccounts",
    "parse_history_page",
    "parse_label_state",
    "parse_labels",
    "parse_message",
    "parse_message_page",
    "parse_profile",
    "parse_thread",
    "parse_thread_page",
    "parse_watch",
    "read_message",
]
