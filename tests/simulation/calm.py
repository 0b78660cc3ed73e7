"""The calm after the storm: what must come true by itself, and what must be so at the end.

Knows: that nothing goes wrong any more but one lasting trouble, how long whatever was wanted may take then, and what
one more message may cost. Does not know: how the storm went, or what is right at a commit (`checker`).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING

from mailmirror.model import Mailbox

from tests.simulation.faults import EVENTS, NOTIFICATION, PUBSUB
from tests.simulation.violation import Violation

if TYPE_CHECKING:
    from tests.simulation.world import World

SWEEP_SECONDS = 300.0
# A mailbox that says nothing is equal so long after the last fault: the time until a quiet mailbox is due, the sweep,
# and the work. One that says why it is not may take until the last retry of a parked message.
SILENT_HOURS = 1.0
MOST_HOURS = 14.0
# Where runs wait for the next day, all may take so much longer.
CAPPED_HOURS = 6 * 24.0
# What a trouble that lasts may take until the mailbox says so.
TROUBLE_HOURS = 4.0
# history.list for notification and watch, each with an empty page; messages.get, and of it text, HTML and two files
# that are kept back; labels.list, and a watch that was due.
ONE_MESSAGE = 4 * 2 + 20 + 4 * 20 + 1 + 100
# What colours cost besides, for each label.
ONE_LABEL = 1
# The watch is renewed daily, and with it the label list.
RENEWAL_HOURS = 13.0


class Calm:
    """The end of one world's seed."""

    def __init__(self, world: World) -> None:
        """Look at a world in which the storm is over."""
        self._world = world
        self._rng = world.rng
        self._hub = world.hub
        self._users = world.users
        self._posts = world.posts
        self._states = world.memory.states
        self._checkers = world.checkers
        self._administrators = world.administrators

    def comes(self) -> None:
        """Trouble, calm, and one more message.

        Raises:
            Violation: something is wrong.
        """
        world = self._world
        for user in world.users.values():
            user.quiets()
        self._trouble()
        for user in world.users.values():
            user.calms_down()
        self._paused_runs_keep_nobody_waiting()
        self._settle(MOST_HOURS, self._all_done, "What is wanted does not come true.")
        self._old_workers_end()
        self._afterlife()
        self._settle(MOST_HOURS, self._all_equal, "The mirror does not come to equal the mailbox.", connecting=True)
        self._days_pass()
        if self._rng.random() < 0.1 or any(checker.has_untold_labels() for checker in self._checkers.values()):
            self._tomorrow()
        # What still comes of old pushes must not change that, and is not counted as the cost of what comes next.
        while not world.hub.idle:
            world.hub.run(world.hub.seconds + 60)
        self._settle(SILENT_HOURS, self._all_equal, "An old push undid the mirror.")
        self._one_more()
        self._applications_know()
        self._nothing_is_left_behind()
        for address in world.posts:
            most = world.meter.most_in_a_minute(address)
            if most > world.units_per_minute:
                raise Violation(f"{address} spent {most} units in a minute that allows {world.units_per_minute}.")

    def _trouble(self) -> None:
        """Let something be wrong for hours, and see that the mailbox document says so."""
        rng = self._rng
        trouble = rng.choice(["none"] * 6 + ["revoked", "down"])
        posts = self._posts.values()
        poisoned = {message_id for post in posts for message_id in (*post.poison, *post.deadly)}
        if trouble == "none" and (not poisoned or self._world.units_per_day is not None):
            return
        for post in posts:
            post.revoked, post.down = trouble == "revoked", trouble == "down"
        self._world.story.tell("trouble", f"{trouble}, poison: {' '.join(sorted(poisoned)) or 'none'}")
        if rng.random() < 0.05:
            wish = rng.choice([self._administrators.stops, self._administrators.deletes])
            wish(rng.choice(list(self._posts)))
            self._hub.run(self._hub.seconds + 60)

        def told() -> bool:
            return all(self._done(a, poisoned) or self._world.explained(a) for a in self._posts)

        def rest_equal() -> bool:
            synced = [a for a, state in self._states.items() if state.wanted == "live"]
            return told() and all(not self._checkers[a].differences(poisoned) for a in synced)

        if trouble == "none":
            self._settle(TROUBLE_HOURS, rest_equal, "A message that cannot be read keeps others from the mirror.")
        else:
            self._settle(TROUBLE_HOURS, told, f"Gmail is {trouble}, and the mailbox does not say so.")

    def _paused_runs_keep_nobody_waiting(self) -> None:
        """While a run waits for the next day, new mail comes as ever."""
        later = self._hub.now() + timedelta(hours=1)
        waiting = [address for address, state in self._states.items() if paused(state, later)]
        if not waiting:
            return
        for address in waiting:
            self._users[address].receives()
        heads = {address: self._posts[address].gmail._state.log.head for address in waiting}

        def arrived() -> bool:
            states = {address: self._states.get(address) for address in waiting}
            return all(s is None or s.wanted != "live" or s.cursor >= heads[a] for a, s in states.items())

        self._settle(SILENT_HOURS, arrived, "New mail waits for a run that waits for the next day.")

    def _afterlife(self) -> None:
        """What is stopped stays as it is, and what is purged stays away, until somebody connects it again."""
        rng, states = self._rng, self._states
        resting = {address: self._kept(address) for address, state in states.items() if state.wanted == "stopped"}
        if len(states) == len(self._posts) and not resting:
            return
        for user in self._users.values():
            for _ in range(rng.choice([0, 1, 3])):
                user.act()
            if rng.random() < 0.3:
                user.loses_history()
        length = rng.choice([600.0, 7200.0, 9 * 86_400.0])
        for _ in range(3):
            self._hub.run(self._hub.seconds + length / 3)
            self._world.sweep()
        self._world.renew()
        self._hub.run(self._hub.seconds + 60)
        for address in self._posts:
            if address in resting and self._kept(address) != resting[address]:
                raise Violation(f"{address} is stopped, and something of it was written.")
            if address in resting and states[address].next_due_at < self._hub.now() + timedelta(days=365):
                raise Violation(f"{address} is stopped, and due at {states[address].next_due_at}.")
            if address not in states:
                self._gone(address)
        for address in resting:
            if rng.random() < 0.25:
                self._administrators.deletes(address)
                self._settle(SILENT_HOURS, partial(self._is_absent, address), "It is not purged.")
            else:
                policy = self._administrators.policy(address) if rng.random() < 0.3 else None
                self._administrators.connects(address, policy)
                self._hub.run(self._hub.seconds + 60)

    def _old_workers_end(self) -> None:
        """Whoever worked for a deployment that was replaced has ended; from now on the present one alone counts."""
        while any(task.alive for task in self._world.outgoing):
            self._hub.run(self._hub.seconds + 60)
        for checker in self._checkers.values():
            checker.settled()
        self._settle(MOST_HOURS, self._all_done, "What is kept of messages is not what is deployed.")

    def _days_pass(self) -> None:
        """What becomes too old leaves; now and then nobody sweeps for days."""
        aging = [state for state in self._states.values() if state.policy.newest_days is not None]
        if not aging or self._rng.random() < 0.5:
            return
        self._hub.run(self._hub.seconds + 86_400 * self._rng.choice([0.5, 1.0, 3.0]))
        self._settle(SILENT_HOURS, self._all_equal, "What became too old does not leave the mirror.")

    def _tomorrow(self) -> None:
        """Once a day the label list is read: whatever happened to labels is mirrored then."""
        self._hub.run(self._hub.seconds + RENEWAL_HOURS * 3600)
        self._world.renew()
        self._hub.run(self._hub.seconds + 60)
        for checker in self._checkers.values():
            checker.tomorrow()
        self._settle(SILENT_HOURS, self._all_equal, "The labels do not come to equal the mailbox's.")

    def _is_absent(self, address: str) -> bool:
        return address not in self._states

    def _kept(self, address: str) -> list[object]:
        """All that is to stay while a mailbox is stopped: its documents, and where it stands."""
        state = self._states[address]
        documents = [(key, dict(kept)) for key, kept in self._world.memory.collections.items() if key[0] == address]
        return [state.cursor, state.run, state.counts, state.delta_seq, state.parked_due_at, documents]

    def _gone(self, address: str) -> None:
        """See that nothing is left of a mailbox that there is not."""
        self._checkers[address].ending.nothing_left()
        if address in self._world.memory.leases:
            raise Violation(f"{address} was removed, and its lease is left.")

    def _nothing_is_left_behind(self) -> None:
        """No object is left that no message names, but for those of workers with whom something went wrong; and Gmail
        watches what is said to be watched.
        """
        wrong = self._world.faults.struck.keys() - {*PUBSUB, *NOTIFICATION, *EVENTS}
        for address, state in self._states.items():
            watched = self._posts[address].gmail.active_watch() is not None
            # A worker that sleeps may stop the watch of those who come after it; the next renewal mends that.
            if not watched and state.watch.expires_at > self._hub.now() and "napped" not in wrong:
                raise Violation(f"{address} says that it is watched until {state.watch.expires_at}, and is not.")
            orphans = self._checkers[address].orphans()
            if orphans:
                raise Violation(f"{address}: no message names these objects, and nobody has an excuse: {orphans}")

    def _hours(self, hours: float) -> float:
        return hours if self._world.units_per_day is None else hours + CAPPED_HOURS

    def _settle(self, hours: float, settled: Callable[[], bool], otherwise: str, *, connecting: bool = False) -> None:
        """Sweep whenever something is due, until all is settled; connect what is not there, if that is to be done."""
        hub = self._hub
        began = hub.seconds
        while True:
            if settled():
                return
            if hub.seconds > began + self._hours(hours) * 3600:
                raise Violation(f"{otherwise} {self._what_is_wrong()}")
            if hub.seconds > began + SILENT_HOURS * 3600:
                self._nobody_is_silent()
            for address in self._posts:
                if address not in self._states:
                    self._gone(address)
                    if connecting:
                        self._administrators.connects(address)
            self._hub.run(hub.seconds + 60)
            if settled():
                return
            self._hub.run(self._next_sweep())
            self._world.sweep()

    def _next_sweep(self) -> float:
        """The next of the Scheduler's times: in five minutes, or when something is due if nothing happens before."""
        now = self._hub.now()
        due = [state.next_due_at - now for state in self._states.values() if state.phase != "stopped"]
        wait = max(0.0, min(due, default=timedelta(0)).total_seconds()) if self._hub.idle else 0.0
        return (self._hub.seconds + wait) // SWEEP_SECONDS * SWEEP_SECONDS + SWEEP_SECONDS

    def _nobody_is_silent(self) -> None:
        for address in self._posts:
            if not self._done(address) and not self._world.explained(address):
                raise Violation(f"An hour later {address} differs and does not say why: {self._what_is_wrong()}")

    def _one_more(self) -> None:
        """One more message: it comes, and it costs what a message costs."""
        for address, user in self._users.items():
            spent = self._world.meter.total(address)
            # What is not noticed yet, lost history for instance, is to be paid for too; a hint that lies is waited for.
            state = self._states[address]
            usual = state.hint <= state.cursor == self._posts[address].gmail._state.log.head
            user.receives()
            self._settle(SILENT_HOURS, self._all_equal, "One more message does not come.")
            cost = self._world.meter.total(address) - spent
            labels = self._posts[address].gmail._state.labels.to_api()
            if usual and cost > ONE_MESSAGE + ONE_LABEL * len(labels):
                raise Violation(f"One more message cost {cost} units.")

    def _applications_know(self) -> None:
        """Every delta has come to those who subscribe, and none comes again while nothing happens."""
        if self._world.deltas is None:
            return
        self._settle(SILENT_HOURS, self._all_announced, "Not all deltas are announced.")
        while not self._hub.idle:
            self._hub.run(self._hub.seconds + 60)
        repeated = self._repeated()
        self._hub.run(self._hub.seconds + 1200)
        self._world.sweep()
        self._hub.run(self._hub.seconds + 60)
        if self._repeated() != repeated:
            raise Violation("Nothing happened, and deltas came again.")

    def _repeated(self) -> int:
        return sum(checker.announcing.repeated for checker in self._checkers.values())

    def _all_announced(self) -> bool:
        return not any(self._checkers[address].announcing.left for address in self._states)

    def _equal(self, address: str, ignoring: set[str] | frozenset[str] = frozenset()) -> bool:
        """Whether a mailbox is mirrored, and says so."""
        state = self._states.get(address)
        if state is None or (state.counts.parked and not ignoring) or not _at_rest(state):
            return False
        return not self._checkers[address].differences(ignoring)

    def _done(self, address: str, ignoring: set[str] | frozenset[str] = frozenset()) -> bool:
        """Whether a mailbox is as it is wanted; one that there is not is wanted by nobody."""
        state = self._states.get(address)
        if state is None or state.wanted == "live":
            return state is None or self._equal(address, ignoring)
        lease = self._world.memory.leases.get(address)
        # Who took the lease while it was wanted live may still wake up, write, and then stop it again.
        awake = lease is not None and lease.owner and not self._world.orphaned(address)
        return state.wanted == state.phase == "stopped" and not awake

    def _all_done(self) -> bool:
        return self._administrators.idle and all(self._done(address) for address in self._posts)

    def _all_equal(self) -> bool:
        return all(self._equal(address) for address in self._posts)

    def _what_is_wrong(self) -> str:
        lines = []
        for address, checker in self._checkers.items():
            state = self._states.get(address)
            if state is None:
                lines.append(f"{address} is not connected")
            elif not self._done(address):
                run, problem = state.active_run, state.problem
                differences = checker.differences()[:5] if state.wanted == "live" else []
                lines.append(
                    f"{address}: {differences} phase {state.phase}, wanted {state.wanted}, cursor {state.cursor}, "
                    f"hint {state.hint}, run {f'{run.id} {run.stage}' if run else 'none'}, "
                    f"request {state.pending_request}, parked {state.counts.parked}, "
                    f"problem {problem.code if problem else 'none'}"
                )
        return "; ".join(lines)


def _at_rest(state: Mailbox) -> bool:
    return state.phase == "live" and not state.unfinished and state.problem is None


def paused(state: Mailbox, at: datetime) -> bool:
    """Whether a run waits for the next day, which is still to come then."""
    run = state.active_run
    return state.wanted == "live" and run is not None and run.paused_until is not None and run.paused_until > at
