"""The live body: deterministic replay, lights between ticks, lost sensors and outputs, what a device needs, a day without growth."""

import itertools
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
import tomllib
from configparser import RawConfigParser
from pathlib import Path

import psutil
import pytest
import typer

from scionwood.cli.lumen import app
from scionwood.errors import UserError
from scionwood.tasks.lumen.body.keeping import Kept
from scionwood.tasks.lumen.live import loop, running
from scionwood.tasks.lumen.live.loop import Breathing, live, played, sensed
from scionwood.tasks.lumen.live.outputs import Outputs, line_of
from scionwood.tasks.lumen.live.running import Wishes, run
from scionwood.tasks.lumen.live.session import EVERY_S, SOON_S, Session
from scionwood.tasks.lumen.sensing.readings import reading
from scionwood.tasks.lumen.shapes import UNCLASSIFIED
from scionwood.tasks.lumen.stopping import Stop
from scionwood.tasks.lumen.store.compact import write_compact
from scionwood.tasks.lumen.student.compact import CompactStudent
from scionwood.tasks.lumen.vocabulary import pattern_of

ROOT = Path(__file__).resolve().parent.parent
LIVE = Path(loop.__file__).parent
STUDENT = CompactStudent()
FORBIDDEN = ("torch", "transformers", "sklearn", "scipy", "numpy", "matplotlib", "pandas", "onnxruntime")


def day(n=600, gap=None):
    """A machine that is idle, works, and is idle again; an air sensor that is lost for a while."""
    t = 1_800_000_000.0
    cpu = 15.0
    for k in range(n):
        cpu += 0.15 * ((85.0 if k // 90 % 2 else 12.0) - cpu)
        lost = 200 < k < 240
        t += 2.0 + (3600.0 if k == gap else 0.0)
        yield reading(t, {"cpu_pct": cpu, "cpu_temp_c": 40 + 0.4 * cpu, "memory_pct": 30 + 0.5 * cpu, "disk_pct": 50.0, "light_lux": 80.0,
                          "ambient_temp_c": None if lost else 22.0, "humidity_pct": None if lost else 45.0, "context_switches_s": 40 * cpu,
                          "interrupts_s": 20 * cpu, "disk_busy_ms_s": 0.0, "disk_bytes_s": 0.0, "net_bytes_s": 0.0},
                      {"ambient_temp_c": "AHT20: gone", "humidity_pct": "AHT20: gone"} if lost else {})


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    path = tmp_path_factory.mktemp("live") / "day.csv.xz"
    write_compact(path, day())
    return path


# -- session ---------------------------------------------------------------------------------------------------------------


def trace(seed=0, n=400, **more):
    session = Session(STUDENT, seed=seed, **more)
    moments = [session.tick(r) for r in day(n)]
    return session, moments


def test_the_same_readings_and_seed_give_the_same_session():
    def told(seed):
        session, moments = trace(seed)
        lamps = session.breath.at(moments[-1].reading.t)
        return [line_of(m) for m in moments if m.why], session.drawing.image().tobytes(), lamps

    first = told(1)
    assert first == told(1) and first[0] and first != told(2)


def test_expressions_come_when_there_is_an_occasion():
    _, moments = trace()
    spoken = [m for m in moments if m.why]
    assert len({m.why.shape for m in spoken}) >= 3
    for m in spoken:
        assert m.why.shape != UNCLASSIFIED and pattern_of(m.expression.tokens) == m.expression.pattern and m.said
        for forest, odds in m.why.odds.items():
            assert sum(odds.values()) == pytest.approx(1)
        assert m.expression.pattern in m.why.odds["pattern"] and m.expression.tokens[0] in m.why.odds["token1"]
    for a, b in zip(spoken, spoken[1:]):
        apart = b.reading.t - a.reading.t
        assert apart >= SOON_S and (a.why.shape != b.why.shape or apart >= EVERY_S)
    assert any("no longer feel the air" in m.said for m in spoken) and any("again" in m.said for m in spoken)


def test_a_gap_and_a_clock_set_back_do_not_stop_it():
    session = Session(STUDENT)
    for r in itertools.chain(day(60, gap=30), day(60)):
        session.tick(r)
    assert len(session.window) <= 21


def test_readings_without_any_value_are_lived_through():
    session = Session(STUDENT)
    moments = [session.tick(reading(2.0 * k, {})) for k in range(60)]
    assert moments[-1].expression is not None


# -- the loop --------------------------------------------------------------------------------------------------------------


class Lamps:
    """Keeps what it is shown."""

    name = "lamps"

    def __init__(self):
        self.seen, self.fail = [], False

    def open(self):
        if self.fail:
            raise OSError("gone")

    def show(self, lamps):
        self.open()
        self.seen.append(lamps)

    def close(self):
        pass


def outputs_with(lamps, lines=None):
    outputs = Outputs((lines if lines is not None else []).append)
    outputs.leds = Kept(lamps, (lines if lines is not None else []).append)
    return outputs


def test_lights_breathe_between_ticks():
    lamps, stop = Lamps(), threading.Event()
    session, outputs = Session(STUDENT), outputs_with(lamps)
    live(played(day(4), Breathing(session, outputs, stop, tempo=2.0)), session, outputs, stop)
    assert len(lamps.seen) >= 8 and len({tuple(x) for x in lamps.seen}) >= 6


def test_without_tempo_nothing_is_waited_for_and_the_result_is_the_same():
    stop = threading.Event()
    told = []
    for tempo in (0.0, 500.0):
        session, outputs, lines = Session(STUDENT), Outputs(print), []
        count = live(played(day(200), Breathing(session, outputs, stop, tempo)), session, outputs, stop,
                     lambda m: lines.append(line_of(m)) if m.why else None)
        told.append((count, lines, session.drawing.image().tobytes()))
    assert told[0] == told[1] and told[0][0] == 200


def test_lost_leds_do_not_stop_it():
    lamps, lines, stop = Lamps(), [], threading.Event()
    lamps.fail = True
    session, outputs = Session(STUDENT), outputs_with(lamps, lines)
    assert live(day(30), session, outputs, stop) == 30
    assert lines == ["lamps: not available (gone); going on without"] and not lamps.seen


class Sensors:
    """A panel that gives what it is told to."""

    def __init__(self):
        self.given = day(1000)

    def read(self):
        return next(self.given)


def test_sensing_keeps_its_tick_and_ends_when_told():
    stop, session, lamps = threading.Event(), Session(STUDENT), Lamps()
    outputs, times = outputs_with(lamps), []

    def seen(moment):
        times.append(time.monotonic())
        if len(times) == 5:
            stop.set()

    assert live(sensed(Sensors(), 0.1, Breathing(session, outputs, stop)), session, outputs, stop, seen) == 5
    assert times[-1] - times[0] >= 0.35


def test_frames_gallery_and_journal_are_written_and_a_lost_folder_is_lived_with(recording, tmp_path):
    lines = []
    wishes = Wishes(replay=recording, frames=tmp_path / "f", gallery=tmp_path / "g", journal=tmp_path / "j.jsonl", store=tmp_path / "s.db")
    assert run(wishes, None, [], lines.append) == 600
    journal = [json.loads(line) for line in (tmp_path / "j.jsonl").read_text().splitlines()]
    assert len(journal) > 5 and {"t", "shape", "tokens", "said", "why"} <= set(journal[0])
    assert len(list((tmp_path / "f").glob("*.png"))) == 120 and lines == []
    from scionwood.tasks.lumen.store.recordings import read_recording

    assert sum(1 for _ in read_recording(tmp_path / "s.db")) == 600
    (tmp_path / "file").write_text("")
    assert run(Wishes(replay=recording, frames=tmp_path / "file" / "x", seconds=30), None, [], lines.append) == 600
    assert len(lines) == 1 and lines[0].startswith("frames: not available")


def test_a_missing_recording_or_student_is_told(tmp_path):
    with pytest.raises(UserError, match="no such file"):
        run(Wishes(replay=tmp_path / "none.db"), None, [], print)
    with pytest.raises(UserError, match="no such student"):
        run(Wishes(student=tmp_path / "none.safetensors"), None, [], print)


# -- as a process ----------------------------------------------------------------------------------------------------------


def scion(*arguments, **more):
    return subprocess.run([sys.executable, "-m", "scionwood", "lumen", *map(str, arguments)], capture_output=True, text=True,
                          timeout=120, **more)


def test_two_replays_print_the_same(recording, tmp_path):
    first, second = (scion("live", "--replay", recording, "--seed", "3", "--frames", tmp_path / str(k)) for k in range(2))
    assert first.returncode == 0 and first.stdout == second.stdout and len(first.stdout.splitlines()) > 5
    names = sorted(p.name for p in (tmp_path / "0").iterdir())
    assert names and all((tmp_path / "0" / n).read_bytes() == (tmp_path / "1" / n).read_bytes() for n in names)


def test_the_device_needs_none_of_the_heavy_libraries(recording):
    """They are hidden as if they were not installed."""
    script = ("import sys\nclass Hidden:\n    def find_spec(self, name, path=None, target=None):\n"
              f"        if name.split('.')[0] in {FORBIDDEN!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
              "sys.meta_path.insert(0, Hidden())\nfrom scionwood.cli import main\n"
              f"sys.argv = ['scion', 'lumen', 'live', '--replay', {str(recording)!r}]\nmain()\n")
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) > 5


def test_it_senses_this_machine_without_hardware_and_ends_on_sigterm(tmp_path):
    command = [sys.executable, "-m", "scionwood", "lumen", "live", "--set", "state.every_s=0.2", "--journal", str(tmp_path / "j.jsonl")]
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not (tmp_path / "j.jsonl").exists() and time.monotonic() < until and child.poll() is None:
        time.sleep(0.1)
    size = psutil.Process(child.pid).memory_info().rss / 1e6
    child.send_signal(signal.SIGTERM)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 0 and out, err
    assert size < 80
    assert "going on without" in err or os.path.exists("/dev/gpiomem")


def test_a_signal_may_stop_it_at_any_moment(recording, monkeypatch):
    """The lock of an event is not re-entrant: a signal that comes while the loop is inside ``wait`` would hold it for ever."""
    stops, real = [], running.Breathing
    monkeypatch.setattr(running, "Breathing",
                        lambda session, outputs, stop, *rest: stops.append(stop) or real(session, outputs, stop, *rest))
    assert run(Wishes(replay=recording, seconds=60), None, [], lambda text: None) > 0
    assert isinstance(stops[0], Stop)


def test_an_hour_and_more_of_replay_does_not_grow():
    """A whole day is benchmarks/live.py; here the objects that are alive after one and after three finished drawings are compared."""
    import gc

    session, alive = Session(STUDENT), []
    for r in day(4500):
        session.tick(r)
        if session.drawing.done:
            gc.collect()
            alive.append(len(gc.get_objects()))
    assert len(alive) >= 3 and max(alive[1:]) < alive[0] + 1500


# -- what goes with it -----------------------------------------------------------------------------------------------------


def test_what_a_device_installs_is_light():
    if not (ROOT / "pyproject.toml").exists():
        pytest.skip("not a checkout: no pyproject.toml")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    installed = {re.match(r"[\w-]+", d)[0] for d in [*project["dependencies"], *project["optional-dependencies"]["device"]]}
    assert not installed & {"torch", "transformers", "peft", "scipy", "scikit-learn", "matplotlib", "onnxruntime"}


def test_the_service_starts_a_command_that_there_is():
    unit = RawConfigParser(strict=False)
    unit.optionxform = str
    unit.read(LIVE / "lumen.service")
    program, *arguments = unit["Service"]["ExecStart"].split()
    assert program.endswith("/scion") and arguments[:2] == ["lumen", "live"]
    command = typer.main.get_command(app).commands["live"]
    values = command.make_context("live", arguments[2:]).params
    assert values["page"] == 8737 and values["quiet"] and unit["Service"]["Restart"] == "always"
