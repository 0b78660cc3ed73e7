"""A fake Gmail: true mailbox semantics, Google's wire format, faults on demand.

Four layers, each usable without the ones below it:

    mailbox   one mailbox: messages, labels, the history log, the watch. Pure: takes a clock and an rng, no HTTP.
    world     several mailboxes behind quota, faults and revoked access. Still no HTTP: a simulation drives this.
    server    the Gmail API over HTTP (single calls and batches), with `control`, the handle that plays the user.
    __main__  `python -m local.gmail`: one process, one port, a background thread that publishes notifications.

The law it keeps: where Google's documentation and reports from the field differ, it does what hurts the client more
(sparse history ids, pages without `history`, history that lags its own notification, attachment ids that never repeat).

WHAT IT DOES NOT FAKE

* Authorization: every token is good, and one that is an address says who `me` is; with `--tokens` `local.google` is
  asked whose a token is. A mailbox can be revoked as a whole. Scopes and what gmail.metadata forbids go unchecked.
* Sending, importing, `messages.modify` and every other method that is not listed in `world.METHODS`: they answer 501.
  The user's side of the mailbox is `control`, not the Gmail API.
* Search, but for `after:` and epoch seconds: any other `q` is refused with 501 rather than answered wrongly.
* Gmail's exact threading: a message joins a thread when References or In-Reply-To names one of its messages and the
  subject is the same after Re:, Fwd: and the like.
* Spam filtering, categories, filters, importance, the 30-day purge of the trash, delegation, chats, classification
  labels.
* Bandwidth limits, the per-project quota and the daily threshold. The per-user quota is an exact sliding minute;
  Gmail's is not.
* `fields`: partial responses are answered in full. Response headers beyond Content-Type and Content-Length.
* Gmail's transcoding of text: `body.data` holds the part's own bytes in its own charset.
* The palette of label colours: any colour is one. Attachment ids that expire: one is good as long as its message is.
"""
