"""Ghosts: labels that their user has deleted, on messages that are mirrored.

Knows: how one is taken off, slice by slice, and what follows where a policy names it. Does not know: how it was found
out (`fetch.bring_labels`). Gmail takes it off messages
(https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.labels/delete) and promises no history: this
is done from the mirror, for one messages.get, between catching up and a run, as a sheet with threads would write the
label back. An old copy brought later makes it leave again (`labels`). Law 5: what is left follows from the mirror.
"""

from dataclasses import replace

from mailmirror import labels
from mailmirror.errors import GmailUnavailable
from mailmirror.fetch import open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Refresh
from mailmirror.model import Failed, LabelId, Message, RunRequest

# Threads of a slice.
THREADS = 100


def due(hold: Hold) -> bool:
    """Return whether there is one."""
    return labels.LEAVING in hold.mailbox.labels.values() or labels.ABSENT in hold.mailbox.labels.values()


def step(hold: Hold) -> None:
    """Take one off some threads, or see whether it is one, and commit that."""
    mailbox = hold.mailbox
    absent = [label_id for label_id, known_as in mailbox.labels.items() if known_as == labels.ABSENT]
    if absent:
        late(hold, min(absent))
        return
    leaving = frozenset(label_id for label_id, known_as in mailbox.labels.items() if known_as == labels.LEAVING)
    label_id = min(leaving)
    limit = 1 if hold.careful else THREADS
    threads = {t.id: t for t in hold.store.threads_labelled(mailbox.email_address, label_id, limit=limit)}
    sheet = open_sheet(hold, threads, threads, "live")
    # What Gmail tells later is newer.
    parts = sheet.slices(
        Refresh(message_id, entry.label_ids - leaving, entry.history_id)
        for thread in threads.values()
        for message_id, entry in thread.messages.items()
        if not leaving.isdisjoint(entry.label_ids)
    )
    for part in parts:
        hold.commit(hold.mailbox, part)
    if not parts:
        _end(hold, label_id)


def late(hold: Hold, label_id: LabelId) -> bool:
    """Return whether the list may only be late, and commit that: a message of Gmail's has the label, or none comes."""
    mailbox = hold.mailbox
    threads = hold.store.threads_labelled(mailbox.email_address, label_id, limit=1)
    carriers = [i for thread in threads for i, entry in thread.messages.items() if label_id in entry.label_ids]
    try:
        answers = [*hold.gmail.messages(carriers[:1], None).values()]
    except GmailUnavailable as error:
        answers = [Failed(str(error))]
    still = any(
        isinstance(answer, Failed) or (isinstance(answer, Message) and label_id in answer.label_ids)
        for answer in answers
    )
    # Looked for again at the next look at all labels.
    became = labels.UNLISTED if still else labels.LEAVING
    hold.commit(replace(mailbox, labels={**mailbox.labels, label_id: became}))
    return still


def _end(hold: Hold, label_id: LabelId) -> None:
    """Remember that no message carries it."""
    if label_id in hold.mailbox.policy.exclude_label_ids:
        _ask(hold)
    hold.commit(replace(hold.mailbox, labels={**hold.mailbox.labels, label_id: labels.GONE}))
    log("label_gone", hold.mailbox.email_address, label=label_id)


def _ask(hold: Hold) -> None:
    """Ask for a run that brings what it kept out, unless one waits."""
    while hold.mailbox.pending_request is None:
        request = RunRequest(f"policy-{hold.mailbox.revision}", "policy", hold.clock.now())
        hold.store.request_run(hold.mailbox, request)
        hold.refresh()
