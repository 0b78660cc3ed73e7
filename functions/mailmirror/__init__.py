"""Mailmirror: a live, provably complete mirror of Gmail mailboxes in Firestore.

The words, used alike in code, documents, logs and errors:

    watch: Gmail's promise to publish changes; lapses within 7 days
    notification: a Pub/Sub message that a mailbox moved: a hint, never data
    history: Gmail's change log, kept about a week, sometimes hours
    cursor: the history id up to which the mirror is complete
    delta: one commit's changes
    catch up: partial sync: apply history after the cursor
    reconcile: full sync: make the mirror equal to a complete listing
    signpost: the history id read before a listing
    run: one reconcile, over many steps
    slice: what one commit writes
    step: one invocation's share of work
    lease: the right to write one mailbox, for a while
    parked: failed, waits for a retry
    sweep: scheduled; makes lost notifications, crashes and throttling harmless
    mirror: the Firestore copy
    coverage: what the last audit found

The map, from the inside out; only the edge knows Google, HTTP or the environment:

    values: model documents slice errors errand quota ports log
    decisions: history planner mirror threads content policy labels parked fence consent estimate
    content: headers addresses charset attachments text
    effects: the rest
    edge: notification config app wiring api adapters/ (one file per technology)
"""
