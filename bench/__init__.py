"""What Mailmirror costs and how fast it is, measured against the bounds it promises: `make bench`.

One file a subject, each with `measure(say)`:

    first_sync   the quota a first sync takes, and the time that quota allows at best
    lieer        messages a second, beside another tool on the same mailbox in the same run
    recovery     a lost history, an audit and a thousand label changes on a large mirror
    memory       the function process under mailboxes a hundred times apart
    cold_start   what an entry point imports and takes until its first answer

Counts are exact and taken from the fake Gmail's own account. Times are compared only within one run, as ratios. What
runs is always the real thing: the engine or the deployed functions, Google's client library, HTTP, SQLite.
"""
