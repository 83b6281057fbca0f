"""The line for the model: callers first, late work gives way, failures stay with their job, closing drains."""

import threading

import pytest

from scionwood.serving.line import Line
from serving_live import until


@pytest.fixture
def line():
    made = Line()
    yield made
    made.close(0)
    assert made.join(5)


class Gate:
    """A step that waits to be let through, and notes when it ran."""

    def __init__(self, name, log):
        self.name, self.log, self.open, self.entered = name, log, threading.Event(), threading.Event()

    def __call__(self):
        self.entered.set()
        self.open.wait(10)
        self.log.append(self.name)
        return self.name


def test_results_come_in_the_order_of_the_steps(line):
    assert line.submit([lambda: 1, lambda: 2, lambda: 3]).future.result(5) == [1, 2, 3]
    assert line.submit([]).future.result(5) == []
    assert line.waiting() == 0


def test_callers_go_before_late_work_and_late_work_gives_way_between_its_steps(line):
    log = []
    first = Gate("late-1", log)
    late = line.submit([first, lambda: log.append("late-2")], late=True)
    assert first.entered.wait(5)
    other_late = line.submit([lambda: log.append("late-3")], late=True)
    live = line.submit([lambda: log.append("live")])
    assert line.waiting() == 1
    first.open.set()
    live.future.result(5), late.future.result(5), other_late.future.result(5)
    assert log == ["late-1", "live", "late-2", "late-3"]


def test_a_job_whose_caller_has_gone_moves_back(line):
    log = []
    blocker = Gate("blocker", log)
    line.submit([blocker])
    assert blocker.entered.wait(5)
    gone, stays = line.submit([lambda: log.append("gone")]), line.submit([lambda: log.append("stays")])
    assert line.give_way(gone) and line.waiting() == 2
    blocker.open.set()
    gone.future.result(5), stays.future.result(5)
    assert log == ["blocker", "stays", "gone"]
    assert not line.give_way(stays)


def test_a_failure_is_its_own_jobs_and_the_thread_lives_on(line):
    def broken():
        raise ValueError("no")

    failed = line.submit([broken, lambda: 1])
    with pytest.raises(ValueError):
        failed.future.result(5)
    assert line.submit([lambda: 2]).future.result(5) == [2]


def test_a_dropped_job_does_not_begin(line):
    log = []
    blocker = Gate("blocker", log)
    line.submit([blocker])
    assert blocker.entered.wait(5)
    dropped = line.submit([lambda: log.append("dropped")])
    line.drop(dropped)
    blocker.open.set()
    line.submit([lambda: None]).future.result(5)
    assert log == ["blocker"]


def test_nothing_begins_beside_a_job_that_is_alone():
    line, log = Line(3), []
    gates = [Gate("load", log), Gate("warm", log)]
    first = line.submit(gates, alone=True)
    gates[0].entered.wait(5)
    others = [line.submit([lambda n=n: log.append(n)], late=n == 1) for n in range(3)]
    for gate in gates:
        assert gate.entered.wait(5) and not any(o.future.done() for o in others)
        gate.open.set()
    [o.future.result(5) for o in (first, *others)]
    assert log[:2] == ["load", "warm"] and sorted(log[2:]) == [0, 1, 2]
    line.close(0)
    assert line.join(5)


def test_closing_works_off_the_line_or_says_that_it_did_not():
    log = []
    line = Line()
    for n in range(5):
        line.submit([lambda n=n: log.append(n)], late=n % 2 == 1)
    assert line.close(5) and sorted(log) == [0, 1, 2, 3, 4]
    with pytest.raises(RuntimeError):
        line.submit([lambda: 1])
    line = Line()
    blocker = Gate("blocker", log)
    line.submit([blocker])
    assert blocker.entered.wait(5)
    assert not line.close(0.01)
    blocker.open.set()
    assert line.join(5)


def test_what_stands_in_a_closed_line_is_not_waited_for():
    line, log = Line(), []
    gate = Gate("runs", log)
    line.submit([gate]), line.submit([lambda: log.append("never")])
    gate.entered.wait(5)
    assert not line.close(0)
    gate.open.set()
    assert line.join(5)
    line.changed.wait = None  # it cannot be called
    assert not line.close(5) and log == ["runs"]


def test_many_threads_lose_nothing():
    line = Line(workers=3)
    jobs, lock = [], threading.Lock()

    def add(k):
        for n in range(40):
            job = line.submit([lambda: (k, n), lambda: 0], late=n % 3 == 0)
            if n % 5 == 0:
                line.give_way(job)
            with lock:
                jobs.append(job)

    threads = [threading.Thread(target=add, args=(k,)) for k in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert all(len(j.future.result(10)) == 2 for j in jobs) and len(jobs) == 160
    until(lambda: line.waiting() == 0)
    assert line.close(5)


def test_whoever_waits_cannot_cancel_a_job(line):
    blocker = Gate("blocker", [])
    job = line.submit([blocker])
    assert blocker.entered.wait(5) and not job.future.cancel()
    blocker.open.set()
    assert job.future.result(5) == ["blocker"] and line.submit([lambda: 1]).future.result(5) == [1]
