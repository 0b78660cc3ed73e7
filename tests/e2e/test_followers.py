"""Many consumers of one mailbox: every delta reaches each of them, once and in order."""

import pytest

from bench.followers import follow


@pytest.mark.usefixtures("emulator_tools")
def test_twenty_consumers_get_every_delta_once_and_in_order() -> None:
    """Half on event streams, half on pages that wait, on the emulators' stack: nobody misses a change or gets it twice.

    How soon is measured by `make bench`, subject followers.
    """
    consumers = follow(lambda _: None, consumers=20, changes=10)
    wanted = consumers[0].seqs
    assert len(wanted) == 10
    assert wanted == list(range(wanted[0], wanted[0] + 10))
    assert [consumer.seqs for consumer in consumers] == [wanted] * 20
    print(f"slowest of 20 consumers over 10 changes: {max(lag for each in consumers for lag in each.lags):.2f} s")
