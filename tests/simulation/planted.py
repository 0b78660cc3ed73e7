"""Planted bugs: proof that the simulation can fail. Each is a mistake that somebody could make, and has to be found.

    python -m tests.simulation.planted            all of them, two at a time, and a table
    python -m tests.simulation.planted NAME       one of them, in this process, and a line of JSON

Knows: which mistakes, where in the source each of them would stand, and within how many seeds the simulation has to
find it. Does not know: how it is found. Nothing on disk changes: the source is changed while it is imported, in a
process of its own, so that a bug that was planted is gone with its process.

A snippet has to occur in its module exactly once. When it does not, the code has changed and the plant has to follow.
"""

import argparse
import json
import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, dataclass
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from pathlib import Path
from types import CodeType, ModuleType

ROOT = Path(__file__).parents[2]
PACKAGE = "mailmirror"
# More seeds than this no bug may need, and no process may need longer than this for its seeds.
MOST_SEEDS = 2000
MOST_SECONDS = 300.0
# Of what the checker said, so much is printed.
SENTENCE = 100


@dataclass(frozen=True, slots=True)
class Patch:
    """A change of a module's source: `old`, which is there once, becomes `new`."""

    module: str
    old: str
    new: str

    @property
    def path(self) -> Path:
        """The module's file."""
        return ROOT.joinpath("functions", PACKAGE, *self.module.split(".")).with_suffix(".py")

    def applied(self, source: str) -> str:
        """Return the source of the module with the change made.

        Raises:
            LookupError: there is not exactly one place for it.
        """
        places = source.count(self.old)
        if places != 1:
            raise LookupError(
                f"{self.module} has {places} places for a plant that takes one: the code has changed and the plant has "
                f"to follow. It looks for {self.old!r}."
            )
        return source.replace(self.old, self.new)


@dataclass(frozen=True, slots=True)
class Planted:
    """A bug.

    Attributes:
        name: the mistake in a few words.
        within: in how many seeds it has to be found.
        patches: what it takes.
    """

    name: str
    within: int
    patches: Sequence[Patch]


@dataclass(frozen=True, slots=True)
class Found:
    """What became of a search: the first seed that finds the bug and what it says, None if there is none in `seeds`."""

    bug: str
    seed: int | None
    seeds: int
    violation: str | None


PLANTED: tuple[Planted, ...] = (
    # The cursor is derived from what was applied, in the same commit (law 1).
    Planted(
        "cursor from the notification",
        100,
        [Patch("catch_up", "head = head or page.history_id", "head = self.target or head or page.history_id")],
    ),
    Planted(
        "cursor from the last page",
        1600,
        [Patch("catch_up", "head = head or page.history_id", "head = page.history_id")],
    ),
    Planted(
        "cursor from the head of a page when the time is up",
        100,
        [Patch("catch_up", "page.records[-1].id", "page.history_id")],
    ),
    Planted(
        "cursor from the last change of a group",
        800,
        [Patch("planner", "ids[position - 1] if position else 0", "changes[index - 1].last")],
    ),
    Planted(
        "watch overwrites the cursor",
        200,
        [
            Patch(
                "engine",
                "        self.store.set_watch(address, watch)\n",
                "        self.store.set_watch(address, watch)\n"
                "        if hold.mailbox.cursor and watch.history_id:\n"
                "            hold.commit(replace(hold.mailbox, cursor=max(hold.mailbox.cursor, watch.history_id)))\n",
            )
        ],
    ),
    Planted(
        "history read from one above the cursor",
        800,
        [Patch("catch_up", "hold.gmail.history(start,", "hold.gmail.history(start + 1,")],
    ),
    Planted(
        "ids compared as text",
        2000,
        [Patch("catch_up", "max(mailbox.cursor, cursor)", "int(max(str(mailbox.cursor), str(cursor)))")],
    ),
    Planted(
        "page without history ends the loop",
        400,
        [
            Patch(
                "catch_up",
                "head if page.next_page_token is None",
                "head if page.next_page_token is None or not page.records",
            ),
            Patch(
                "catch_up",
                "            if page.next_page_token is None:\n",
                "            if page.next_page_token is None or not page.records:\n",
            ),
        ],
    ),
    Planted(
        "cursor jumps on a 404",
        200,
        [
            Patch(
                "catch_up",
                'reconcile.start(hold, "repair", "Gmail\'s history had expired.", recovery=self.recovery)',
                "hold.commit(_at(hold.mailbox, hold.gmail.profile().history_id))",
            )
        ],
    ),
    Planted(
        "404 answered with the same cursor for ever",
        100,
        [
            Patch(
                "catch_up",
                'reconcile.start(hold, "repair", "Gmail\'s history had expired.", recovery=self.recovery)\n'
                "                return True",
                "return False",
            )
        ],
    ),
    # Every commit is atomic and fenced by the lease (laws 2 and 5).
    Planted(
        "commit without fence",
        200,
        [
            Patch(
                "lease",
                "        try:\n            self._held = self.store.commit(",
                "        lease = self.store.lease(stored.email_address) or self._held.lease\n"
                "        self._held = replace(self._held, lease=lease)\n"
                "        try:\n"
                "            self._held = self.store.commit(",
            )
        ],
    ),
    Planted(
        "release in finally, whosever lease it is",
        200,
        [
            Patch("engine", "isinstance(error, LeaseLost) or hold.released", "hold.released"),
            Patch(
                "lease",
                "        try:\n            self._held = self.store.commit(",
                "        if release:\n"
                "            lease = self.store.lease(stored.email_address) or self._held.lease\n"
                "            self._held = replace(self._held, lease=lease)\n"
                "        try:\n"
                "            self._held = self.store.commit(",
            ),
        ],
    ),
    Planted(
        "lost lease taken for a lost answer",
        400,
        [Patch("fence", " and replace(lease, version=None) == replace(wanted, version=None)", "")],
    ),
    Planted(
        "lease taken from a worker that holds it",
        25,
        [Patch("fence", "if not current.free(now):", "if current.owner == owner:")],
    ),
    Planted(
        "lease not renewed by a commit",
        1600,
        [Patch("lease", "expires_at = now + self.pace.lease", "expires_at = self._held.lease.expires_at")],
    ),
    Planted(
        "delta outside of the commit",
        25,
        [
            Patch("lease", 'documents.append(Write("put", ("deltas"', 'late = (Write("put", ("deltas"'),
            Patch(
                "lease",
                "            self._write(mailbox, documents, release=release)\n",
                "            self._write(mailbox, documents, release=release and not part.changes)\n"
                "            if part.changes:\n"
                "                self._write(self.mailbox, [late], release=release)\n",
            ),
        ],
    ),
    Planted(
        "checkpoint of a run before its slice",
        1200,
        [
            Patch(
                "reconcile",
                "        self._commit(after, parts[-1] if parts else None, park=fetched.parked, unpark",
                "        self._commit(after)\n"
                "        self._commit(self.run, parts[-1] if parts else None, park=fetched.parked, unpark",
            )
        ],
    ),
    Planted(
        "checkpoint of a listing before its page",
        400,
        [
            Patch(
                "reconcile",
                "listing.next_page(self.hold, self.run)\n",
                "listing.next_page(self.hold, self.run)\n        self._commit(after)\n",
            )
        ],
    ),
    # A notification is a hint, and no hint is lost; none that is lost does harm (law 3).
    Planted(
        "hint read before the release",
        1200,
        [Patch("engine", "fresh = self.store.mailbox(errand.mailbox)", "fresh = hold.mailbox")],
    ),
    Planted(
        "hint not raised when the lease is held",
        200,
        [
            Patch(
                "engine",
                "self.store.raise_hint(errand.mailbox, errand.hint, self.clock.now() + self.pace.lease)\n        lease",
                "pass\n        lease",
            )
        ],
    ),
    Planted(
        "hint lowered to the cursor by a commit",
        25,
        [
            Patch("fence", '{"hint", "policy"', '{"policy"'),
            Patch(
                "catch_up",
                "        release = self.release",
                "        mailbox = replace(mailbox, hint=mailbox.cursor)\n        release = self.release",
            ),
        ],
    ),
    Planted(
        "hint dropped when history lags",
        200,
        [Patch("hints", "UNREACHABLE_AFTER = timedelta(minutes=10)", "UNREACHABLE_AFTER = timedelta(0)")],
    ),
    Planted(
        "hint that never comes true kept",
        200,
        [Patch("hints", "UNREACHABLE_AFTER = timedelta(minutes=10)", "UNREACHABLE_AFTER = timedelta.max")],
    ),
    Planted(
        "lagging history acknowledged",
        200,
        [Patch("hints", 'raise HistoryLag(f"Gmail\'s history does not show {target} yet.")', "return True")],
    ),
    Planted(
        "released before the cursor is where the hint is",
        100,
        [Patch("catch_up", "self.release and mailbox.cursor >= self.target", "self.release")],
    ),
    Planted(
        "quiet mailbox left alone",
        2000,
        [Patch("mailboxes", "due = now + quiet", "due = now + timedelta(days=7)")],
    ),
    # A run makes the mirror equal to the mailbox (law 4).
    Planted(
        "extras deleted though newer than the signpost",
        100,
        [
            Patch("planner", "    return entry.history_id <= run.signpost or not", "    return True or not"),
            Patch("mending", "return entry.history_id > run.signpost or run.since", "return run.since"),
        ],
    ),
    Planted(
        "signpost read after the listing",
        100,
        [Patch("listing", 'stage="planning", ', 'stage="planning", signpost=hold.gmail.profile().history_id, ')],
    ),
    Planted(
        "signpost kept when a run starts again",
        400,
        [Patch("reconcile", "hold, reason, signpost=signpost)", "hold, reason, signpost=under_way.signpost)")],
    ),
    Planted(
        "second gap forgets the first",
        1600,
        [Patch("reconcile", "anchor=under_way.anchor or mailbox.cursor", "anchor=mailbox.cursor")],
    ),
    Planted(
        "gap during a run not listed",
        800,
        [Patch("reconcile", '        stage="listing",\n        listing', "        listing")],
    ),
    Planted(
        "rest of a listing skipped when its page token expires",
        2000,
        [
            Patch(
                "listing",
                "return replace(again, since=hold.policy.since), []",
                "return _next_scope(hold, run), []",
            )
        ],
    ),
    Planted(
        "first sync told as news",
        25,
        [Patch("reconcile", 'return "backfill" if', 'return "live" if')],
    ),
    Planted(
        "policy stored without an audit",
        400,
        [Patch("mailboxes", 'f"policy-{existing.revision}"', "existing.request_done")],
    ),
    # Nothing is lost in silence (law 6).
    Planted(
        "429 in a batch counted as success",
        1600,
        [
            Patch(
                "adapters.gmail.gets",
                "            elif isinstance(refused, BadRequest) or",
                "            elif isinstance(refused, Throttled) and len(gets) > 1:\n"
                "                continue\n"
                "            elif isinstance(refused, BadRequest) or",
            ),
            Patch("adapters.gmail.gets", "{get: results[get] for get in gets}", "results"),
            Patch(
                "adapters.gmail.client",
                "return {i: found[MESSAGE, i] for i in messages}, {i: found[THREAD, i] for i in threads}",
                "return {i: a for (name, i), a in found.items() if name == MESSAGE}, {\n"
                "            i: a for (name, i), a in found.items() if name == THREAD\n"
                "        }",
            ),
            Patch(
                "adapters.gmail.client",
                "return {i: found[method, i] for i in ids}",
                "return {i: found[method, i] for i in ids if (method, i) in found}",
            ),
            Patch("fetch", "isinstance(answers[message_id], Gone)]", "isinstance(answers.get(message_id), Gone)]"),
            Patch(
                "fetch",
                "        match answers[message_id]:\n",
                "        if message_id not in answers:\n            continue\n        match answers[message_id]:\n",
            ),
            Patch("mending", "match answers[item.thread_id]:", "match answers.get(item.thread_id):"),
        ],
    ),
    Planted(
        "label changes replayed on a missing message",
        400,
        [
            Patch(
                "planner",
                "if change.added or any(policy.enters(step.added, step.removed) for step in change.steps):",
                "if change.added:",
            ),
            Patch(
                "planner",
                '        return "ignore"\n    return "fetch"',
                '        return "ignore"\n    return "relabel"',
            ),
        ],
    ),
    Planted(
        "late message counted as gone",
        200,
        [
            Patch(
                "fetch",
                "            case Gone() if late:\n                result.park(hold, message_id, thread_id, LATE)\n",
                "",
            )
        ],
    ),
    Planted(
        "listed message that is late counted as gone",
        200,
        [Patch("mending", "hold.clock.now() - listed_at >= GONE_AFTER", "hold.clock.now() >= listed_at")],
    ),
    Planted(
        "failed message not parked",
        100,
        [
            Patch(
                "catch_up", "(_at(hold.mailbox, head), rest, park=fetched.parked, ", "(_at(hold.mailbox, head), rest, "
            )
        ],
    ),
    Planted(
        "parked message forgotten",
        100,
        [Patch("lease", "parked.due_at(waiting.values())", "mailbox.parked_due_at")],
    ),
    Planted(
        "parked message that fails again dropped",
        400,
        [Patch("retry", "unpark=fetched.settled())", "unpark=[item.id for item in items])")],
    ),
    Planted(
        "takeovers never counted",
        1600,
        [Patch("lease", "self.mailbox.takeovers + self._held.taken_over", "int(self._held.taken_over)")],
    ),
    # The documents fit one another, whatever comes twice or late.
    Planted(
        "old label changes replayed on a newer copy",
        1600,
        [Patch("history", "if step.record_id > after:", "if step.record_id:")],
    ),
    Planted(
        "deletion lost when labels changed before it",
        2000,
        [Patch("history", "t.deleted, t.told", "t.deleted and not t.steps, t.told")],
    ),
    Planted(
        "moved message left in its old thread",
        400,
        [Patch("mirror", "if place != message.thread_id:", "if place not in self.entries:")],
    ),
    Planted(
        "moved message created again and again",
        800,
        [Patch("lease", "            self.wary = True\n", "")],
    ),
    Planted(
        "thread not rewritten when a message leaves it",
        100,
        [
            Patch(
                "mirror",
                "        self.messages -= 1\n        self._touch(thread_id, history_id)\n",
                "        self.messages -= 1\n",
            )
        ],
    ),
    Planted(
        "message that left the policy kept",
        200,
        [
            Patch(
                "mirror",
                "        if not self.policy.wants(labels, entry.internal_date):\n            self._remove(message_id, ",
                "        if not labels:\n            self._remove(message_id, ",
            )
        ],
    ),
    Planted(
        "new label not asked for",
        800,
        [Patch("fetch", "used is not None and not labels.unknown(known, used)", "used is not None")],
    ),
    # Quota is spent on purpose, and the mailbox says what is wrong (laws 7 and 8).
    Planted(
        "problem not written",
        1600,
        [Patch("engine", "problem=Problem(name, str(error), error.action, now, since or now)", "problem=None")],
    ),
    Planted(
        "problem never cleared",
        100,
        [
            Patch(
                "engine", "replace(hold.mailbox, problem=None, throttled_until=None), release", "hold.mailbox, release"
            ),
            Patch(
                "catch_up",
                "replace(mailbox, problem=None, throttled_until=None)",
                "replace(mailbox, throttled_until=None)",
            ),
        ],
    ),
    Planted(
        "hint cleared at the end of a turn",
        1600,
        [
            Patch(
                "engine",
                "            fresh = self.store.mailbox(errand.mailbox)",
                "            self.store.drop_hint(errand.mailbox)\n"
                "            fresh = self.store.mailbox(errand.mailbox)",
            )
        ],
    ),
    Planted(
        "parked message that is late counted as gone",
        400,
        [Patch("retry", "item.id in fetched.gone and hold.clock.now() - item.first_at < GONE_AFTER", "False")],
    ),
    Planted(
        "what the mirror knows of a thread taken for proof",
        2000,
        [Patch("planner", "0 < run.anchor < newest", "0 < run.anchor and mirrored.history_id < newest")],
    ),
    Planted(
        "deleted message looked for only where history has it",
        2000,
        [Patch("catch_up", "        look_up(hold, sheet, set(), lost)\n", "")],
    ),
    Planted(
        "batch paid for as one call",
        2000,
        [Patch("adapters.gmail.calls", "sum(self._prices[method] for method, _ in gets)", "self._prices[gets[0][0]]")],
    ),
    Planted(
        "time named by Gmail ignored",
        2000,
        [Patch("engine", "until = hold.mailbox.throttled_until", "until = None")],
    ),
    Planted(
        "level of the budget not stored",
        1600,
        [Patch("lease", "quota=self.gmail.quota, ", "")],
    ),
    # The mirror follows its policy, at the price of the difference.
    Planted(
        "run goes on under the policy before",
        1600,
        [
            Patch(
                "reconcile",
                'if changed and self.run.stage != "closing":',
                "if not self.run.id:",
            )
        ],
    ),
    Planted(
        "policy changed without a run that follows it",
        1600,
        [
            Patch(
                "mailboxes",
                "if not store.request_run(existing, existing.pending_request or request, policy=policy):",
                "if not store.request_run(existing, existing.request or request, policy=policy):",
            )
        ],
    ),
    Planted(
        "extra found by a search that misses it",
        2000,
        [
            Patch(
                "mending",
                "return entry.history_id > run.signpost or run.since is not None",
                "return entry.history_id > run.signpost",
            )
        ],
    ),
    Planted(
        "what is older than the policy kept",
        2000,
        [Patch("planner", "entry.internal_date < policy.since}", "entry.internal_date < policy.since and not entry}")],
    ),
    Planted(
        "search that leaves out the second it names",
        2000,
        [Patch("adapters.gmail.client", "math.floor(since.timestamp()) - 1", "math.ceil(since.timestamp())")],
    ),
    Planted(
        "only the first label of a policy listed",
        2000,
        [Patch("listing", "for label in sorted(policy.label_ids)]", "for label in sorted(policy.label_ids)[:1]]")],
    ),
    Planted(
        "listing that starts again in the middle",
        2000,
        [Patch("listing", 'replace(run, listing="messages", scope=0, page', 'replace(run, listing="messages", page')],
    ),
    Planted(
        "listing by a label that somebody deleted",
        1600,
        [Patch("listing", "return all(_is_there(hold, label) for label in sorted(named))", "return True")],
    ),
    Planted(
        "message that gets a label of the policy ignored",
        800,
        [Patch("model", "or added.intersection(self.label_ids))", ")")],
    ),
    Planted(
        "mirrored messages fetched again by a policy run",
        800,
        [
            Patch(
                "planner",
                'missing = wanted if run.mode == "full" else',
                'missing = wanted if run.mode in ("full", "policy") else',
            ),
            Patch("mending", 'run.mode == "full"', 'run.mode in ("full", "policy")'),
        ],
    ),
    Planted(
        "bodies fetched that the policy leaves out",
        1600,
        [
            Patch(
                "fetch",
                "hold.gmail.messages(ids, hold.keeper)",
                "hold.gmail.messages(ids, hold.keeper or hold._keeper())",
            )
        ],
    ),
    Planted(
        "bodies left where the policy leaves them out",
        2000,
        [
            Patch(
                "planner",
                "if not (missing or look or extra or stale or strip):",
                "if not (missing or look or extra or stale):",
            )
        ],
    ),
    # Objects are there as long as a message names them, and no longer.
    Planted(
        "objects left when bodies are taken away",
        2000,
        [
            Patch(
                "mirror",
                "            if entry.objects:\n"
                "                self.blobs.append(message_id)\n"
                "            self.entries[place]",
                "            self.entries[place]",
            )
        ],
    ),
    Planted(
        "objects left when a message goes",
        2000,
        [
            Patch(
                "mirror",
                "        if self.entries[thread_id][message_id].objects:\n            self.blobs.append(message_id)\n",
                "",
            )
        ],
    ),
    Planted(
        "objects left that a message had before it was written anew",
        2000,
        [Patch("mirror", "        if had_objects:\n            self.blobs.append(message.id)\n", "")],
    ),
    Planted(
        "object deleted that another message names",
        2000,
        [Patch("objects", "named = self._store.named_objects(self._mailbox, versions)", "named: set[str] = set()")],
    ),
    Planted(
        "object deleted in whatever version it is there",
        2000,
        [
            Patch(
                "objects",
                "            if name not in named:\n                self._blobs.delete(name, version)",
                "            if name not in named:\n"
                "                self._blobs.delete(name, self._blobs.version(name) or 0)",
            )
        ],
    ),
    Planted(
        "object deleted that is in hand",
        2000,
        [Patch("objects", "set() if release else self._names_in_hand()", "set()")],
    ),
    Planted(
        "object that seems to be there not written again",
        2000,
        [
            Patch(
                "keep",
                "self.uris[name] = self.blobs.put(name, self.renewing(pieces), content_type, gzip=gzip)",
                'self.uris[name] = f"memory://{name}"\n'
                "            if self.blobs.version(name) is None:\n"
                "                self.blobs.put(name, pieces, content_type, gzip=gzip)",
            )
        ],
    ),
    # What leaves without a word of Gmail's.
    Planted("deleted label left on messages", 2000, [Patch("tidying", "return labels.LEAVING in", "return None in")]),
    Planted(
        "deleted label keeps its document",
        2000,
        [
            Patch(
                "labels",
                "for label_id in absent if is_listed(known, label_id)]",
                "for label_id in absent if not known]",
            )
        ],
    ),
    Planted(
        "colours of labels not asked for",
        2000,
        [Patch("adapters.gmail.client", "len(own) > COLORED or any(", "len(own) >= 0 or any(")],
    ),
    Planted(
        "too old is what is of the last day",
        2000,
        [
            Patch(
                "tidying",
                "    address = hold.mailbox.email_address\n",
                "    since = since.replace(hour=23)\n    address = hold.mailbox.email_address\n",
            )
        ],
    ),
    Planted(
        "nothing becomes too old a second time",
        2000,
        [Patch("tidying", "return mailbox.aged_to != hold.policy.since", "return mailbox.aged_to is None")],
    ),
    Planted(
        "first slice of what is too old taken for all",
        2000,
        [
            Patch(
                "tidying",
                "    else:\n        hold.commit(replace(hold.mailbox, aged_to=since))",
                "    hold.commit(replace(hold.mailbox, aged_to=since))",
            )
        ],
    ),
    Planted(
        "deployment that keeps less is not followed",
        2000,
        [Patch("reconcile", "return hold.mailbox.content != hold.kept.content", "return False")],
    ),
    Planted(
        "text that Gmail keeps back left out",
        2000,
        [Patch("keep", "            if attachment_id:\n", "            if attachment_id and not self._mailbox:\n")],
    ),
    Planted(
        "thread without its attachments",
        2000,
        [
            Patch(
                "threads",
                "has_attachments=any(attachment.kind in _ATTACHMENTS for attachment in message.attachments)",
                "has_attachments=bool(message.objects)",
            )
        ],
    ),
    Planted(
        "policy run told as news",
        400,
        [
            Patch(
                "reconcile",
                '"backfill" if self.run.mode in ("first", "policy") else',
                '"backfill" if self.run.mode == "first" else "live" if self.run.mode == "policy" else',
            )
        ],
    ),
    # The life of a mailbox: what is wanted is carried out, whoever dies.
    Planted(
        "what is wanted overwritten by a commit",
        400,
        [
            Patch(
                "fence",
                '{**changed, "revision": revision}',
                '{**changed, "wanted": mailbox.wanted, "revision": revision}',
            )
        ],
    ),
    Planted(
        "stop moves the cursor",
        400,
        [
            Patch(
                "purge",
                'phase="stopped", problem=None',
                'phase="stopped", cursor=hold.gmail.profile().history_id, problem=None',
            )
        ],
    ),
    Planted(
        "run goes on though it is to stop",
        800,
        [
            Patch(
                "engine",
                "            hold.refresh()\n"
                '            if hold.mailbox.wanted != "live":\n'
                "                return False\n",
                "            hold.refresh()\n",
            )
        ],
    ),
    Planted(
        "stop leaves the watch to itself",
        2000,
        [Patch("purge", "        hold.gmail.stop()\n", "        pass\n")],
    ),
    Planted(
        "watch stopped in silence",
        800,
        [
            Patch(
                "purge",
                "    hold.store.set_watch("
                "address, replace(hold.mailbox.watch, expires_at=hold.clock.now(), error=None))\n",
                "",
            ),
            Patch("mailboxes", 'task = "renew"\n        elif', 'task = "sync"\n        elif'),
        ],
    ),
    Planted(
        "live again from the newest history id",
        800,
        [
            Patch(
                "engine",
                "            hold.commit(hold.mailbox)\n        if errand.renew",
                "            hold.commit(replace(hold.mailbox, cursor=hold.gmail.profile().history_id))\n"
                "        if errand.renew",
            )
        ],
    ),
    Planted(
        "stopped mailbox swept for ever",
        800,
        [Patch("mailboxes", "if at_rest(mailbox) and mailbox.next_due_at != NEVER:", "if not mailbox:")],
    ),
    Planted(
        "purge skips what is below its documents",
        400,
        [
            Patch(
                "purge",
                "paths = hold.store.below(hold.mailbox.email_address, limit=DOCUMENTS)",
                "paths = [p for p in hold.store.below(hold.mailbox.email_address, limit=DOCUMENTS) if len(p) == 2]",
            )
        ],
    ),
    Planted(
        "mailbox removed before its objects",
        400,
        [Patch("purge", "while _documents(hold) or _objects(hold):", "while _documents(hold):")],
    ),
    Planted(
        "purge begins again with each worker",
        800,
        [Patch("purge", "    if hold.mailbox.purge is None:\n        _begin", "    if hold.mailbox:\n        _begin")],
    ),
    Planted(
        "purge counts in a commit of its own",
        400,
        [
            Patch(
                "purge",
                '    hold.commit(after, writes=[Write("delete", path) for path in paths])',
                "    hold.commit(after)\n"
                '    hold.commit(hold.mailbox, writes=[Write("delete", path) for path in paths])',
            )
        ],
    ),
    Planted(
        "connected while it is purged",
        2000,
        [
            Patch(
                "mailboxes",
                'if existing is not None and existing.wanted == "purged":',
                "if existing is not None and not existing:",
            )
        ],
    ),
    Planted(
        "day's limit stops live mail",
        2000,
        [
            Patch(
                "engine",
                "        self._paused(hold)\n        catch_up",
                "        if self._paused(hold):\n"
                "            hold.commit(hold.mailbox, release=True)\n"
                "            return True\n"
                "        catch_up",
            )
        ],
    ),
    Planted(
        "day's limit ignored once a run is under way",
        2000,
        [Patch("engine", "            if self._paused(hold):\n                return True\n", "")],
    ),
    Planted(
        "day that never ends",
        2000,
        [Patch("quota", "            self._today = 0\n", "            self._today += 0\n")],
    ),
    # Applications are told every delta, in order, and nobody else ever hears of a topic that fails.
    Planted(
        "deltas counted as announced before they are published",
        400,
        [
            Patch(
                "announce",
                "        done, failure = begun, None\n",
                "        done, failure = begun, None\n"
                "        if deltas:\n"
                "            self.store.announced(mailbox, life_of(state) + deltas[-1].seq)\n",
            )
        ],
    ),
    Planted(
        "only the last delta announced",
        400,
        [Patch("announce", "after=begun, limit", "after=max(begun, state.delta_seq - 1), limit")],
    ),
    Planted(
        "deltas announced without a position",
        200,
        [Patch("announce", "        if done > begun:\n", "        if done < begun:\n")],
    ),
    Planted(
        "topic that fails fails the turn",
        200,
        [
            Patch("announce", "                failure = error\n                break\n", "                raise\n"),
            Patch("announce", "            _failed(mailbox, error)\n            return False\n", "            raise\n"),
        ],
    ),
    Planted(
        "topic that failed forgotten until there is more mail",
        800,
        [
            Patch(
                "engine",
                "        if turn.status not in _UNANNOUNCED:\n",
                "        if turn.status not in _UNANNOUNCED and turn.messages:\n",
            )
        ],
    ),
)


class Changed(SourceFileLoader):
    """Loads a module from its source with changes made; what was compiled before is not looked at, nor is this kept."""

    def __init__(self, fullname: str, path: str, patches: Sequence[Patch]) -> None:
        super().__init__(fullname, path)
        self.patches = patches

    def get_code(self, fullname: str) -> CodeType:
        """Return the code of the changed source."""
        source = Path(self.path).read_text(encoding="utf-8")
        for patch in self.patches:
            source = patch.applied(source)
        return compile(source, self.path, "exec", dont_inherit=True)


class Finder:
    """Finds the modules that are to be changed, before anybody else does."""

    def __init__(self, bug: Planted) -> None:
        self._patches: dict[str, list[Patch]] = {}
        for patch in bug.patches:
            self._patches.setdefault(f"{PACKAGE}.{patch.module}", []).append(patch)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """Return how a module is loaded, None if it stays as it is."""
        patches = self._patches.get(fullname)
        spec = PathFinder.find_spec(fullname, path, target) if patches else None
        if patches and spec is not None and spec.origin is not None:
            spec.loader = Changed(fullname, spec.origin, patches)
            spec.cached = None
        return spec


def plant(bug: Planted) -> None:
    """Plant a bug in this process, which must not have imported anything of it.

    Raises:
        ImportError: it has.
    """
    early = [name for name in sys.modules if name.partition(".")[0] == PACKAGE]
    if early:
        raise ImportError(f"A bug is planted before the import, and {early[0]} has been imported.")
    sys.meta_path.insert(0, Finder(bug))


def seek(bug: Planted, seeds: int) -> Found:
    """Plant a bug in this process and try seeds, from 0 on, until one finds it."""
    plant(bug)
    from tests.simulation.world import simulate  # noqa: PLC0415 -- imports what is changed, so the plant comes first

    logging.getLogger(PACKAGE).setLevel(logging.CRITICAL + 1)
    for seed in range(seeds):
        violation = simulate(seed).violation
        if violation is not None:
            return Found(bug.name, seed, seed + 1, violation)
    return Found(bug.name, None, seeds, None)


def seek_apart(bug: Planted, seeds: int | None = None) -> Found:
    """Plant a bug in a process of its own and try the seeds within which it has to be found, or so many."""
    paths = os.pathsep.join((str(ROOT / "functions"), str(ROOT)))
    command = [sys.executable, "-m", "tests.simulation.planted", bug.name, "--seeds", str(seeds or bug.within)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": paths},
        capture_output=True,
        text=True,
        timeout=MOST_SECONDS,
        check=False,
    )
    if not done.stdout:
        raise RuntimeError(f"The process that seeks {bug.name!r} ended with {done.returncode}: {done.stderr[-2000:]}")
    return Found(**json.loads(done.stdout.splitlines()[-1]))


def seek_all(
    pool: ThreadPoolExecutor, bugs: Iterable[Planted] = PLANTED, seeds: int | None = None
) -> dict[str, Future[Found]]:
    """Begin to seek bugs, as many at a time as the pool has threads; return what will be found, by name."""
    return {bug.name: pool.submit(seek_apart, bug, seeds) for bug in bugs}


def table(found: Sequence[Found]) -> list[str]:
    """Return the table bug → seeds needed → what was said, for a person."""
    width = max((len(one.bug) for one in found), default=0)
    lines = [f"{'planted bug':<{width}}  seeds  what was said"]
    for one in found:
        said = "not found" if one.violation is None else " ".join(one.violation.split())
        lines.append(f"{one.bug:<{width}}  {one.seeds:>5}  {said[:SENTENCE]}")
    missed = sum(one.violation is None for one in found)
    return [*lines, f"{len(found) - missed} of {len(found)} planted bugs were found"]


def main(arguments: Sequence[str] | None = None, show: Callable[[str], object] = print) -> int:
    """Seek one bug, or all of them; 1 when one is not found.

    Args:
        arguments: the command line; None: that of this process.
        show: is given the lines.
    """
    parser = argparse.ArgumentParser(prog="python -m tests.simulation.planted", description="Bugs that must be found.")
    parser.add_argument("name", nargs="?", help="one bug; else all of them, each in a process of its own")
    parser.add_argument("--seeds", type=int, help="at most so many seeds, instead of the bug's own number")
    options = parser.parse_args(arguments)
    if options.name is not None:
        bug = next((bug for bug in PLANTED if bug.name == options.name), None)
        if bug is None:
            parser.error(f"there is no bug {options.name!r}; there are: {'; '.join(bug.name for bug in PLANTED)}")
        found = [seek(bug, options.seeds or bug.within)]
        show(json.dumps(asdict(found[0]), ensure_ascii=False))
    else:
        with ThreadPoolExecutor(2) as pool:
            found = [future.result() for future in seek_all(pool, seeds=options.seeds).values()]
        for line in table(found):
            show(line)
    return int(any(one.violation is None for one in found))


if __name__ == "__main__":
    sys.exit(main())
