"""The soak of benchmarks/serving.py: mixed load with malformed and oversized bodies, and schemathesis, for some minutes.

It holds when no response is a 5xx, every late answer that was promised can be fetched, memory does not grow, and the server
drains to exit code 0.
"""

from __future__ import annotations

import json
import random
import statistics
import tempfile
import threading
import time
from collections import Counter

from serving import Question, Server, get, post, start_ours

GROWTH_MB, GROWTH_SHARE = 8, 0.05  # between the middle and the end; llama.cpp's own buffers settle in the first minutes
CALLERS = 6


class Tally:
    """What the callers saw."""

    def __init__(self):
        self.codes: Counter = Counter()
        self.promised: dict[str, str] = {}
        self.memory: list[tuple[float, float]] = []
        self.fuzzed, self.fuzz_failures = 0, []
        self.lock, self.over = threading.Lock(), threading.Event()

    def count(self, code: int, body: bytes = b"") -> None:
        with self.lock:
            self.codes[code] += 1
            if code == 200 and b'"result_id"' in body:
                answer = json.loads(body)
                if answer.get("degraded"):
                    self.promised[answer["result_id"]] = answer["status"]


def soak(args, artifact, asked: list[Question]) -> dict:
    """Load for ``--minutes``; returns the figures, with ``broken`` naming what did not hold."""
    tally = Tally()
    with tempfile.TemporaryDirectory() as state, start_ours(args, artifact, state) as server:
        begin = time.monotonic()
        threads = [threading.Thread(target=caller, args=(server, asked, tally, seed), daemon=True) for seed in range(CALLERS)]
        threads += [threading.Thread(target=function, args=(server, tally), daemon=True) for function in (fuzz, watch)]
        for thread in threads:
            thread.start()
        while time.monotonic() - begin < args.minutes * 60 and server.process.poll() is None:
            time.sleep(0.2)
        tally.over.set()
        for thread in threads:
            thread.join(60)
        minutes = (time.monotonic() - begin) / 60
        lost = fetch_all(server, tally)
        tally.memory.append((time.monotonic(), resident_mb(server)))
        exit_code = server.stop() if server.process.poll() is None else server.process.returncode
    return figures(tally, minutes, lost, exit_code)


def figures(tally: Tally, minutes: float, lost: int, exit_code: int) -> dict:
    """The figures of a soak."""
    values = [mb for _, mb in tally.memory if mb]
    third = max(1, len(values) // 3)
    memory = {"start": values[0], "middle": round(statistics.median(values[third:-third] or values), 1),
              "end": round(statistics.median(values[-third:]), 1)}
    server_errors = sum(n for code, n in tally.codes.items() if code >= 500)
    unanswered = tally.codes.get(0, 0)
    broken = []
    if server_errors:
        broken.append(f"{server_errors} responses of 5xx")
    if unanswered:
        broken.append(f"{unanswered} requests without a response")
    if lost:
        broken.append(f"{lost} late answers lost")
    if memory["end"] - memory["middle"] > max(GROWTH_MB, GROWTH_SHARE * memory["middle"]):
        broken.append("memory grew")
    if tally.fuzz_failures:
        broken.append(f"schemathesis: {tally.fuzz_failures[0]}")
    if exit_code:
        broken.append(f"exit code {exit_code}")
    return {"minutes": minutes, "requests": sum(tally.codes.values()), "codes": dict(sorted(tally.codes.items())),
            "server_errors": server_errors,
            "promised": len(tally.promised), "lost": lost, "fuzzed": tally.fuzzed, "fuzz_failures": tally.fuzz_failures[:10],
            "memory_mb": memory, "exit_code": exit_code, "broken": broken}


def caller(server: Server, asked: list[Question], tally: Tally, seed: int) -> None:
    """One caller: mostly good requests, some with hopeless deadlines, some that no server should accept."""
    rng = random.Random(seed)
    connection = server.connect()
    while not tally.over.is_set():
        path, body, headers = request(rng, asked)
        try:
            code, answer = post(connection, path, body, headers)
            tally.count(code, answer)
            if code == 429:
                time.sleep(0.05)
            if code in (408, 413):  # the server closes after these
                connection.close()
        except OSError:
            connection.close()
            if len(body) <= 300_000:  # a server may hang up on what is too large before it has heard it all
                tally.count(0)
        except Exception as e:  # http.client has several of its own
            connection.close()
            tally.fuzz_failures.append(f"caller: {type(e).__name__}")


def request(rng: random.Random, asked: list[Question]) -> tuple[str, bytes, dict[str, str]]:
    """(path, body, headers)."""
    question, kind = rng.choice(asked), rng.random()
    path, body = f"/v1/{question.job}", question.ours
    if kind < 0.55:
        return path, body, {}
    if kind < 0.70:
        return path, body, {"X-Deadline-Ms": str(rng.choice([1, 2, 5, 20]))}
    if kind < 0.78:
        body = {"messages": [{"role": "user", "content": "Good morning."}], "max_tokens": 8}
        return "/v1/chat/completions", json.dumps(body).encode(), {}
    if kind < 0.84:  # torn or mangled JSON
        cut = rng.randrange(len(body))
        return path, rng.choice([body[:cut], body[:cut] + b"\xff" + body[cut:], b"[" * rng.randrange(1, 3000), b""]), {}
    if kind < 0.88:  # too large, announced as it is
        return path, b'{"text":"' + b"x" * rng.choice([300_000, 2_000_000]) + b'"}', {}
    if kind < 0.94:  # legal JSON, not a legal request
        wrong = rng.choice([{"text": 7}, {"txt": "x"}, {"text": "x" * 5000}, {"text": "x", "previous": ["a"] * 9}, [], {"text": "\x00"}])
        return path, json.dumps(wrong).encode(), {}
    return path, body, rng.choice([{"Content-Type": "text/plain"}, {"X-Deadline-Ms": "soon"}, {"Host": "evil.example"}])


def watch(server: Server, tally: Tally) -> None:
    """The server's memory, twice a second."""
    while not tally.over.wait(0.5):
        mb = resident_mb(server)
        with tally.lock:
            tally.memory.append((time.monotonic(), mb))


def resident_mb(server: Server) -> float:
    """Resident memory in MB, as the server's own metrics tell."""
    _, text = get(server, "/metrics")
    found = next((line for line in text.decode().splitlines() if line.startswith("process_resident_memory_bytes ")), "")
    return round(float(found.split()[1]) / 1e6, 1) if found else 0.0


def fetch_all(server: Server, tally: Tally, seconds: float = 120) -> int:
    """Fetch every late answer that was promised; returns how many do not come."""
    open_, until = set(tally.promised), time.monotonic() + seconds
    while open_ and time.monotonic() < until:
        for id in list(open_):
            code, body = get(server, f"/v1/results/{id}")
            if code == 200 and json.loads(body)["state"] == "done":
                open_.discard(id)
        time.sleep(0.2)
    return len(open_)


def fuzz(server: Server, tally: Tally) -> None:
    """schemathesis against the server's own document, legal requests and illegal ones in turn, until the time is over."""
    try:
        import schemathesis
    except ImportError:
        tally.fuzz_failures.append("schemathesis is not installed (pip install 'scionwood[test]')")
        return
    from hypothesis import HealthCheck, Phase, given, settings
    from schemathesis import GenerationMode, checks

    checks.load_all_checks()
    names = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance")
    wanted = [checks.CHECKS.get_one(name) for name in names]
    _, document = get(server, "/openapi.json")
    operations = [o.ok() for o in schemathesis.openapi.from_dict(json.loads(document)).get_all_operations()]
    url = f"http://{server.address[0]}:{server.address[1]}"

    def one(case) -> None:
        if tally.over.is_set():
            return
        response = case.call(base_url=url)
        tally.fuzzed += 1
        tally.count(response.status_code, response.content if response.status_code == 200 else b"")
        if response.status_code != 429:  # busy; its body was checked often enough
            case.validate_response(response, checks=wanted)

    while not tally.over.is_set():
        for operation in operations:
            for mode in GenerationMode:
                if tally.over.is_set() or (mode == GenerationMode.NEGATIVE and not operation.body):
                    continue
                strategy = operation.as_strategy(generation_mode=mode)
                limits = settings(max_examples=20, deadline=None, database=None, phases=[Phase.generate],
                                  suppress_health_check=list(HealthCheck))
                try:
                    limits(given(case=strategy)(one))()
                except Exception as e:
                    tally.fuzz_failures.append(f"{operation.method} {operation.path}: {type(e).__name__} {' '.join(str(e).split())[:300]}")
