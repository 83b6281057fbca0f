"""The durable queue: what is written survives kill -9, what holds a secret is not written, old answers go."""

import os
import signal
import sqlite3
import stat
import threading
import time

import pytest

from scionwood.errors import UserError
from scionwood.serving import results as module
from scionwood.serving.results import DONE, LOST, PENDING, Results

SECRET = "Gl0xinia!7"


@pytest.fixture
def queue(tmp_path):
    made = Results(tmp_path / "state")
    yield made
    made.close()


def on_disk(folder) -> bytes:
    return b"".join(p.read_bytes() for p in sorted(folder.iterdir()))


def test_an_entry_from_pending_to_done(queue):
    queue.add("a", "memorize", {"text": "her name is Fen"})
    assert (queue.get("a").state, queue.get("a").response, queue.waiting) == (PENDING, None, 1)
    assert [(u.id, u.route, u.request, u.tries) for u in queue.unfinished()] == [("a", "memorize", {"text": "her name is Fen"}, 1)]
    queue.finish("a", {"status": "ok"})
    assert (queue.get("a").state, queue.get("a").response, queue.waiting) == (DONE, {"status": "ok"}, 0)
    assert queue.unfinished() == [] and queue.get("b") is None


def test_the_request_leaves_the_disk_with_its_answer(queue):
    queue.add("a", "memorize", {"text": "a rare word: xylotheque"})
    assert b"xylotheque" in on_disk(queue.folder)
    queue.finish("a", {"status": "ok"})
    queue.purge()  # which also empties SQLite's journal
    assert b"xylotheque" not in on_disk(queue.folder) and queue.get("a").state == DONE


def test_a_private_entry_is_never_written(queue):
    queue.add("s", "classify", {"text": SECRET}, private=True)
    assert queue.get("s").state == PENDING and queue.unfinished() == []
    queue.finish("s", {"status": "ok", "answer": SECRET})
    assert queue.get("s").response["answer"] == SECRET and SECRET.encode() not in on_disk(queue.folder)
    folder = queue.folder
    queue.close()
    again = Results(folder)
    assert again.get("s").state == LOST and again.get("s").response is None
    again.close()


def test_only_its_owner_can_read_it(queue):
    for path in (queue.folder, *queue.folder.glob("results*")):
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path


def test_what_was_added_survives_kill_9(tmp_path):
    """A child adds and finishes as fast as it can and says so; after the kill everything it has said is there."""
    told, say = os.pipe()
    child = os.fork()
    if child == 0:
        queue = Results(tmp_path / "state")
        for n in range(100_000):
            queue.add(str(n), "r", {"n": n})
            os.write(say, b"a")
            if n % 2:
                queue.finish(str(n), {"n": n})
                os.write(say, b"f")
    os.close(say)
    seen = b""
    while len(seen) < 60:
        seen += os.read(told, 100)
    os.kill(child, signal.SIGKILL)
    while part := os.read(told, 4096):
        seen += part
    os.waitpid(child, 0)
    queue = Results(tmp_path / "state")
    for n in range(seen.count(b"a")):
        entry = queue.get(str(n))
        assert entry is not None
        if n % 2 and n // 2 < seen.count(b"f"):
            assert entry.state == DONE and entry.response == {"n": n}
    pending = {u.id for u in queue.unfinished()}
    assert {str(n) for n in range(0, seen.count(b"a"), 2)} <= pending and len(pending) == queue.waiting
    queue.close()


def test_each_beginning_is_counted_and_no_mere_start(tmp_path):
    for start in range(1, 4):
        queue = Results(tmp_path)
        if start == 1:
            queue.add("a", "r", {}), queue.add("b", "r", {})
        else:
            queue.begin("a")
        assert [(u.id, u.tries) for u in queue.unfinished()] == [("a", start), ("b", 1)]
        queue.close()


def test_old_answers_go_and_unanswered_requests_stay(tmp_path, monkeypatch):
    queue = Results(tmp_path, keep_hours=0.5)
    for id, private in (("done", False), ("waits", False), ("private", True)):
        queue.add(id, "r", {}, private)
    queue.finish("done", {"a": 1})
    queue.finish("private", {"a": 1})
    assert queue.purge() == 0
    now = time.time()
    monkeypatch.setattr(module.time, "time", lambda: now + 3600)
    assert queue.purge() == 2
    assert queue.get("done") is None and queue.get("private") is None and queue.private == {} and queue.get("waits").state == PENDING
    queue.close()


def test_no_more_than_the_newest_are_kept(queue, monkeypatch):
    monkeypatch.setattr(module, "MOST_KEPT", 3)
    for n in range(6):
        queue.add(str(n), "r", {})
        queue.finish(str(n), {"n": n})
    queue.add("waits", "r", {})
    queue.purge()
    assert [n for n in range(6) if queue.get(str(n))] == [3, 4, 5] and queue.get("waits").state == PENDING


def test_one_process_at_a_time(queue):
    with pytest.raises(UserError, match="another sidecar"):
        Results(queue.folder)


def test_a_file_that_is_no_queue_is_one_line(tmp_path):
    (tmp_path / "results.sqlite").write_bytes(b"not a database" * 100)
    with pytest.raises(UserError, match="not a queue of ours"):
        Results(tmp_path)


def test_a_queue_that_cannot_be_used_now_is_not_to_be_moved_away(tmp_path):
    """What was promised lies in it: a disk without room, or another program that holds it, must not cost that."""
    queue = Results(tmp_path)
    queue.add("a", "r", {})
    queue.close()
    (tmp_path / "results.sqlite-wal").mkdir()  # the journal cannot be opened
    with pytest.raises(UserError, match="unable to open") as told:
        Results(tmp_path)
    assert "move it away" not in str(told.value)
    (tmp_path / "results.sqlite-wal").rmdir()
    again = Results(tmp_path)
    assert [u.id for u in again.unfinished()] == ["a"]
    again.close()


def test_a_full_disk_fails_the_call_and_loses_nothing(queue):
    queue.add("a", "r", {"text": "x"})
    pages = queue.db.execute("PRAGMA page_count").fetchone()[0]
    queue.db.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(sqlite3.OperationalError):
        queue.add("b", "r", {"text": "x" * 100_000})
    queue.db.execute("PRAGMA max_page_count = 100000")
    assert queue.get("b") is None and queue.get("a").state == PENDING and queue.waiting == 1
    queue.finish("a", {})


def test_threads_share_it(queue):
    def work(k):
        for n in range(20):
            queue.add(f"{k}-{n}", "r", {"n": n})
            queue.finish(f"{k}-{n}", {"n": n})

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    [t.start() for t in threads], [t.join() for t in threads]
    assert queue.waiting == 0 and all(queue.get(f"{k}-{n}").state == DONE for k in range(4) for n in range(20))
