"""Faults: what goes wrong, how often, and how often it did.

Knows: the kinds, and that each seed has some of them at rates of its own, so that some seeds are stormy, some calm and
some odd. Does not know: what a fault looks like where it strikes. Only what struck is counted: a fault that nobody met
proves nothing.
"""

from collections import Counter
from random import Random

# Kinds by the place where they strike. Each name is the sentence's subject in a story.
STORE = ("store refused", "store answer lost", "commit sent twice")
GMAIL = (
    "gmail 500",
    "gmail 503",
    "gmail 403 quota",
    "gmail 429",
    "gmail 429 retry after",
    "gmail timed out after the effect",
    "gmail answer garbled",
)
HISTORY = ("history 404", "page token expired")
SEARCH = ("search misses",)
SECRETS = ("secret refused",)
BATCH = ("batch part 500", "batch part 429", "batch part not answered", "batch refused")
PUBSUB = ("push duplicated", "push delayed", "publish refused", "publish answer lost")
NOTIFICATION = ("notification lost", "notification unknown", "notification ahead", "notification old", "push malformed")
BLOBS = ("blob refused", "bucket slow")
DEATH = ("killed before", "killed after", "instance killed", "napped")
KINDS = STORE + GMAIL + HISTORY + SEARCH + SECRETS + BATCH + PUBSUB + NOTIFICATION + BLOBS + DEATH

# No faults: what has to happen for seeds to prove anything of it.
EVENTS = (
    "connect or stop refused: being purged",
    "content redeployed",
    "delta announced",
    "delta announced again",
    "delta refused",
    "label deleted in silence",
    "label taken off",
    "mailbox live again",
    "mailbox purged",
    "mailbox stopped",
    "messages aged",
    "object shared",
    "policy followed within a run",
    "policy run",
    "purge begun",
    "run paused",
)

# Calls of Gmail and the store are many, batches and notifications few.
WEIGHTS = dict.fromkeys(NOTIFICATION + PUBSUB, 4.0) | dict.fromkeys(BATCH, 8.0)
# Few policies name a date, and few mailboxes are purged.
# Few listings have pages, and fewer are of several labels.
WEIGHTS["page token expired"] = 30.0
WEIGHTS |= dict.fromkeys((*SEARCH, *SECRETS, "bucket slow"), 50.0)
WEIGHTS["history 404"] = 1 / 2
# These start a listing again from its first page: more than a few, and none would ever end.
MOST = {"history 404": 5, "page token expired": 10}


class Faults:
    """The faults of one world.

    Attributes:
        rates: by kind, how often it strikes where it can; what is absent never does.
        struck: by kind, how often it did.
    """

    def __init__(self, rng: Random) -> None:
        self.rng = rng
        self.rates: dict[str, float] = {}
        self.struck: Counter[str] = Counter()
        self.on_strike = _unheard

    def draw(self) -> None:
        """Choose kinds and rates for a storm: none, few or many kinds; seldom or often."""
        rng = self.rng
        kinds = rng.sample(KINDS, rng.choice([0, 2, 5, 10, len(KINDS)]))
        # Many kinds at high rates end all work.
        rate = rng.choice([0.005, 0.02, 0.08])
        self.rates = {kind: min(0.5, rate * WEIGHTS.get(kind, 1.0)) for kind in kinds}

    def strikes(self, kind: str) -> bool:
        """Whether a fault of a kind happens here and now."""
        rate = self.rates.get(kind)
        if rate is None or self.rng.random() >= rate or self.struck[kind] >= MOST.get(kind, self.struck[kind] + 1):
            return False
        self.strike(kind)
        return True

    def one_of(self, kinds: tuple[str, ...]) -> str | None:
        """The first of some kinds that happens here and now."""
        if self.rates:
            for kind in kinds:
                if kind in self.rates and self.strikes(kind):
                    return kind
        return None

    def strike(self, kind: str) -> None:
        """Count a fault that happens for a reason of its own."""
        self.struck[kind] += 1
        self.on_strike(kind)

    def note(self, event: str) -> None:
        """Count what is no fault, and has to happen for a seed to prove anything of it."""
        self.struck[event] += 1

    def end(self) -> None:
        """Let nothing go wrong any more."""
        self.rates = {}


def _unheard(kind: str) -> None:
    """Nobody listens."""
