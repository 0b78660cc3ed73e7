"""Tidying: what leaves the mirror without a word of Gmail's is taken out of it, slice by slice; new mail waits for one.

Under a policy of the newest days, what has become older leaves once a day, without Gmail. Ghosts, labels that their
user has deleted, leave messages: Gmail takes them off
(https://developers.google.com/workspace/gmail/api/reference/rest/v1/users.labels/delete) and promises no history. That
is done from the mirror, for one messages.get, between catching up and a run, as a sheet with threads would write the
label back. An old copy brought later makes it leave again (`labels`).

Knows: when this is due, and how it is done. Does not know: what a policy wants (`model.Policy`), how a changed one is
followed (`reconcile`), how a ghost was found out (`fetch.bring_labels`). Law 5: what is left follows from the mirror.
"""

from dataclasses import replace
from datetime import datetime

from mailmirror import hints, labels
from mailmirror.errors import GmailUnavailable
from mailmirror.fetch import open_sheet
from mailmirror.lease import Hold
from mailmirror.log import log
from mailmirror.mirror import Refresh, Remove
from mailmirror.model import Failed, LabelId, Message, RunRequest

# Threads of a slice.
THREADS = 100


def due(hold: Hold) -> bool:
    """Return whether something is due."""
    return _ageing(hold) or haunted(hold)


def tidy(hold: Hold, deadline: datetime, catch_up: hints.Pass) -> bool:
    """Do it, one slice even after the deadline; return whether all is done."""
    moved = False
    while due(hold):
        if moved and hold.clock.now() >= deadline:
            return False
        moved = True
        if not hints.between_slices(hold, catch_up):
            return False
        if _ageing(hold):
            _age(hold)
        elif haunted(hold):
            _exorcise(hold)
        hold.refresh()
        if hold.mailbox.wanted != "live":
            return False
    return True


def _ageing(hold: Hold) -> bool:
    mailbox = hold.mailbox
    if mailbox.policy.newest_days is None or mailbox.run is None or mailbox.run.policy != mailbox.policy:
        # A run to come removes it.
        return False
    return mailbox.aged_to != hold.policy.since


def _age(hold: Hold) -> None:
    """Remove what is too old from some threads, oldest first."""
    since = hold.policy.since
    if since is None:
        raise LookupError("No policy says how old is too old.")
    address = hold.mailbox.email_address
    limit = 1 if hold.careful else THREADS
    threads = {thread.id: thread for thread in hold.store.threads_before(address, since, limit=limit)}
    sheet = open_sheet(hold, threads, threads, "live")
    parts = sheet.slices(
        Remove(message_id)
        for thread in threads.values()
        for message_id, entry in thread.messages.items()
        if entry.internal_date < since
    )
    for part in parts:
        hold.commit(hold.mailbox, part)
    if parts:
        log("messages_aged", address, messages=sum(-part.messages for part in parts))
    else:
        hold.commit(replace(hold.mailbox, aged_to=since))


def haunted(hold: Hold) -> bool:
    """Return whether there is a ghost."""
    return labels.LEAVING in hold.mailbox.labels.values() or labels.ABSENT in hold.mailbox.labels.values()


def _exorcise(hold: Hold) -> None:
    """Take a ghost off some threads, or see whether a label is one, and commit that."""
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
