"""What the live body costs: memory over a day of replay, and processor time at its own tick.

First a made-up day (a reading every two seconds, sensors that come and go) is replayed without waiting, in a process of its own, whose
resident memory is watched: it must not grow. Then ``scion lumen live`` senses this machine for a while at its own tick, and the processor
time that it took is divided by the time that passed. LEDs and panel are looked for, but a machine without them pays nothing for them.

    python benchmarks/live.py --hours 24 --seconds 120 --json live.json
"""

from __future__ import annotations

import argparse
import json
import math
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Iterator

import psutil

from scionwood import files
from scionwood.errors import UserError, run_script
from scionwood.tasks.lumen.sensing.readings import Reading, reading
from scionwood.tasks.lumen.store.compact import write_compact

TICK = 2.0
SETTLING_S = 5.0  # of the sensing run: start-up is measured apart


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("--hours", type=float, default=24.0, help="length of the day that is replayed (default: %(default)s)")
    add("--seconds", type=float, default=120.0, help="how long this machine is sensed; 0 leaves it out (default: %(default)s)")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    args = parser.parse_args()
    if args.hours <= 0 or args.seconds < 0:
        parser.error("hours above 0, seconds not below 0")
    return args


def day(hours: float, seed: int = 0) -> Iterator[Reading]:
    """Readings of a machine whose load changes every few minutes; light comes and goes, an air sensor is lost at times."""
    rng = random.Random(seed)
    cpu, memory, target, lost = 20.0, 40.0, 20.0, 0
    for k in range(int(hours * 3600 / TICK)):
        if rng.random() < TICK / 240:
            target = rng.uniform(3, 97)
        if rng.random() < TICK / 7200:
            lost = rng.randint(5, 300)
        lost -= lost > 0
        cpu = min(100.0, max(0.0, cpu + 0.1 * (target - cpu) + rng.gauss(0, 2)))
        memory += 0.02 * (30 + 0.5 * target - memory)
        hour = k * TICK / 3600
        air = None if lost else 21 + 3 * math.sin(hour / 24 * 2 * math.pi)
        yield reading(1_800_000_000 + k * TICK, {
            "cpu_pct": cpu, "cpu_temp_c": 42 + 0.3 * cpu, "memory_pct": memory, "disk_pct": 55.0, "ambient_temp_c": air,
            "humidity_pct": None if lost else 45 + rng.gauss(0, 1), "pressure_hpa": 1012.0,
            "light_lux": max(0.0, 300 * math.sin((hour - 6) / 12 * math.pi)),
            "context_switches_s": 500 + 40 * cpu, "interrupts_s": 300 + 20 * cpu, "disk_busy_ms_s": rng.expovariate(1 / 20),
            "disk_bytes_s": rng.expovariate(1 / 50_000), "net_bytes_s": rng.expovariate(1 / 20_000),
        }, {"ambient_temp_c": "lost", "humidity_pct": "lost"} if lost else {})


def replayed(hours: float) -> dict:
    """Replay a day, and watch the memory of the process."""
    with tempfile.TemporaryDirectory() as folder:
        recording, journal = Path(folder) / "day.csv.xz", Path(folder) / "journal.jsonl"
        ticks = write_compact(recording, day(hours))
        start = time.perf_counter()
        child = subprocess.Popen([sys.executable, "-m", "scionwood", "lumen", "live", "--replay", str(recording), "--quiet", "--journal",
                                  str(journal), "--gallery", str(Path(folder) / "gallery")])
        process, sizes = psutil.Process(child.pid), []
        while child.poll() is None:
            try:
                sizes.append(process.memory_info().rss / 1e6)
            except psutil.NoSuchProcess:
                break
            time.sleep(0.1)
        if child.wait():
            raise UserError(f"scion lumen live ended with code {child.returncode}")
        sizes = [s for s in sizes if s > 1]  # a process that is ending shows 0
        tenth = max(1, len(sizes) // 10)
        expressions = sum(1 for _ in open(journal, encoding="utf-8"))
        drawings = len(list((Path(folder) / "gallery").glob("*.png"))) if (Path(folder) / "gallery").exists() else 0
        return {"hours": hours, "ticks": ticks, "seconds": time.perf_counter() - start, "expressions": expressions, "drawings": drawings,
                "highest_mb": max(sizes), "early_mb": statistics.median(sizes[3 * tenth:4 * tenth] or sizes),
                "late_mb": statistics.median(sizes[-tenth:])}


def sensed(seconds: float) -> dict:
    """Sense this machine, and measure the process after it has settled."""
    child = subprocess.Popen([sys.executable, "-m", "scionwood", "lumen", "live", "--quiet", "--for", str(seconds + SETTLING_S + 10)])
    try:
        process = psutil.Process(child.pid)
        time.sleep(SETTLING_S)
        before, start = process.cpu_times(), time.perf_counter()
        time.sleep(seconds)
        after, passed = process.cpu_times(), time.perf_counter() - start
        busy = after.user + after.system - before.user - before.system
        return {"seconds": passed, "core_share": max(0.0, busy) / passed, "start_seconds": before.user + before.system,
                "resident_mb": process.memory_info().rss / 1e6}
    finally:
        child.terminate()
        child.wait()


def main() -> None:
    args = arguments()
    figures = {"replay": replayed(args.hours)}
    r = figures["replay"]
    print(f"replay: {r['hours']:g} h, {r['ticks']} ticks in {r['seconds']:.0f} s; "
          f"{r['expressions']} expressions, {r['drawings']} finished drawings")
    print(f"  resident memory: {r['early_mb']:.1f} MB early, {r['late_mb']:.1f} MB late, {r['highest_mb']:.1f} MB at most")
    if args.seconds:
        s = figures["sensing"] = sensed(args.seconds)
        print(f"sensing: {s['core_share']:.2%} of one core over {s['seconds']:.0f} s at a tick of {TICK:g} s; "
              f"{s['resident_mb']:.1f} MB resident; start-up {s['start_seconds']:.1f} s of processor time")
    if args.json:
        files.write_text(args.json, json.dumps(figures, indent=1) + "\n")


if __name__ == "__main__":
    run_script(main)
