"""The judge of objects: for each promise a bucket that it accepts and one that it refuses."""

import pytest
from mailmirror.slice import Write

from tests.simulation.bench import Bench, added, large, put, refused, said, store_large
from tests.world import ADA, mail


class TestNamed:
    def test_an_object_that_a_message_names_is_not_deleted(self, bench: Bench) -> None:
        """One that nobody names may be."""
        message_id, name = store_large(bench)
        bench.checker.deleted("worker", f"{ADA}/other")
        with refused(f"worker deleted {name}, which message {message_id} names"):
            bench.checker.deleted("worker", name)

    def test_an_object_that_two_share_stays_for_the_other(self, bench: Bench) -> None:
        """The last message that names it takes it along."""
        first, name = store_large(bench)
        bench.clock.advance(1)
        second, same = store_large(bench)
        assert name == same
        bench.gmail.delete([first])
        bench.remove(first)
        with refused(f"which message {second} names"):
            bench.checker.deleted("worker", name)

    @pytest.mark.parametrize("gone", [True, False])
    def test_a_named_object_is_there_and_holds_what_its_name_says(self, bench: Bench, gone: bool) -> None:
        """Before the commit that names it, not after."""
        message, name = large(bench, bench.receive())
        if gone:
            del bench.objects[name]
        else:
            bench.objects[name] += b" "
        thread = bench.thread(message.path[-1], message)
        with refused("which is not there|cannot be read" if gone else "which holds something else"):
            bench.commit(message, thread, bench.delta(added(message)), cursor=bench.head)

    def test_a_message_names_its_objects_and_no_others(self, bench: Bench) -> None:
        """In order, for whoever asks who names one."""
        message, name = large(bench, bench.receive())
        wrong = Write("put", message.path, {**(message.data or {}), "objects": [name, f"{ADA}/x"]})
        with refused("names the objects"):
            bench.commit(wrong, bench.thread(message.path[-1], wrong), bench.delta(added(message)), cursor=bench.head)

    def test_an_object_that_is_lost_is_found_at_the_end(self, bench: Bench) -> None:
        """Whoever lost it."""
        _, name = store_large(bench)
        del bench.objects[name]
        assert said(bench, f"{name}, which is not there")


class TestOrphans:
    def test_an_object_that_nobody_names_any_more_is_an_orphan(self, bench: Bench) -> None:
        """It is to be deleted by whoever took its name away."""
        message_id, name = store_large(bench)
        assert bench.checker.orphans() == []
        bench.gmail.delete([message_id])
        bench.remove(message_id)
        assert bench.checker.orphans() == [name]

    def test_an_object_that_never_had_a_name_is_one_too(self, bench: Bench) -> None:
        """Whoever wrote it did not mirror the message, and lives."""
        name = put(bench, b"never")
        assert bench.checker.orphans() == [name]

    def test_somebody_may_have_an_excuse(self, bench: Bench) -> None:
        """Whoever wrote it, or took its name away, was not answered or is dead."""
        put(bench, b"never")
        bench.checker.bucket.unlucky("worker")
        assert bench.checker.orphans() == []

    def test_the_excuse_of_another_is_none(self, bench: Bench) -> None:
        """Nor is one for an object that was written again since by somebody in good health."""
        name = put(bench, b"never")
        bench.checker.bucket.unlucky("second")
        assert bench.checker.orphans() == [name]
        bench.checker.deleted("worker", name)
        del bench.objects[name]
        assert bench.checker.orphans() == []

    def test_a_body_that_shrinks_leaves_its_object(self, bench: Bench) -> None:
        """Written anew without it, the message names it no more."""
        message_id, name = store_large(bench, "Hi.")
        message = bench.message(message_id)
        bench.commit(message, bench.thread(message_id, message))
        assert bench.checker.orphans() == [name]
        assert mail(text="Hi.") == bench.gmail._state.messages[message_id].raw
