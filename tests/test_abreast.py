"""Work done by several threads: in order, not too far ahead, told of what goes wrong."""

import threading
import time

import pytest
import torch

from raysynth.abreast import abreast

pytestmark = pytest.mark.usefixtures("three_threads")


def test_results_come_in_order_from_threads_of_which_each_has_one_of_torch() -> None:
    seen: set[tuple[str, int]] = set()
    both = threading.Barrier(2)

    def do(number: int) -> int:
        both.wait(timeout=30)  # two are at work at once
        time.sleep(0.01 * (number % 2))
        seen.add((threading.current_thread().name, torch.get_num_threads()))
        return number

    assert list(abreast(do, range(8), 2)) == list(range(8))
    assert {threads for _, threads in seen} == {1}
    assert len(seen) == 2
    assert torch.get_num_threads() == 3
    later: list[int] = []
    thread = threading.Thread(target=lambda: later.append(torch.get_num_threads()))
    thread.start()
    thread.join()
    assert later == [3], "other threads have what they had"


def test_one_thread_is_the_callers_own() -> None:
    me = threading.get_ident()
    assert set(abreast(lambda _: threading.get_ident(), range(3), 1)) == {me}


@pytest.mark.parametrize("threads", [1, 2])
def test_no_more_is_done_than_is_soon_asked_for(threads: int) -> None:
    done: list[int] = []
    results = abreast(lambda number: done.append(number) or number, range(100), threads)
    assert next(results) == 0
    time.sleep(0.05)
    assert len(done) <= threads + 1
    results.close()
    assert len(done) <= threads + 1, "nothing goes on"
    assert not [one for one in threading.enumerate() if one.name.startswith("abreast")]


@pytest.mark.parametrize("threads", [1, 2])
def test_what_goes_wrong_is_told_in_its_turn(threads: int) -> None:
    def do(number: int) -> int:
        if number == 3:
            raise ArithmeticError("of the fourth")
        return number

    found = []
    with pytest.raises(ArithmeticError, match="of the fourth"):
        found.extend(abreast(do, range(9), threads))
    assert not [one for one in threading.enumerate() if one.name.startswith("abreast")]
