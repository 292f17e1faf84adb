"""A wish to stop is noted wherever it comes, and nobody else's handler is touched."""

import os
import signal
import threading

import pytest

from raysynth.interrupts import noted

BOTH = [signal.SIGINT, signal.SIGTERM]


@pytest.fixture(autouse=True)
def as_in_the_command():
    """As `raysynth` sets them; pytest has a handler of neither."""
    before = [signal.signal(number, signal.default_int_handler) for number in BOTH]
    yield
    for number, handler in zip(BOTH, before, strict=True):
        signal.signal(number, handler)


@pytest.mark.parametrize("number", BOTH)
def test_the_first_is_noted_and_the_second_raises(number: signal.Signals) -> None:
    with noted() as asked:
        assert not asked
        os.kill(os.getpid(), number)
        assert asked
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), number)
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), number)


def test_one_that_comes_in_a_destructor_is_not_lost() -> None:
    class Dying:
        def __del__(self) -> None:
            os.kill(os.getpid(), signal.SIGINT)

    with noted() as asked:
        Dying()
        assert asked


def test_a_handler_of_somebody_else_stays() -> None:
    heard: list[int] = []

    def theirs(number: int, _frame: object) -> None:
        heard.append(number)

    signal.signal(signal.SIGTERM, theirs)
    with noted() as asked:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not asked
    assert heard == [signal.SIGTERM]
    assert signal.getsignal(signal.SIGTERM) is theirs


def test_off_the_main_thread_nothing_is_changed() -> None:
    seen = []

    def elsewhere() -> None:
        with noted() as asked:
            seen.append((bool(asked), signal.getsignal(signal.SIGINT)))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [(False, signal.default_int_handler)]
