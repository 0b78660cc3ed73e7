"""The judge of policies: what belongs in the mirror, with or without its body, and what is asked for again."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from mailmirror.model import Policy, RunRequest
from mailmirror.slice import Document, Write

from tests.simulation.bench import LEASE, VISIBILITIES, Bench, added, changed, mirrored, refused, said
from tests.simulation.scope import belongs

NOW = datetime(2026, 11, 21, 23, tzinfo=UTC)
NARROW = Policy(label_ids=("STARRED",), exclude_label_ids=("IMPORTANT",), since=datetime(2026, 11, 1, tzinfo=UTC))


class TestScope:
    @pytest.mark.parametrize(
        ("policy", "labels", "wanted"),
        [
            (Policy(), ["INBOX", "SPAM"], True),
            (Policy(), [], True),
            (Policy(), ["DRAFT"], False),
            (Policy(drafts=True), ["DRAFT"], True),
            (Policy(include_spam_trash=False), ["INBOX", "SPAM"], False),
            (Policy(include_spam_trash=False), ["TRASH"], False),
            (Policy(label_ids=("A", "B")), ["B"], True),
            (Policy(label_ids=("A", "B")), ["INBOX"], False),
            (Policy(label_ids=("A",), exclude_label_ids=("B",)), ["A", "B"], False),
            (Policy(since=datetime(2026, 11, 20, tzinfo=UTC)), ["INBOX"], True),
            (Policy(since=datetime(2026, 11, 20, microsecond=1, tzinfo=UTC)), ["INBOX"], False),
            (Policy(newest_days=1), ["INBOX"], True),
            (Policy(newest_days=1, since=datetime(2026, 11, 21, tzinfo=UTC)), ["INBOX"], False),
            (Policy(bodies=False), ["INBOX"], True),
        ],
    )
    def test_a_policy_wants_what_its_fields_say(self, policy: Policy, labels: list[str], wanted: bool) -> None:
        """Each field for itself, a date on the dot included."""
        date = int(datetime(2026, 11, 20, tzinfo=UTC).timestamp() * 1000)
        assert belongs(policy, labels, date, NOW) is wanted

    def test_what_a_policy_of_today_leaves_out_may_go(self, bench: Bench) -> None:
        """By label or by date: the mirror follows its policy."""
        message_id = bench.receive(label_ids=("STARRED",), internal_date=datetime(2026, 10, 1, tzinfo=UTC))
        bench.bring(message_id)
        bench.checker.policy(NARROW)
        bench.remove(message_id)

    def test_what_a_policy_of_yesterday_left_out_stays(self, bench: Bench) -> None:
        """Who takes the lease now is not told of a policy that somebody had before."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.checker.policy(NARROW)
        bench.checker.policy(Policy())
        bench.commit(release=True)
        bench.acquire()
        with refused("was deleted from the mirror"):
            bench.remove(message_id)

    def test_what_its_worker_was_told_counts(self, bench: Bench) -> None:
        """A policy that was read before the lease was taken is outdated, and it is gone by in good faith."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.checker.policy(NARROW)
        outdated = replace(bench.state, policy=NARROW)
        bench.checker.policy(Policy())
        bench.commit(release=True)
        bench.checker.acquired("worker", bench.clock.now(), bench.clock.now() + LEASE, outdated)
        bench.remove(message_id)

    def test_who_has_read_the_policy_goes_by_it(self, bench: Bench) -> None:
        """The one that was read before is no excuse any more."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.checker.policy(NARROW)
        bench.checker.policy(Policy())
        bench.checker.read("sleeper", bench.state)
        bench.checker.read("worker", bench.state)
        with refused("was deleted from the mirror"):
            bench.remove(message_id)

    def test_what_a_policy_brings_is_no_news(self, bench: Bench) -> None:
        """Nothing happened to the message, but to the policy: no automation may hear of it as of new mail."""
        message_id = bench.receive()
        bench.checker.policy(NARROW)
        bench.commit(cursor=bench.head)
        bench.checker.policy(Policy())
        with refused("came live, but nothing happened to it since"):
            bench.bring(message_id)

    def test_a_changed_policy_is_followed_by_a_run(self, bench: Bench) -> None:
        """Until then the cursor passes changes of what it is to bring; mail that is new is brought at once."""
        message_id = bench.receive()
        bench.checker.policy(NARROW)
        bench.commit(cursor=bench.head, release=True)
        bench.checker.policy(Policy())
        bench.acquire()
        bench.gmail.modify([message_id], [], ["UNREAD"])
        bench.state = replace(bench.state, request=RunRequest("policy-1", "policy", bench.clock.now()))
        bench.commit(cursor=bench.head)
        bench.receive()
        with refused("is neither mirrored nor parked"):
            bench.commit(cursor=bench.head)


class TestBareness:
    @pytest.mark.parametrize(
        ("bodies", "body", "match"),
        [
            (True, {"text": "", "html": "", "stored": "none", "uri": None}, "is not mirrored, and the policy wants it"),
            (False, {"text": "Hi.\r\n", "html": "", "stored": "inline"}, "is mirrored, and the policy leaves it out"),
            (False, {"text": "Hi.", "html": "", "stored": "none"}, "without its body, but with text"),
            (False, {"text": "", "html": "", "stored": "none", "uri": "memory://x"}, "without its body, but with uri"),
        ],
    )
    def test_bodies_are_mirrored_as_the_policy_wants(self, bodies: bool, body: Document, match: str) -> None:
        """All of it or nothing of it."""
        bench = Bench(Policy(bodies=bodies))
        bench.connect()
        message_id = bench.receive()
        message = bench.message(message_id, body=body)
        with refused(match):
            bench.commit(message, bench.thread(message_id, message), bench.delta(added(message)), cursor=bench.head)

    def test_a_body_may_be_taken_away_but_not_by_halves(self, bench: Bench) -> None:
        """Attachments go with it."""
        message_id = bench.receive()
        bench.bring(message_id)
        bare = {"text": "", "html": "", "stored": "none", "uri": None}
        message = bench.message(message_id, body=bare)
        thread = bench.thread(message_id, message)
        bench.commit(Write("merge", ("messages", message_id), {"body": bare}), thread)
        with refused("without its body, but with attachments"):
            bench.commit(Write("merge", ("messages", message_id), {"attachments": [{"filename": "a"}]}), thread)

    @pytest.mark.parametrize("bodies", [True, False])
    def test_at_the_end_bodies_are_as_the_last_policy_wants(self, bench: Bench, bodies: bool) -> None:
        """A policy that nobody followed is found."""
        mirrored(bench)
        bench.state = replace(bench.state, policy=Policy(bodies=bodies))
        assert said(bench, "is mirrored, and the policy leaves it out") is not bodies

    @pytest.mark.parametrize("bodies", [True, False])
    def test_a_body_that_nobody_wants_is_not_asked_for(self, bodies: bool) -> None:
        """Nor is one, by a worker that has no lease, anybody's business."""
        bench = Bench(Policy(bodies=bodies))
        bench.connect()
        bench.checker.bodied("sleeper", "m1")
        if bodies:
            bench.checker.bodied("worker", "m1")
        else:
            with refused("worker asks for m1 with its body"):
                bench.checker.bodied("worker", "m1")

    @pytest.mark.parametrize(("settled", "match"), [(False, None), (True, "is mirrored, and the policy leaves it out")])
    def test_a_deployment_that_keeps_no_content_is_followed(
        self, bench: Bench, settled: bool, match: str | None
    ) -> None:
        """Workers of the one before may go on for a while."""
        message_id = bench.receive()
        bench.checker.deployed("metadata")
        if settled:
            bench.checker.settled()
            with refused(match or ""):
                bench.bring(message_id)
            with refused("asks for m1 with its body"):
                bench.checker.bodied("worker", "m1")
        else:
            bench.bring(message_id)
            bench.checker.bodied("worker", "m1")


class TestAgeing:
    @pytest.mark.parametrize("hours", [35, 37])
    def test_what_becomes_too_old_leaves(self, hours: int) -> None:
        """It may go from midnight on, a moment later it may still be there, and then it may not."""
        bench = Bench(Policy(newest_days=1))
        bench.connect()
        message_id = bench.receive()
        bench.bring(message_id)
        bench.clock.advance(hours * 3600)
        if hours < 36:
            with refused("was deleted from the mirror"):
                bench.remove(message_id)
        else:
            assert said(bench, f"Message {message_id} is mirrored, but the policy excludes it")
            bench.remove(message_id)
            assert bench.checker.differences() == []

    @pytest.mark.parametrize("minutes", [10, 40])
    def test_it_takes_a_moment(self, minutes: int) -> None:
        """Until the mailbox is due, swept and worked on."""
        bench = Bench(Policy(newest_days=1))
        bench.connect()
        bench.bring(bench.receive())
        bench.clock.advance(36 * 3600 + minutes * 60)
        assert said(bench, "but the policy excludes it") is (minutes > 30)


class TestVanishedLabels:
    def vanish(self, bench: Bench) -> tuple[str, str]:
        """Mirror a message with a label that is then deleted without a record."""
        label = bench.gmail.create_label("Work")
        message_id = bench.receive(label_ids=("INBOX", label))
        document = {"id": label, "name": "Work", "type": "user", "color": None} | VISIBILITIES
        inbox = {"id": "INBOX", "name": "INBOX", "type": "system", "color": None} | VISIBILITIES
        bench.documents("labels").update({label: document, "INBOX": inbox})
        bench.bring(message_id)
        bench.gmail._state.messages[message_id].label_ids.remove(label)
        bench.gmail._state.labels.remove(label)
        bench.checker.vanished(label)
        bench.checker.untold(label)
        return message_id, label

    def take_off(self, bench: Bench, message_id: str) -> None:
        """Take the label off, as of the history id that the mirror has."""
        message = bench.message(message_id)
        change = changed(message, "labelsChanged", [], [str(bench.documents("messages")[message_id]["labelIds"][1])])
        bench.commit(message, bench.thread(message_id, message), bench.delta(change))

    def test_a_label_that_vanished_may_stay_until_tomorrow(self, bench: Bench) -> None:
        """Nobody can know before the label list is read; then it is no ghost on any message, and has no document."""
        message_id, label = self.vanish(bench)
        assert bench.checker.has_untold_labels()
        assert bench.checker.differences() == []
        bench.checker.tomorrow()
        assert not bench.checker.has_untold_labels()
        assert said(bench, f"The labels of message {message_id}")
        assert said(bench, f"Label {label}: mirrored .*, in Gmail None")
        self.take_off(bench, message_id)
        assert not said(bench, "The labels of message")

    def test_it_is_taken_off_at_any_time(self, bench: Bench) -> None:
        """The copy is of a history id at which Gmail had it, and that is right."""
        message_id, _ = self.vanish(bench)
        self.take_off(bench, message_id)
        assert bench.checker.differences() == []

    def test_another_label_is_not_taken_off(self, bench: Bench) -> None:
        """Only those that vanished may go without a record."""
        message_id, label = self.vanish(bench)
        message = bench.message(message_id, labelIds=[label])
        change = changed(message, "labelsChanged", [], ["INBOX"])
        with refused("but by record"):
            bench.commit(message, bench.thread(message_id, message), bench.delta(change))

    @pytest.mark.parametrize("wanted", [True, False])
    def test_what_a_policy_says_of_it_is_open_until_tomorrow(self, bench: Bench, wanted: bool) -> None:
        """Whether the label brought a message in or kept it out."""
        message_id, label = self.vanish(bench)
        policy = Policy(label_ids=(label,)) if wanted else Policy(exclude_label_ids=(label,))
        bench.checker.policy(policy)
        bench.state = replace(bench.state, policy=policy)
        assert not said(bench, f"Message {message_id} is m")
        bench.checker.tomorrow()
        assert said(bench, f"Message {message_id} is mirrored, but the policy excludes it") is wanted

    def test_the_whole_list_is_mirrored_tomorrow(self, bench: Bench) -> None:
        """Colours included, whether a message carries the label or not."""
        label = bench.gmail.create_label("Nobody's")
        bench.gmail.recolor_label(label, {"textColor": "#000000", "backgroundColor": "#ffffff"})
        assert bench.checker.differences() == []
        bench.checker.tomorrow()
        assert said(bench, f"Label {label}: mirrored None, in Gmail .*#ffffff")


class TestSparing:
    @pytest.mark.parametrize("mode", ["first", "policy", "audit", "full"])
    def test_what_is_mirrored_is_not_fetched_again(self, bench: Bench, mode: Any) -> None:
        """By a run that brings what is missing; an audit and a full run look at everything."""
        there, missing = bench.receive(), bench.receive()
        bench.bring(there, cursor=bench.checker._ids[0])
        run = bench.run(mode, stage="fetching")
        bench.checker.fetched("worker", missing, whole=False, run=run)
        bench.checker.fetched("worker", missing, whole=True, run=run)
        if mode in ("audit", "full"):
            bench.checker.fetched("worker", there, whole=False, run=run)
        else:
            for whole in (False, True):
                with refused(f"worker asks for {there} in run run-1, and the mirror has it"):
                    bench.checker.fetched("worker", there, whole=whole, run=run)

    def test_there_may_be_a_reason(self, bench: Bench) -> None:
        """A gap, another stage, a worker without lease, a body that is wanted now, a message that was moved."""
        message_id, other = bench.receive(), bench.receive()
        bench.bring(message_id, cursor=bench.checker._ids[0])
        bench.bring(other)
        for run in (None, bench.run("policy", stage="deleting"), bench.run("first", stage="fetching", anchor=7)):
            bench.checker.fetched("worker", message_id, whole=False, run=run)
        run = bench.run("policy", stage="fetching")
        bench.checker.fetched("sleeper", message_id, whole=False, run=run)
        bench.gmail.merge_threads(other, message_id)
        bench.checker.fetched("worker", message_id, whole=False, run=run)
        bench.edit("messages", other, body={"stored": "none"})
        bench.checker.fetched("worker", other, whole=False, run=run)
