"""Mailmirror: a live, provably complete mirror of Gmail mailboxes in Firestore.

The words, used alike in code, documents, logs and errors:

    watch        Gmail's promise to publish changes; lapses within 7 days
    notification a Pub/Sub message that says a mailbox moved: a hint, never data
    history      Gmail's change log, kept about a week, sometimes hours
    cursor       the history id up to which the mirror is complete
    delta        one commit's changes, in the delta log
    catch up     partial sync: apply history after the cursor
    reconcile    full sync: make the mirror equal to a complete listing
    signpost     the history id read before a listing
    run          one reconciliation, from start to finish, over many steps
    slice        what one commit writes
    step         one function invocation's bounded share of work
    lease        the right to write one mailbox, for a while
    parked       a message that failed and waits for a retry
    sweep        the scheduled pass that makes lost notifications, crashes and throttling harmless
    mirror       the Firestore copy
    coverage     what the last audit found

The map, from the inside out; nothing in the first three groups knows Google, HTTP or the environment:

    values     model  documents  slice  errors  errand  quota  ports  log
    decisions  history (fold)  planner (what to fetch)  pages  mirror (what to write)  content  policy  labels  parked
               fence  consent  estimate
    effects    engine (one turn)  hints  catch_up  reconcile (listing, mending)  lease (the commit)  fetch  retry
               mailboxes  stop  purge  discovery  web_consent
    edge       notification  config  app  wiring  api (HTTP)  browser_page  adapters/ (one file per technology)
"""
