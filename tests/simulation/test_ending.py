"""The judge of a mailbox's life: what is stopped, what is paused, and what is purged."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from mailmirror.model import Mailbox, Purge, Quota, Receipt, Run, Watch
from mailmirror.slice import Write

from tests.simulation.bench import LEASE, Bench, refused
from tests.world import ADA


class TestStopped:
    @pytest.mark.parametrize("wanted", ["stopped", "live"])
    def test_nothing_is_written_to_a_mailbox_that_is_stopped(self, bench: Bench, wanted: Any) -> None:
        """As long as somebody wants it so; its phase may change first."""
        bench.state = replace(bench.state, wanted=wanted, phase="stopped")
        bench.commit(takeovers=1)
        message_id = bench.receive()
        if wanted == "stopped":
            with refused("The mailbox is stopped, and a commit wrote"):
                bench.bring(message_id)
        else:
            bench.bring(message_id)

    def test_the_cursor_of_a_stopped_mailbox_stays(self, bench: Bench) -> None:
        """Even if there was no mail meanwhile."""
        bench.state = replace(bench.state, wanted="stopped", phase="stopped")
        bench.gmail.modify([bench.receive()], ["STARRED"])
        with refused(r"The mailbox is stopped, and a commit wrote \[\] and \['cursor'\]"):
            bench.commit(cursor=bench.head)

    @pytest.mark.parametrize("reader", ["sleeper", "worker"])
    def test_no_run_moves_once_its_worker_knows(self, bench: Bench, reader: str) -> None:
        """Until it has read what is wanted, it may go on; then it ends the slice that it has begun."""
        run = bench.run(stage="fetching")
        bench.commit(run=run)
        bench.state = replace(bench.state, wanted="stopped")
        bench.checker.read(reader, bench.state)
        run = replace(run, at=1)
        bench.commit(run=run)
        if reader == "worker":
            with refused("Run run-1 moved, though its worker knew that it is wanted stopped"):
                bench.commit(run=replace(run, offset=1))
        else:
            bench.commit(run=replace(run, offset=1))

    def test_what_is_wanted_is_not_a_workers_to_write(self, bench: Bench) -> None:
        """It would undo somebody's wish."""
        bench.commit()
        with refused("wrote over what others write"):
            bench.commit(wanted="stopped")

    def test_a_purge_is_not_taken_back(self, bench: Bench) -> None:
        """What was wanted before may be, and a purge at any time."""
        bench.checker.wished(bench.state, "stopped")
        bench.checker.wished(replace(bench.state, wanted="stopped"), "purged")
        with refused("It was to be purged, and is wanted live again"):
            bench.checker.wished(replace(bench.state, wanted="purged"), "live")


class TestPaused:
    def paused(self, bench: Bench, units: int = 0, until: datetime | None = None) -> Run:
        run = replace(bench.run(stage="fetching"), paused_until=until)
        bench.commit(run=run, quota=Quota(100.0, bench.clock.now(), units), release=True)
        bench.checker.acquired("worker", bench.clock.now(), bench.clock.now() + LEASE, bench.state)
        return run

    @pytest.mark.parametrize("hours", [-1, 1])
    def test_a_paused_run_does_not_move(self, bench: Bench, hours: int) -> None:
        """Before its time has come."""
        run = self.paused(bench, until=bench.clock.now() + timedelta(hours=hours))
        if hours > 0:
            with refused("Run run-1 is paused until .*, and moved"):
                bench.commit(run=replace(run, offset=1))
        else:
            bench.commit(run=replace(run, offset=1))

    @pytest.mark.parametrize(("units", "hours"), [(299, 0), (300, 0), (300, 12)])
    def test_no_slice_begins_when_the_day_is_used_up(self, units: int, hours: int) -> None:
        """The slice that uses it up is the last one; the next day has units of its own."""
        bench = Bench(units_per_day=300)
        bench.connect()
        run = self.paused(bench, units)
        bench.clock.advance(hours * 3600)
        if units < 300 or hours:
            bench.commit(run=replace(run, offset=1), quota=Quota(0.0, bench.clock.now(), 320))
            run = replace(run, offset=1)
        with refused("A slice of run run-1 began after (300|320) units of a day with 300"):
            bench.commit(run=replace(run, offset=2))

    def test_a_run_that_starts_again_does_not_move(self, bench: Bench) -> None:
        """History has expired while it waits: it has to list from another signpost, tomorrow."""
        run = self.paused(bench, until=bench.clock.now() + timedelta(hours=1))
        bench.receive()
        bench.checker.expired("worker")
        again = replace(run, stage="listing", signpost=bench.head, anchor=bench.state.cursor)
        bench.commit(cursor=bench.head, run=again)


class TestPurge:
    def begin(self, bench: Bench, **fields: Any) -> None:
        bench.state = replace(bench.state, wanted="purged")
        bench.commit(phase="purging", purge=Purge(bench.clock.now()), **fields)

    def delete(self, bench: Bench, count: int, **documents: int) -> None:
        """Delete so many documents, with counts as given."""
        places = [(key, name) for key, kept in bench.shelf.collections.items() for name in kept]
        writes = [Write("delete", (*collection.split("/"), name)) for (_, collection), name in places[:count]]
        purge = replace(bench.state.purge or Purge(bench.clock.now()), documents=documents)
        bench.commit(*writes, purge=purge, counts=bench.state.counts, delta_seq=bench.state.delta_seq)

    def receipt(self, bench: Bench, objects: int = 0, **documents: int) -> Receipt:
        now = bench.clock.now()
        later = now + timedelta(days=90)
        return Receipt(ADA, documents, objects, 0, watch_stopped=True, started_at=now, purged_at=now, expire_at=later)

    def test_a_purge_deletes_counts_and_leaves_nothing(self, bench: Bench) -> None:
        """Then a new life begins, from nothing."""
        message_id = bench.receive()
        bench.bring(message_id)
        bench.documents("runs/run-1/pages")["000000"] = {}
        self.begin(bench)
        self.delete(bench, 2, messages=1, threads=1)
        self.delete(bench, 2, messages=1, threads=1, deltas=1, pages=1)
        bench.checker.removed("worker", bench.state, self.receipt(bench, messages=1, threads=1, deltas=1, pages=1))
        now = bench.clock.now()
        bench.gmail.delete([message_id])
        bench.state = Mailbox(ADA, now, Watch(now), now)
        bench.checker.policy(bench.state.policy)
        bench.connect()

    def test_a_purge_counts_what_it_deletes(self, bench: Bench) -> None:
        """Not more, not less."""
        bench.bring(bench.receive())
        self.begin(bench)
        with refused("The purge says that {'messages': 2} are gone, but those are {'messages': 1}"):
            self.delete(bench, 1, messages=2)

    @pytest.mark.parametrize("fields", [{"cursor": 10**7}, {"delta_seq": 2}, {"phase": "live"}])
    def test_a_purge_does_nothing_else(self, bench: Bench, fields: Any) -> None:
        """Neither cursor nor deltas nor phase move any more."""
        self.begin(bench)
        with refused("a mailbox that is being purged|ended the purge"):
            bench.commit(**fields)

    def test_nothing_is_written_while_it_is_purged(self, bench: Bench) -> None:
        """New mail, say."""
        self.begin(bench)
        with refused("wrote .* to a mailbox that is being purged"):
            bench.commit(bench.message(bench.receive()))

    def test_nobody_purges_what_nobody_wants_purged(self, bench: Bench) -> None:
        """Somebody has to have said so."""
        with refused("A mailbox is being purged that is wanted live"):
            bench.commit(phase="purging", purge=Purge(bench.clock.now()))

    @pytest.mark.parametrize("late", [False, True])
    def test_a_receipt_is_only_written_when_nothing_is_left(self, bench: Bench, late: bool) -> None:
        """Neither documents nor objects, but for those of a worker that had lost its lease."""
        bench.objects[f"{ADA}/m1.json"] = b""
        bench.objects["bob@example.com/m1.json"] = b""
        bench.checker.wrote("sleeper" if late else "worker", f"{ADA}/m1.json")
        self.begin(bench)
        if late:
            bench.checker.removed("worker", bench.state, self.receipt(bench))
        else:
            with refused(rf"The mailbox was removed, and left are {{}} and \['{ADA}/m1.json'\]"):
                bench.checker.removed("worker", bench.state, self.receipt(bench))

    def test_a_document_that_is_left_is_found(self, bench: Bench) -> None:
        """However deep."""
        bench.documents("runs/run-1/pages")["000000"] = {}
        self.begin(bench)
        with refused("The mailbox was removed, and left are {'pages': 1}"):
            bench.checker.removed("worker", bench.state, self.receipt(bench))

    @pytest.mark.parametrize(
        ("objects", "documents", "disturbed", "match"),
        [
            (0, {"labels": 1}, False, "The receipt says {'labels': 1}, but there were {}"),
            (2, {}, False, "The receipt says 2 objects, but 1 were deleted"),
            (0, {}, False, "Nothing went wrong, and the receipt says 0 of 1 objects"),
            (0, {}, True, None),
            (1, {}, False, None),
        ],
    )
    def test_a_receipt_tells_what_there_was(
        self, bench: Bench, objects: int, documents: dict[str, int], disturbed: bool, match: str | None
    ) -> None:
        """Of objects it may tell less where a worker died."""
        self.begin(bench)
        bench.checker.deleted("worker", f"{ADA}/m1.json")
        bench.checker.ending.disturbed = disturbed
        receipt = self.receipt(bench, objects, **documents)
        if match is None:
            bench.checker.removed("worker", bench.state, receipt)
        else:
            with refused(match):
                bench.checker.removed("worker", bench.state, receipt)

    def test_a_receipt_that_says_the_watch_ended(self, bench: Bench) -> None:
        """It did, or the receipt says that it did not."""
        bench.gmail.watch("projects/test/topics/t")
        self.begin(bench)
        with refused("The receipt says that Gmail watches no more, and it does"):
            bench.checker.removed("worker", bench.state, self.receipt(bench))

    @pytest.mark.parametrize("fields", [{"wanted": "live"}, {"phase": "live"}])
    def test_only_what_is_purged_is_removed(self, bench: Bench, fields: Any) -> None:
        """By the worker that has the lease."""
        self.begin(bench)
        with refused("committed without the lease"):
            bench.checker.removed("sleeper", bench.state, self.receipt(bench))
        with refused("removed a mailbox in phase"):
            bench.checker.removed("worker", replace(bench.state, **fields), self.receipt(bench))
