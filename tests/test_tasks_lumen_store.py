"""The store: nothing that was committed is lost, everything comes back as it was, and old stores are brought up to date."""

import errno
import json
import lzma
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.tasks.lumen.sensing.readings import FIELDS, reading
from scionwood.tasks.lumen.settings import Body
from scionwood.tasks.lumen.state.eisv import Feeling
from scionwood.tasks.lumen.state.settings import State
from scionwood.tasks.lumen.stopping import Stop, stopped_by_signals
from scionwood.tasks.lumen.store import schema
from scionwood.tasks.lumen.store.bring import bring
from scionwood.tasks.lumen.store.compact import DECIMALS, read_compact, write_compact
from scionwood.tasks.lumen.store.loop import played, stretches, ticks
from scionwood.tasks.lumen.store.published import read_rows, stored_rows
from scionwood.tasks.lumen.store.raw import read_raw
from scionwood.tasks.lumen.store.recorder import Recorder
from scionwood.tasks.lumen.store.recordings import kind_of, paced, read_recording, sessions

SHARED = Path(os.environ.get("SCION_SHARED", Path(__file__).resolve().parents[2] / "shared")) / "data" / "lumen" / "training_v2"
NOW = 1_800_000_000.0


def some(n, seed=0, step=2.0):
    rng = random.Random(seed)
    return [reading(NOW + i * step, {name: rng.uniform(0, 100) for name in FIELDS if rng.random() < 0.8}) for i in range(n)]


def write(path, readings, table=None, **kw):
    table = table or State()
    recorder, feeling = Recorder(path, "test", table, **kw), Feeling(table)
    states = [(r, feeling.next(r)) for r in readings]
    for r, f in states:
        recorder.add(r, f)
    recorder.close()
    return [f for _, f in states]


def rows(path, table="readings"):
    with sqlite3.connect(path) as db:
        return db.execute(f"SELECT * FROM {table} ORDER BY id").fetchall()


# -- recorder --------------------------------------------------------------------------------------------------------------


def test_readings_and_reasons_come_back_as_they_were_and_give_the_same_states(tmp_path):
    table = State(preset="card")
    states = write(tmp_path / "a.db", some(50), table)
    back = list(read_recording(tmp_path / "a.db"))
    assert back == some(50)
    assert [s["state"] for s in sessions(tmp_path / "a.db")] == [table.model_dump()]
    feeling = Feeling(table)
    assert [feeling.next(r) for r in back] == states
    assert [row[1:] for row in rows(tmp_path / "a.db", "states")] == [(*f[1:9], *f.bands) for f in states]


def test_sessions_are_kept_apart(tmp_path):
    for seed in (1, 2):
        write(tmp_path / "a.db", some(5, seed))
    assert [s["count"] for s in sessions(tmp_path / "a.db")] == [5, 5]
    assert list(read_recording(tmp_path / "a.db")) == some(5, 2) and list(read_recording(tmp_path / "a.db", 1)) == some(5, 1)
    with pytest.raises(UserError, match=r"no session 3 \(known: 1, 2\)"):
        read_recording(tmp_path / "a.db", 3)


def test_what_is_too_old_is_dropped_and_the_file_shrinks(tmp_path):
    path = tmp_path / "a.db"
    write(path, some(3000))
    before = path.stat().st_size
    write(path, [reading(NOW + 86400 * 3, {"cpu_pct": 1.0})], keep_days=1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        assert db.execute("SELECT count(*) FROM readings").fetchone() == db.execute("SELECT count(*) FROM states").fetchone() == (1,)
        assert db.execute("SELECT count(*) FROM reasons").fetchone() == (1,)
    assert path.stat().st_size < before / 4


def test_while_another_process_holds_the_store_states_wait_and_are_then_written(tmp_path, monkeypatch):
    monkeypatch.setattr(schema, "BUSY_S", 0.05)
    recorder, feeling = Recorder(tmp_path / "a.db", "test", State(), waiting=3), Feeling()
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    for r in some(5):
        recorder.add(r, feeling.next(r))
    assert "locked" in recorder.trouble and recorder.dropped == 2
    other.execute("ROLLBACK")
    recorder.add(some(6)[5], feeling.next(some(6)[5]))
    recorder.close()
    assert recorder.trouble == "" and recorder.dropped == 3
    assert list(read_recording(tmp_path / "a.db")) == some(6)[3:]


def test_a_full_disk_is_trouble_and_no_exception(tmp_path):
    recorder, feeling = Recorder(tmp_path / "a.db", "test", State()), Feeling()
    pages = recorder._db.execute("PRAGMA page_count").fetchone()[0]
    recorder._db.execute(f"PRAGMA max_page_count = {pages}")  # SQLite's own "database or disk is full"
    pairs = [(r, feeling.next(r)) for r in some(200)]
    for pair in pairs:
        recorder.add(*pair)
        if recorder.trouble:
            break
    assert "full" in recorder.trouble
    written = pairs[:pairs.index(pair) + 1]
    recorder.add(*pairs[len(written)])  # there is room again
    recorder.close()
    assert recorder.trouble == "" and list(read_recording(tmp_path / "a.db")) == [r for r, _ in pairs[:len(written) + 1]]


def test_a_disk_that_cannot_even_be_looked_at_is_trouble_and_no_exception(tmp_path, monkeypatch):
    recorder, feeling = Recorder(tmp_path / "a.db", "test", State()), Feeling()
    pairs = [(r, feeling.next(r)) for r in some(3)]
    recorder.add(*pairs[0])

    def worn_out(self, **kw):
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as m:
        m.setattr(Path, "exists", worn_out)
        recorder.add(*pairs[1])
        assert "Input/output error" in recorder.trouble
    recorder.add(*pairs[2])
    recorder.close()
    assert recorder.trouble == "" and len(list(read_recording(tmp_path / "a.db"))) == 3


def test_a_folder_that_vanishes_and_returns(tmp_path):
    path = tmp_path / "stick" / "a.db"
    recorder, feeling = Recorder(path, "test", State()), Feeling()
    pairs = [(r, feeling.next(r)) for r in some(3)]
    recorder.add(*pairs[0])
    shutil.rmtree(path.parent)
    path.parent.write_text("not a folder")
    recorder.add(*pairs[1])
    assert recorder.trouble
    path.parent.unlink()
    recorder.add(*pairs[2])
    recorder.close()
    assert recorder.trouble == "" and list(read_recording(path)) == some(3)[1:]


def test_a_recording_that_is_killed_has_every_state_that_it_told_of(tmp_path):
    path = tmp_path / "a.db"
    process = start_record(path)
    told = [process.stdout.readline() for _ in range(25)]
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert all(told) and len(rows(path)) >= 25
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    write(path, some(2))  # and it goes on
    assert len(sessions(path)) == 2


def test_a_recording_ends_in_order_when_the_system_says_so(tmp_path):
    process = start_record(tmp_path / "a.db")
    first = json.loads(process.stdout.readline())
    process.send_signal(signal.SIGTERM)
    rest = process.stdout.read()
    process.stdout.close()
    assert process.wait() == 0 and len(rows(tmp_path / "a.db")) == 1 + len(rest.splitlines())
    assert {"bands", "terms", "reasons"} <= set(first) and first["reasons"]["cpu_pct"]


def start_record(path):
    command = [sys.executable, "-m", "scionwood", "lumen", "record", "--json", "--store", str(path), "--set", "state.every_s=0.02"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def test_readers_never_wait_for_the_writer(tmp_path):
    recorder, feeling = Recorder(tmp_path / "a.db", "test", State()), Feeling()
    for r in some(3):
        recorder.add(r, feeling.next(r))
    recorder._begin(NOW)
    assert len(list(read_recording(tmp_path / "a.db"))) == 3
    recorder._rollback()
    recorder.close()


# -- schema ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", range(1, len(schema.MIGRATIONS)))
def test_a_store_of_an_older_format_is_brought_up_to_date_with_all_that_is_in_it(tmp_path, monkeypatch, version):
    with monkeypatch.context() as m:
        m.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:version])
        write(tmp_path / "a.db", some(4))
    assert list(read_recording(tmp_path / "a.db")) == some(4)
    with sqlite3.connect(tmp_path / "a.db") as db:
        assert db.execute("PRAGMA user_version").fetchone() == (len(schema.MIGRATIONS),)


def test_a_migration_that_fails_leaves_the_store_as_it_was(tmp_path, monkeypatch):
    write(tmp_path / "a.db", some(4))
    broken = "CREATE TABLE more (x); INSERT INTO nowhere VALUES (1)"
    with monkeypatch.context() as m, pytest.raises(UserError, match="nowhere"):
        m.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, broken))
        schema.connect(tmp_path / "a.db")
    assert list(read_recording(tmp_path / "a.db")) == some(4)


def test_a_newer_store_and_what_is_no_store_are_refused(tmp_path):
    write(tmp_path / "new.db", some(1))
    with sqlite3.connect(tmp_path / "new.db") as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(UserError, match="newer scionwood"):
        read_recording(tmp_path / "new.db")
    (tmp_path / "text.db").write_text("hello, hello, hello")
    with pytest.raises(UserError, match="not a store"):
        Recorder(tmp_path / "text.db", "test", State())
    with sqlite3.connect(tmp_path / "other.db") as db:
        db.execute("CREATE TABLE mine (x)")
    with pytest.raises(UserError, match="name another file"):
        Recorder(tmp_path / "other.db", "test", State())
    assert (tmp_path / "text.db").read_text() == "hello, hello, hello"


# -- files -----------------------------------------------------------------------------------------------------------------


def raw_line(i, **change):
    row = {"t": NOW + 2.0 * i, "mono": 10 + 2.0 * i, "cpu": [10.0, 30.0], "mem_total": 1000, "mem_avail": 750, "disk_pct": 20.5,
           "ctx": 1000 * i, "irq": 500 * i, "disk": {"rb": 4096 * i, "wb": 0, "busy": 10 * i},
           "net": {"lo": [9, 9 * i], "eth0": [100 * i, 50 * i]}, "temps": {}, "load": [1.0]}
    return json.dumps({**row, **change}) + "\n"


def test_raw_telemetry_becomes_readings(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(raw_line(i) for i in range(3)) + raw_line(3, ctx=0) + raw_line(4)[:40])
    first, second, _, rebooted = read_raw(tmp_path / "t.jsonl")  # the line that was cut off is passed over
    assert first["cpu_pct"] is None and first["memory_pct"] == 25 and "line before" in first.reasons["interrupts_s"]
    known = {n: v for n, v in second.values.items() if v is not None}
    assert known == {"cpu_pct": 20, "memory_pct": 25, "disk_pct": 20.5, "context_switches_s": 500, "interrupts_s": 250,
                     "disk_busy_ms_s": 5, "disk_bytes_s": 2048, "net_bytes_s": 75}
    assert rebooted["context_switches_s"] is None and rebooted["interrupts_s"] == 250


@pytest.mark.parametrize(("line", "said"), [
    (raw_line(1)[:40] + "\n", "Expecting"), (raw_line(1, cpu="ten"), "is no number"), (raw_line(1, t=None), "is no number"),
    (raw_line(1, disk={"busy": 1}), "key 'rb' is missing"), ("[1]\n", "not a line of raw"),
    (raw_line(1, mem_avail=float("nan")), "no number"),
])
def test_a_bad_line_is_named(tmp_path, line, said):
    (tmp_path / "t.jsonl").write_text(raw_line(0) + line + raw_line(2))
    with pytest.raises(UserError, match=f"t.jsonl:2: .*{said}"):
        list(read_raw(tmp_path / "t.jsonl"))


VALUES = st.fixed_dictionaries({name: st.none() | st.floats(0, 1e7) for name in FIELDS})


@settings(max_examples=40, deadline=None)
@given(st.lists(VALUES, min_size=1, max_size=20), st.floats(0, 2e9))
def test_a_compact_recording_comes_back_to_its_precision(tmp_path_factory, values, start):
    path = tmp_path_factory.mktemp("compact") / "r.csv.xz"
    there = [reading(start + 2 * i, v, {"light_lux": 'dark, "quoted"'}) for i, v in enumerate(values)]
    assert write_compact(path, there) == len(there)
    back = list(read_compact(path))
    for a, b in zip(there, back, strict=True):
        assert b.t == pytest.approx(a.t, abs=0.02)
        for name in FIELDS:
            assert a[name] is b[name] is None or b[name] == pytest.approx(a[name], abs=0.51 * 10 ** -DECIMALS[name])
    write_compact(path.with_name("again.csv.xz"), back)
    assert [r.values for r in read_compact(path.with_name("again.csv.xz"))] == [r.values for r in back]


def test_a_broken_compact_recording_is_one_line(tmp_path):
    path = tmp_path / "r.csv.xz"
    write_compact(path, some(300))
    whole = path.read_bytes()
    text = lzma.decompress(whole).decode().splitlines()
    broken = {"cut": whole[:-200], "flipped": whole[:300] + b"\0\0\0" + whole[303:], "empty": b"",
              "row": lzma.compress("\n".join([*text[:5], "1,2", *text[5:]]).encode()),
              "number": lzma.compress("\n".join([*text[:5], text[5].replace(",", ",x", 1)]).encode()),
              "inf": lzma.compress("\n".join([*text[:5], "inf" + text[5][text[5].index(","):]]).encode()),
              "newer": lzma.compress(b'{"format": "lumen-recording", "version": 9}\n'), "other": lzma.compress(b"hello\n")}
    for name, data in broken.items():
        path.write_bytes(data)
        with pytest.raises(UserError) as e:
            list(read_compact(path))
        assert "\n" not in str(e.value) and str(path) in str(e.value), name
    with pytest.raises(UserError, match="no reading"):
        write_compact(path, [])


def test_from_raw_to_shipped_to_store_and_back(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(raw_line(i, cpu=[i % 50, 50.0]) for i in range(200)))
    assert "200 readings" in bring(tmp_path / "t.jsonl", tmp_path / "data" / "day.csv.xz", Body(), made="A machine at work.")
    card = (tmp_path / "data" / "README.md").read_text()
    assert "A machine at work." in card and "200 readings over 0.11 hours" in card and "| `cpu_pct` |" in card and "`light_lux` (" in card
    assert "session 1" in bring(tmp_path / "data" / "day.csv.xz", tmp_path / "a.db", Body())
    bring(tmp_path / "a.db", tmp_path / "again.csv.xz", Body())
    assert [r.values for r in read_recording(tmp_path / "again.csv.xz")] == [r.values for r in read_recording(tmp_path / "a.db")]
    assert [kind_of(tmp_path / n) for n in ("t.jsonl", "a.db", "again.csv.xz")] == ["raw", "store", "compact"]


def test_the_data_card_takes_the_place_of_no_other_text(tmp_path):
    (tmp_path / "t.jsonl").write_text("".join(map(raw_line, range(30))))
    (tmp_path / "README.md").write_text("# My garden\n")
    assert "described in day.md" in bring(tmp_path / "t.jsonl", tmp_path / "day.csv.xz", Body())
    assert (tmp_path / "README.md").read_text() == "# My garden\n" and "`day.csv.xz` holds 30" in (tmp_path / "day.md").read_text()
    (tmp_path / "README.md").unlink()
    assert "described in README.md" in bring(tmp_path / "t.jsonl", tmp_path / "one.csv.xz", Body())
    assert "described in two.md" in bring(tmp_path / "t.jsonl", tmp_path / "two.csv.xz", Body())  # one card for each recording
    assert "described in README.md" in bring(tmp_path / "t.jsonl", tmp_path / "one.csv.xz", Body(), made="Made anew.")
    assert "Made anew." in (tmp_path / "README.md").read_text() and "`two.csv.xz`" in (tmp_path / "two.md").read_text()
    (tmp_path / "notes.md").write_text("mine\n")
    with pytest.raises(UserError, match="notes.md: is no data card"):
        bring(tmp_path / "t.jsonl", tmp_path / "notes.csv.xz", Body())
    assert not (tmp_path / "notes.csv.xz").exists() and (tmp_path / "notes.md").read_text() == "mine\n"


def test_an_import_that_fails_half_way_leaves_nothing(tmp_path):
    (tmp_path / "t.jsonl").write_text(raw_line(0) + raw_line(1) + "{}\n" + raw_line(2))
    with pytest.raises(UserError, match=":3:"):
        bring(tmp_path / "t.jsonl", tmp_path / "a.db", Body())
    with pytest.raises(UserError, match="no reading yet"):
        read_recording(tmp_path / "a.db")


def test_what_is_no_recording_is_said(tmp_path):
    (tmp_path / "x.txt").write_text("hello")
    with pytest.raises(UserError, match="not a recording"):
        bring(tmp_path / "x.txt", tmp_path / "a.db", Body())
    with pytest.raises(UserError, match="no such file"):
        bring(tmp_path / "nothing", tmp_path / "a.db", Body())


# -- published rows --------------------------------------------------------------------------------------------------------


ROW = {"shape": "convergence", "pattern": "PAIR", "user": "SHAPE: convergence\nWINDOW: n_states=4 duration=6.87\n"
       "MEAN_EISV: E=0.4020 I=0.8210 S=0.1010 V=0.0460\nDERIVATIVES: dE=-0.0010 dI=0.0000 dS=-0.0000 dV=0.0001\n"
       "SECOND_DERIVATIVES: d2E=0.0001 d2I=0.0002 d2S=734881.0000 d2V=0.0000",
       "answer": "EISV_TOKENS: ~stillness~ ~return~\nLUMEN_TOKENS: quiet here\nPATTERN: PAIR"}


def published(system=None, **change):
    from scionwood.tasks.lumen.rows import SYSTEM

    row, system = {**ROW, **change}, system or SYSTEM
    messages = [{"role": r, "content": c} for r, c in (("system", system), ("user", row["user"]), ("assistant", row["answer"]))]
    return {"text": "\n".join(f"<|{m['role']}|>\n{m['content']}" for m in messages), "shape": row["shape"], "pattern": row["pattern"],
            "messages": messages}


def test_rows_come_back_to_the_letter(tmp_path):
    (tmp_path / "rows.json").write_text(json.dumps([published(), published(answer=ROW["answer"].replace("return", "holding"))]))
    assert "2 rows" in bring(tmp_path / "rows.json", tmp_path / "a.db", Body())
    assert list(stored_rows(tmp_path / "a.db")) == json.loads((tmp_path / "rows.json").read_text())
    row = read_rows(tmp_path / "rows.json")[0]
    assert row.numbers.states == 4 and row.numbers.first[0] == -0.001 and row.numbers.second[2] == 734881


@pytest.mark.parametrize(("value", "said"), [
    ({"shape": "convergence"}, "key 'text' is missing"), (published(shape="settled_presence"), "'shape' does not agree"),
    (published(pattern="TRIPLE"), "'pattern' does not agree"),
    (published(user=ROW["user"].replace("convergence", "bliss")), "unknown shape"),
    (published(user="SHAPE: convergence"), "user's lines"), ({"text": "hello"}, "system, user and assistant"), (7, "'text'"),
])
def test_a_row_that_is_not_as_published_is_named(tmp_path, value, said):
    (tmp_path / "rows.json").write_text(json.dumps([published(), value]))
    with pytest.raises(UserError, match=f"row 2: .*{said}"):
        read_rows(tmp_path / "rows.json")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the published data set is not here (SCION_SHARED names the folder that holds data/lumen)")
def test_the_published_files_are_read_whole(tmp_path):
    for name, count in (("train", 1440), ("val", 180), ("test", 180)):
        assert f"{count} rows" in bring(SHARED / f"{name}.json", tmp_path / "a.db", Body())
    with sqlite3.connect(tmp_path / "a.db") as db:
        assert db.execute("SELECT avg(E), max(V) FROM published").fetchone() == pytest.approx((0.584, 0.525), abs=0.006)
    assert list(stored_rows(tmp_path / "a.db"))[:1440] == json.loads((SHARED / "train.json").read_text())


# -- replay ----------------------------------------------------------------------------------------------------------------


class Clock:
    """A clock on which sleeping is instant, and each look costs a little."""

    def __init__(self):
        self.now, self.slept = 0.0, []

    def __call__(self):
        return self.now

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds


def test_tempo_is_held_against_the_clock_and_gaps_are_short():
    clock = Clock()
    readings = [reading(t, {}) for t in (0, 2, 4, 5000, 4000, 4002)]
    for _ in paced(readings, 4.0, longest=10, clock=clock, sleep=clock.sleep):
        clock.now += 0.1  # the work between two readings
    assert clock.now == pytest.approx((2 + 2 + 10 + 0 + 2) / 4 + 0.1, abs=0.11)
    assert clock.slept[0] == pytest.approx(0.4)
    fast = Clock()
    list(paced(readings, 0, clock=fast, sleep=fast.sleep))
    assert fast.slept == []


def test_a_replay_is_the_same_every_time_and_has_shapes_from_the_first_whole_window():
    first, second = (list(played(some(60), Body())) for _ in range(2))
    assert first == second
    assert [v is None for _, v in first] == [True] * 19 + [False] * 41


def test_stretches_cover_runs_of_one_shape():
    points = [f.point() for f, _ in played(some(6), Body())]
    t = [p.t for p in points]
    assert stretches(points, ["", "a", "a", "b", "a", "a"]) == [(t[1], t[3], "a"), (t[3], t[4], "b"), (t[4], t[5], "a")]


def test_late_ticks_are_left_out_and_not_made_up_for():
    clock, seen = Clock(), []

    class Never(Stop):
        def wait(self, timeout=None):
            clock.now += timeout
            return False

    for n in ticks(2.0, 20.0, Never(), clock):
        seen.append((n, clock.now))
        clock.now += 5.0 if n == 3 else 0.1
    assert seen == [(n, pytest.approx(max(2.0 * n, 11.0 if n == 5 else 0))) for n in (0, 1, 2, 3, 5, 6, 7, 8, 9)]


def test_a_stop_is_heard_at_once():
    with stopped_by_signals() as stop:
        count = 0
        for _ in ticks(3600.0, 0, stop):  # a stop that is not heard would last for an hour
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGTERM)).start()
            count += 1
        assert count == 1 and stop.is_set()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_a_stop_may_be_asked_for_by_a_signal_at_any_moment():
    """Thousands of signals into a loop that waits: with the lock of an event, some would come while it is held."""
    stop = Stop()
    before = signal.signal(signal.SIGALRM, lambda *_: stop.set())
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    try:
        waits = sum(stop.wait(0.001) for _ in range(2000))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert waits and stop.is_set()
    stop.close()


def test_a_small_machine_needs_neither_numpy_nor_torch():
    code = ("import sys; import scionwood.tasks.lumen.store.loop; "
            "sys.exit(str({'numpy', 'torch', 'sklearn', 'matplotlib', 'scipy'} & set(sys.modules) or ''))")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stderr.strip() == ""
