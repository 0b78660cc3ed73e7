"""The user of a mailbox, who never rests, and Gmail's own moods.

Knows: what may happen to a mailbox from outside Mailmirror. Does not know: who mirrors it.
"""

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from random import Random

from local.gmail.mailbox import Mailbox
from tests.simulation import mails
from tests.simulation.gmail import Post, Telling
from tests.simulation.mails import LARGE
from tests.simulation.story import Story

LABELS = ("STARRED", "IMPORTANT", "UNREAD", "INBOX")
POISONS = ("500", "unreadable")
# How many of the newest days somebody may want; imported mail is up to forty days old.
DAYS = (1, 1, 2, 30)
COLORS = tuple({"textColor": "#ffffff", "backgroundColor": shade} for shade in ("#16a765", "#fb4c2f"))

Act = Callable[[], None]


class User:
    """Does things with a mailbox."""

    def __init__(self, rng: Random, post: Post, story: Story) -> None:
        self._rng = rng
        self._post = post
        self._gmail: Mailbox = post.gmail
        self._story = story
        self._drafts: list[str] = []
        self._labels = list(LABELS)
        # Some get the same large mail again and again, and shift it about.
        self.shifting = rng.random() < 0.25
        self._mail = rng.sample(mails.LARGE_SOURCES, 2) if self.shifting else mails.SOURCES
        # How the user is: what each may do, and how often.
        self._acts: list[tuple[Act, float]] = [
            (self.receives, 30),
            (self.imports, 5),
            (self.relabels, 25),
            (self.trashes, 8),
            (self.untrashes, 6),
            (self.changes_his_mind, 4),
            (self.deletes, 8),
            (self.moves_by_copying, 80 if self.shifting else 2),
            (self.deletes_many, 2),
            (self.saves_a_draft, 4),
            (self.sends_a_draft, 2),
            (self.marks_as_spam, 3),
            (self.makes_a_label, tidy := rng.choice([2, 2, 6, 20])),
            (self.deletes_a_label, tidy / 2),
            (self.changes_a_label, tidy / 4),
            (self.merges_threads, 6),
            (self.loses_history, rng.choice([0, 0, 2, 8])),
            (self.loses_page_tokens, rng.choice([0, 2, 8])),
        ]

    @property
    def own_labels(self) -> list[str]:
        """Those of them that the user made."""
        return self._labels[len(LABELS) :]

    @property
    def labels(self) -> list[str]:
        """The labels that there are, or were, for this user to put on messages."""
        return list(self._labels)

    @property
    def dates(self) -> list[int]:
        """When Gmail accepted the messages that there are, in milliseconds."""
        return [message.internal_date for message in self._gmail._state.messages.values()]

    def act(self) -> None:
        """Do one thing or another."""
        (act,) = self._rng.choices([act for act, _ in self._acts], [weight for _, weight in self._acts])
        # What makes no sense now, the merger of a thread with itself for instance, does not happen.
        with suppress(ValueError, IndexError):
            act()

    def _tell(self, what: str) -> None:
        self._story.tell(f"user {self._gmail.address.partition('@')[0]}", what)

    def _some(self, most: int) -> list[str]:
        ids = list(self._gmail._state.messages)
        some = self._rng.sample(ids, min(len(ids), self._rng.randint(1, most)))
        if not some:
            raise IndexError("There is no message.")
        return some

    def _one(self, label: str | None = None) -> str:
        messages = self._gmail._state.messages
        return self._rng.choice([i for i, m in messages.items() if label is None or label in m.label_ids])

    def tidies(self) -> None:
        """Put a label or two on what there is."""
        for _ in range(self._rng.choice([1, 2])):
            with suppress(ValueError, IndexError):
                self.makes_a_label()

    def receives(self) -> None:
        """A message arrives."""
        rng = self._rng
        labels = rng.choice([["INBOX", "UNREAD"], ["INBOX"], ["SPAM"], ["INBOX", rng.choice(self._labels)], []])
        message_id = self._gmail.deliver(rng.choice(self._mail), label_ids=list(dict.fromkeys(labels)))
        mails.prepare(self._gmail._state.messages[message_id])
        self._tell(f"receives {message_id} {' '.join(labels)}")
        if self._post.moody:
            self.poisons(message_id)

    def imports(self) -> None:
        """A message arrives that is older than it looks: imported from elsewhere, with the date that it had there."""
        rng, now = self._rng, self._post.way.hub.now()
        date = now - timedelta(seconds=rng.choice([30, 3600, 86_400 * 40]) * rng.random())
        if rng.random() < 0.3:
            # At midnight it will be too old for somebody.
            midnight = now.replace(hour=0, minute=0, second=0, microsecond=0) + timedelta(days=1)
            date = midnight - timedelta(days=rng.choice(DAYS), seconds=100 * (rng.random() - 0.5))
        labels = rng.choice([["INBOX"], [rng.choice(self._labels)], []])
        message_id = self._gmail.deliver(rng.choice(self._mail), label_ids=labels, internal_date=date)
        mails.prepare(self._gmail._state.messages[message_id])
        self._tell(f"imports {message_id} of {date} {' '.join(labels)}")

    def poisons(self, message_id: str) -> None:
        """A message turns out to be one that cannot be read, or that kills who reads it."""
        chance = self._rng.random()
        if chance < 0.1:
            self._post.poison[message_id] = self._rng.choice(POISONS)
            self._tell(f"{message_id} is poison: {self._post.poison[message_id]}")
        elif chance < 0.13:
            self._post.deadly.add(message_id)
            self._tell(f"{message_id} is deadly")

    def relabels(self) -> None:
        ids = self._some(4)
        add, remove = self._rng.choice(self._labels), self._rng.choice(self._labels)
        if add == remove:
            remove = "UNREAD" if add != "UNREAD" else "STARRED"
        self._gmail.modify(ids, [add], [remove])
        self._tell(f"relabels {' '.join(ids)} +{add} -{remove}")

    def trashes(self) -> None:
        message_id = self._one()
        self._gmail.trash(message_id)
        self._tell(f"trashes {message_id}")

    def untrashes(self) -> None:
        message_id = self._one("TRASH")
        self._gmail.untrash(message_id)
        self._tell(f"untrashes {message_id}")

    def changes_his_mind(self) -> None:
        message_id = self._one()
        self._gmail.trash(message_id)
        self._tell(f"trashes {message_id}")

        def untrashes() -> None:
            if message_id in self._gmail._state.messages:
                self._gmail.untrash(message_id)
                self._tell(f"untrashes {message_id}")

        self._post.way.hub.at(20 * self._rng.random(), untrashes)

    def marks_as_spam(self) -> None:
        message_id = self._one()
        self._gmail.modify([message_id], ["SPAM"], ["INBOX"])
        self._tell(f"marks {message_id} as spam")

    def deletes(self) -> None:
        message_id = self._one()
        self._gmail.delete([message_id])
        self._tell(f"deletes {message_id}")

    def moves_by_copying(self) -> None:
        """A message is deleted, and sooner or later a copy of it comes: so do programs that know no other way."""
        message_id = self._one()
        original = self._gmail._state.messages[message_id]

        def copies() -> None:
            copy = self._gmail.deliver(original.raw, label_ids=("INBOX",))
            mails.prepare(self._gmail._state.messages[copy])
            self._tell(f"copies {message_id} as {copy}")

        delay = self._rng.choice([0.0, 5.0, 300.0]) * self._rng.random()
        if delay == 0.0 and self._rng.random() < 0.5:
            copies()
        else:
            self._post.way.hub.at(delay, copies)
        self._gmail.delete([message_id])
        self._tell(f"deletes {message_id}")

    def deletes_many(self) -> None:
        ids = self._some(20)
        self._gmail.delete(ids)
        self._tell(f"deletes {' '.join(ids)}")

    def saves_a_draft(self) -> None:
        before = self._drafts.pop() if self._drafts and self._rng.random() < 0.7 else None
        if before not in self._gmail._state.messages:
            before = None
        saved = self._gmail.save_draft(self._rng.choice(self._mail), before)
        mails.prepare(self._gmail._state.messages[saved])
        self._drafts.append(saved)
        self._tell(f"saves draft {saved}" + (f" in place of {before}" if before else ""))

    def sends_a_draft(self) -> None:
        draft = self._drafts.pop()
        sent = self._gmail.send_draft(draft)
        mails.prepare(self._gmail._state.messages[sent])
        self._tell(f"sends draft {draft} as {sent}")

    def makes_a_label(self) -> None:
        ids = self._some(3)
        label = self._gmail.create_label(f"Label {self._rng.randrange(10**6)}")
        self._labels.append(label)
        self._gmail.modify(ids, [label])
        self._tell(f"puts the new label {label} on {' '.join(ids)}")

    def deletes_a_label(self) -> None:
        """A label goes. Google does not say whether history has a word of its messages: here it has, or not."""
        label = self._labels[len(LABELS) :][-1]
        self._labels.remove(label)
        self._post.checker.vanished(label)
        if self._rng.random() < 0.3:
            self._gmail.delete_label(label)
            self._tell(f"deletes the label {label}")
            return
        for message in self._gmail._state.messages.values():
            if label in message.label_ids:
                message.label_ids.remove(label)
        self._gmail._state.labels.remove(label)
        self._post.checker.untold(label)
        self._post.way.faults.note("label deleted in silence")
        self._tell(f"deletes the label {label} in silence")

    def changes_a_label(self) -> None:
        """A label gets other colours, or none, of which history has no word."""
        label = self._rng.choice(self._labels[len(LABELS) :])
        self._gmail.recolor_label(label, self._rng.choice([*COLORS, None]))
        self._post.checker.untold(label)
        self._tell(f"changes the colours of the label {label}")

    def merges_threads(self) -> None:
        threads = list(self._gmail._state.threads)
        one, other = self._rng.choice(threads), self._rng.choice(threads)
        self._gmail.merge_threads(one, other)
        self._tell(f"sees thread {one} merged into {other}")

    def loses_history(self) -> None:
        """All history is lost, and with it what nobody has read yet."""
        for _ in range(self._rng.choice([0, 1, 3])):
            self.act()
        self._gmail.expire_history()
        self._post.way.faults.strike("history lost")
        self._tell("loses all history")

    def loses_page_tokens(self) -> None:
        self._gmail.expire_page_tokens()
        self._tell("loses all page tokens")

    def moods(self) -> None:
        """Draw how Gmail is with this mailbox: what lags, and what comes empty."""
        rng, gmail = self._rng, self._gmail
        gmail.history_lag = timedelta(seconds=rng.choice([0, 0, 0, 2, 40]))
        gmail.get_lag = timedelta(seconds=rng.choice([0, 0, 0, 2, 40, 150]))
        gmail.empty_page_chance = rng.choice([0.0, 0.0, 0.3])
        # What is larger comes behind an attachment id.
        gmail.inline_bytes = rng.choice([None, None, 100, 2 * LARGE])
        gmail.lists_colors = rng.random() < 0.3
        self._post.moody = rng.random() < 0.15
        tellings: tuple[Telling, ...] = ("then", "then", "then", "then", "now", "never")
        self._post.telling = rng.choice(tellings)

    def quiets(self) -> None:
        """Lags end and nothing new goes wrong; what cannot be read stays so."""
        self._gmail.history_lag = self._gmail.get_lag = timedelta(0)
        self._post.moody = self._post.revoked = False

    def calms_down(self) -> None:
        """All that was wrong with the mailbox is well again."""
        self._post.revoked = self._post.down = False
        self._post.poison.clear()
        self._post.deadly.clear()
