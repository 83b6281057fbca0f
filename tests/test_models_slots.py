"""Slots: a warmed prefix keeps its own, requests never share one, and nobody waits past the deadline."""

import threading
import time

import pytest

from scionwood.models.slots import Slots, common_length


def taken(slots, prompt, deadline=None):
    with slots.taken(prompt, deadline) as slot:
        return slot


def test_a_warmed_prefix_keeps_its_slot_from_strangers():
    slots = Slots(3)
    slots.keep([1, 2])
    slots.keep([3])
    a, b, stranger = taken(slots, [1, 2, 9]), taken(slots, [3, 9]), taken(slots, [5, 5])
    assert len({a, b, stranger}) == 3
    assert [taken(slots, [1, 2, 8]), taken(slots, [3, 1]), taken(slots, [6])] == [a, b, stranger]


def test_the_longest_prefix_decides():
    slots = Slots(2)
    slots.keep([1])
    slots.keep([1, 2])
    assert taken(slots, [1, 2, 3]) != taken(slots, [1, 3])


def test_one_prefix_too_many_takes_the_oldest_slot():
    slots = Slots(2)
    for prefix in ([1], [2], [3]):
        slots.keep(prefix)
    assert sorted(slots.kept) == [(2,), (3,)]
    assert taken(slots, [1]) in (0, 1)  # a stranger now, where no slot is free of a prefix


def test_of_two_free_slots_the_one_that_has_read_more_is_taken():
    slots = Slots(2)
    with slots.taken([1, 1, 1]) as first, slots.taken([2, 2, 2]) as second:
        assert first != second
    assert taken(slots, [2, 2, 7]) == second and taken(slots, [1, 1, 7]) == first


def test_a_busy_slot_is_waited_for_until_the_deadline():
    slots = Slots(1)
    with slots.taken([1]):
        begin = time.monotonic()
        with pytest.raises(TimeoutError):
            taken(slots, [1], begin + 0.05)
        assert time.monotonic() >= begin + 0.05
    assert taken(slots, [1], time.monotonic() - 1) == 0  # a free one needs no waiting


def test_a_busy_prefix_is_waited_for_though_other_slots_are_idle():
    """They hold other prompts, which a request of this one would push out."""
    slots = Slots(3)
    slots.keep([1])
    slots.keep([2])
    with slots.taken([1, 5]) as own:
        with pytest.raises(TimeoutError):
            taken(slots, [1, 6], time.monotonic() + 0.02)
        assert own not in (taken(slots, [2, 6]), taken(slots, [3]))
    assert taken(slots, [1, 6]) == own


def test_slots_are_held_by_one_request_at_a_time():
    slots, inside, most, lock = Slots(2), [0, 0], [0, 0], threading.Lock()

    def work(n):
        for k in range(20):
            with slots.taken([n, k % 3]) as slot:
                with lock:
                    inside[slot] += 1
                    most[slot] = max(most[slot], inside[slot])
                time.sleep(0.0005)
                with lock:
                    inside[slot] -= 1

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    [t.start() for t in threads]
    [t.join() for t in threads]
    assert most == [1, 1]


def test_closing_waits_for_work_and_lets_nobody_in():
    slots, order = Slots(1), []
    started = threading.Event()

    def work():
        with slots.taken([1]):
            started.set()
            time.sleep(0.05)
            order.append("worked")

    thread = threading.Thread(target=work)
    thread.start()
    started.wait()
    slots.close()
    order.append("closed")
    thread.join()
    assert order == ["worked", "closed"]
    with pytest.raises(RuntimeError, match="closed"):
        taken(slots, [1])


@pytest.mark.parametrize("a, b, n", [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2, 4, 5], 2), ([2], [1], 0)])
def test_common_length(a, b, n):
    assert common_length(a, b) == common_length(b, a) == n
