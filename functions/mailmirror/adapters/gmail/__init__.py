"""Gmail through google-api-python-client: single calls and batches, within the budget, with every failure named.

Knows: Gmail's JSON, its ways to refuse (by endpoint: one body says two things), what is worth a second try. Does not
know: what the mirror does with it. Laws 6, 7, 8.

A call refused or never answered is paid for all the same.

Each imports only what stands before it: data, wire, arrival, refusal, batch, transport, lanes, patience, calls, gets,
client, accounts.
"""

from mailmirror.adapters.gmail.accounts import GmailApiAccounts

__all__ = ["GmailApiAccounts"]
