"""What signals do."""

import signal
import threading

import pytest

from savi.runs.stop import Stop


@pytest.mark.parametrize(
    ("number", "code", "name"), [(signal.SIGINT, 130, "Ctrl-C"), (signal.SIGTERM, 143, "SIGTERM")]
)
def test_a_signal_interrupts(number, code, name):
    stop, before = Stop(), signal.getsignal(number)
    with pytest.raises(KeyboardInterrupt), stop.handled():
        signal.raise_signal(number)
    assert stop.asked
    assert (stop.code, stop.name) == (code, name)
    assert signal.getsignal(number) is before


def test_the_first_signal_waits_and_the_second_does_not():
    stop = Stop()
    with stop.handled():
        with stop.patient():
            assert not stop.asked
            signal.raise_signal(signal.SIGTERM)
            assert stop.asked
            # The same one at once is handed on by a terminal and by a parent.
            signal.raise_signal(signal.SIGTERM)
            stop._at -= 2.0
            with pytest.raises(KeyboardInterrupt):
                signal.raise_signal(signal.SIGTERM)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    with stop.handled():
        assert not stop.asked


def test_what_a_process_ignores_it_goes_on_to_ignore():
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with Stop().handled():
            signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)


def test_another_thread_leaves_the_signals_alone():
    before, seen = signal.getsignal(signal.SIGTERM), []

    def work():
        with Stop().handled():
            seen.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [before]
