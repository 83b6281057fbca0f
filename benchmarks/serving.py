"""The sidecar under measurement: starts, latency beside a bare llama.cpp server, label scoring against generation, mixed load.

    python benchmarks/serving.py RUN                                # all four parts, as they are quoted
    python benchmarks/serving.py RUN --parts latency --requests 200
    python benchmarks/serving.py RUN --parts soak --minutes 10      # needs schemathesis (the extra "test")

RUN is a run folder of the task cerebellum with an export. The bare server is llama.cpp's own HTTP server out of the package
xllamacpp, in a process of its own with the same file, threads and slots. It is given the same prompts as token ids, greedy, and
the JSON schema of the answer; both servers are asked in turn, in one run. "cold" are the first answers after each server has
said that it is ready, "warm" all that follow. Leave the machine alone while this runs.
"""

from __future__ import annotations

import argparse
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError
from scionwood.serving.artifact import Artifact, read_artifact
from scionwood.task import Case, Task, load_task

PARTS = ("starts", "latency", "scoring", "soak")
BARE = "--bare-server"  # this script started as the bare server


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    add = parser.add_argument
    add("run", type=Path, help="a run folder with an export, or the export folder")
    add("--model", help="which GGUF file: f16, q8_0, ... (default: the one the export names)")
    add("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    add("--starts", type=int, default=50, help="starts in a row (default: %(default)s)")
    add("--cold-starts", type=int, default=10, help="starts of both servers for the cold figures (default: %(default)s)")
    add("--requests", type=int, default=400, help="warm requests per server and number of clients (default: %(default)s)")
    add("--clients", type=int, nargs="+", default=[1, 8])
    add("--cases", type=int, default=200, help="cases for label scoring against generation (default: %(default)s)")
    add("--minutes", type=float, default=10.0, help="length of the soak (default: %(default)s)")
    add("--threads", type=int, default=None, help="threads of the model, for both servers (default: all cores)")
    add("--json", type=Path, metavar="FILE", help="write the figures there as well")
    return parser.parse_args()


# -- both servers -----------------------------------------------------------------------------------------------------------


@dataclass
class Server:
    """A server process and where it listens. ``seconds``: from the start of the process to its own word that it is ready."""

    process: subprocess.Popen
    address: tuple[str, int] = ("", 0)
    seconds: float = 0.0
    lines: list[str] = field(default_factory=list)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(*self.address, timeout=120)

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()


def start(command: list[str], ready: str) -> Server:
    """Start a server that prints its address on stderr, and wait until ``ready`` answers 200."""
    begin = time.perf_counter()
    server = Server(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True))
    while not (found := re.search(r"listening on http://([\d.]+):(\d+)", server.lines[-1] if server.lines else "")):
        line = server.process.stderr.readline()
        if not line:
            raise UserError(f"the server did not start: {''.join(server.lines)[-400:].strip()}")
        server.lines.append(line)
    server.address = (found[1], int(found[2]))
    import threading

    threading.Thread(target=lambda: server.lines.extend(server.process.stderr), daemon=True).start()
    while get(server, ready)[0] != 200:
        if server.process.poll() is not None:
            raise UserError(f"the server ended: {''.join(server.lines)[-400:].strip()}")
        time.sleep(0.01)
    server.seconds = time.perf_counter() - begin
    return server


def start_ours(args, artifact: Artifact, state: str, *more: str) -> Server:
    command = [sys.executable, "-m", "scionwood", "serve", str(artifact.folder), "--port", "0", "--state", state,
               "--model", artifact.model.name, *(["--threads", str(args.threads)] if args.threads else []), *more]
    return start(command, "/readyz")


def start_bare(args, artifact: Artifact, slots: int) -> Server:
    from scionwood.models.llamacpp import default_threads

    threads = args.threads or default_threads()
    return start([sys.executable, __file__, BARE, str(artifact.model), str(artifact.max_length), str(slots), str(threads)], "/health")


def bare_server(model: str, context: str, slots: str, threads: str) -> None:
    """llama.cpp's own server, set as its documentation says for one small machine; runs until it is killed."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path, params.port = model, 0
    params.n_ctx, params.n_parallel = int(context) * int(slots), int(slots)
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = int(threads)
    params.cache_ram_mib, params.verbosity, params.ui, params.cors_origins = 0, -1, False, ""
    server = xllamacpp.Server(params)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    print(f"listening on {server.listening_address}", file=sys.stderr, flush=True)
    while True:
        signal.pause()


def get(server: Server, path: str) -> tuple[int, bytes]:
    connection = server.connect()
    try:
        connection.request("GET", path)
        response = connection.getresponse()
        return response.status, response.read()
    except OSError:
        return 0, b""
    finally:
        connection.close()


def post(connection: http.client.HTTPConnection, path: str, body: bytes, headers: dict[str, str] = {}) -> tuple[int, bytes]:  # noqa: B006
    connection.request("POST", path, body, {"Content-Type": "application/json", **headers})
    response = connection.getresponse()
    return response.status, response.read()


# -- what is asked ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Question:
    """One prompt as both servers take it."""

    job: str
    ours: bytes
    bare: bytes


def questions(task: Task, artifact: Artifact) -> list[Question]:
    """The test cases that a model decides, one prompt each, shuffled with a fixed seed."""
    import random

    from scionwood.models.light import LightTokenizer
    from scionwood.models.prompts import Renderer
    from scionwood.tasks.cerebellum.answers import schema_of

    renderer, out = Renderer(LightTokenizer(artifact.folder)), []
    for case in asked_cases(task):
        ids = renderer.render(task.messages(case)).prompt
        schema = schema_of(case.job) | {"x-guidance": {"whitespace_flexible": False}}
        bare = {"prompt": ids, "json_schema": schema, "n_predict": 64, "temperature": 0, "cache_prompt": True}
        out.append(Question(case.job, json.dumps(request_of(case)).encode(), json.dumps(bare).encode()))
    random.Random(0).shuffle(out)
    return out


def asked_cases(task: Task) -> list[Case]:
    return [c for c in task.cases("test") if task.gate(c) is None]


def request_of(case: Case) -> dict:
    """A case as a request of its route, with one candidate."""
    if case.job != "arbitrate":
        return dict(case.input)
    keep = lambda part: {k: v for k, v in part.items() if v and k != "id"}  # noqa: E731
    return {"new": keep(case.input["new"]), "candidates": [keep(case.input["stored"])]}


def ask_ours(connection, question: Question) -> tuple[float, bool]:
    """(milliseconds, whether it was answered by the model)."""
    begin = time.perf_counter()
    status, body = post(connection, f"/v1/{question.job}", question.ours, {"X-Deadline-Ms": "60000"})
    ms = (time.perf_counter() - begin) * 1000
    return ms, status == 200 and json.loads(body)["status"] in ("ok", "gated", "invalid")


def ask_bare(connection, question: Question) -> tuple[float, bool]:
    begin = time.perf_counter()
    status, body = post(connection, "/completion", question.bare)
    ms = (time.perf_counter() - begin) * 1000
    return ms, status == 200 and json.loads(body)["content"].startswith("{")


ASK = {"scionwood": ask_ours, "llama.cpp": ask_bare}


# -- the parts --------------------------------------------------------------------------------------------------------------


def starts(args, task: Task, artifact: Artifact, asked: list[Question]) -> dict:
    """Start after start: the first answer of each route, under the deadline that ships."""
    ready, first, bad = [], [], []
    by_job = {job: [q for q in asked if q.job == job] for job in sorted({q.job for q in asked})}
    for n in range(args.starts):
        with tempfile.TemporaryDirectory() as state, start_ours(args, artifact, state) as server:
            ready.append(server.seconds)
            connection = server.connect()
            for job, own in by_job.items():
                question = own[n % len(own)]
                begin = time.perf_counter()
                status, body = post(connection, f"/v1/{job}", question.ours)
                first.append((time.perf_counter() - begin) * 1000)
                answer = json.loads(body) if status == 200 else {}
                if status != 200 or answer["degraded"]:
                    bad.append({"start": n, "job": job, "status": status, "reason": answer.get("reason", "")})
            connection.close()
            server.stop()
    return {"starts": args.starts, "first_answers": len(first), "missed_or_degraded": len(bad), "bad": bad,
            "ready_s": quantiles(ready, 3), "first_ms": quantiles(first)}


def latency(args, task: Task, artifact: Artifact, asked: list[Question]) -> list[dict]:
    """Both servers in turn: cold after each of several starts, then warm at each number of clients."""
    rows, slots = [], len({q.job for q in asked}) + 1
    cold: dict[tuple[str, int], list[float]] = {}
    failed: dict[tuple[str, str, int], int] = {}
    for n in range(args.cold_starts):
        for clients in args.clients:
            for name in _order(n):
                with tempfile.TemporaryDirectory() as state, _start(name, args, artifact, state, slots) as server:
                    got = load(server, name, [asked[(n * 7 + i) % len(asked)] for i in range(max(clients, 3))], clients)
                    cold.setdefault((name, clients), []).extend(ms for ms, _ in got)
                    failed[name, "cold", clients] = failed.get((name, "cold", clients), 0) + sum(not ok for _, ok in got)
                    server.stop()
    warm: dict[tuple[str, int], list[float]] = {}
    with tempfile.TemporaryDirectory() as state, _start("scionwood", args, artifact, state, slots) as ours, \
            _start("llama.cpp", args, artifact, state, slots) as bare:
        servers = {"scionwood": ours, "llama.cpp": bare}
        for name, server in servers.items():  # one look at each prompt's beginning, so that nothing of this is cold
            load(server, name, asked[:30], 1)
        for clients in args.clients:
            block = max(clients * 5, 10)
            for k in range(0, args.requests, block):
                part = [asked[(k + i) % len(asked)] for i in range(min(block, args.requests - k))]
                for name in _order(k // block):
                    got = load(servers[name], name, part, clients)
                    warm.setdefault((name, clients), []).extend(ms for ms, _ in got)
                    failed[name, "warm", clients] = failed.get((name, "warm", clients), 0) + sum(not ok for _, ok in got)
    for state_, found in (("cold", cold), ("warm", warm)):
        for (name, clients), values in found.items():
            rows.append({"server": name, "state": state_, "clients": clients, "n": len(values), "failed": failed[name, state_, clients],
                         **quantiles(values)})
    return rows


def _order(n: int) -> list[str]:
    names = list(ASK)
    return names if n % 2 == 0 else names[::-1]


def _start(name: str, args, artifact: Artifact, state: str, slots: int) -> Server:
    return start_ours(args, artifact, state) if name == "scionwood" else start_bare(args, artifact, slots)


def load(server: Server, name: str, asked: list[Question], clients: int) -> list[tuple[float, bool]]:
    """So many clients at once, each on a connection of its own, share the questions."""
    def client(own: list[Question]) -> list[tuple[float, bool]]:
        connection = server.connect()
        try:
            return [ASK[name](connection, q) for q in own]
        finally:
            connection.close()

    with ThreadPoolExecutor(clients) as pool:
        return [r for part in pool.map(client, [asked[i::clients] for i in range(clients)]) for r in part]


def scoring(args, task: Task, artifact: Artifact) -> dict:
    """Label scoring and JSON generation under the task's schema on one engine, prompt by prompt in turn."""
    from scionwood.models.light import LightTokenizer
    from scionwood.models.llamacpp import LlamaCpp
    from scionwood.models.prompts import Renderer
    from scionwood.systems.base import OK
    from scionwood.systems.gguf import GgufSystem
    from scionwood.task import JsonSchema
    from scionwood.tasks.cerebellum.answers import schema_of

    class Generating(type(task)):
        """The task with schemas in place of choices: the engine then writes its answers."""

        def constraint(self, case):
            return JsonSchema(schema_of(case.job))

    cases = asked_cases(task)
    cases = [cases[i * len(cases) // min(args.cases, len(cases))] for i in range(min(args.cases, len(cases)))]
    renderer = Renderer(LightTokenizer(artifact.folder))
    with LlamaCpp(artifact.model, context=artifact.max_length, slots=4, threads=args.threads) as engine:
        systems = {"label scoring": GgufSystem("labels", "export", engine, renderer, task),
                   "generation": GgufSystem("json", "export", engine, renderer, Generating())}
        for job in {c.job for c in cases}:
            case = next(c for c in cases if c.job == job)
            for system in systems.values():
                system.predict([case])
        ms: dict[str, list[float]] = {name: [] for name in systems}
        answers: dict[str, list] = {name: [] for name in systems}
        for n, case in enumerate(cases):
            for name in list(systems)[:: 1 if n % 2 == 0 else -1]:
                begin = time.perf_counter()
                (p,) = systems[name].predict([case])
                ms[name].append((time.perf_counter() - begin) * 1000)
                answers[name].append(p.answer if p.status == OK else None)
    return {"cases": len(cases), "ratio_of_medians": round(quantiles(ms["generation"])["p50"] / quantiles(ms["label scoring"])["p50"], 2),
            "equal_answers": sum(a == b for a, b in zip(*answers.values())), **{name: quantiles(v) for name, v in ms.items()}}


def quantiles(values: list[float], digits: int = 2) -> dict[str, float]:
    """p50, p95, p99 (the smallest value that so many per cent do not exceed) and the largest."""
    ordered = sorted(values)
    at = lambda q: round(ordered[max(0, -(-q * len(ordered) // 100) - 1)], digits)  # noqa: E731
    return {"p50": at(50), "p95": at(95), "p99": at(99), "max": round(ordered[-1], digits)}


# -- printing ---------------------------------------------------------------------------------------------------------------


def show(part: str, found) -> None:
    print(f"\n{part}")
    if part == "starts":
        print(f"  {found['starts']} starts, {found['first_answers']} first answers, {found['missed_or_degraded']} missed or degraded")
        print(f"  ready after p50 {found['ready_s']['p50']} s, max {found['ready_s']['max']} s; "
              f"first answer p50 {found['first_ms']['p50']} ms, max {found['first_ms']['max']} ms")
    elif part == "latency":
        print(f"  {'server':12}{'state':6}{'clients':>8}{'n':>6}{'failed':>8}{'p50 ms':>10}{'p95 ms':>10}{'p99 ms':>10}")
        for r in sorted(found, key=lambda r: (r["state"], r["clients"], r["server"])):
            counts = f"{r['clients']:>8}{r['n']:>6}{r['failed']:>8}"
            print(f"  {r['server']:12}{r['state']:6}{counts}{r['p50']:>10.1f}{r['p95']:>10.1f}{r['p99']:>10.1f}")
    elif part == "scoring":
        for name in ("label scoring", "generation"):
            print(f"  {name:14} p50 {found[name]['p50']:8.2f} ms   p99 {found[name]['p99']:8.2f} ms")
        print(f"  ratio of the medians {found['ratio_of_medians']}; {found['equal_answers']} of {found['cases']} answers equal")
    else:
        print(f"  {found['minutes']:.1f} minutes, {found['requests']} requests; by status code: {found['codes']}")
        print(f"  5xx: {found['server_errors']}; late answers promised {found['promised']}, lost {found['lost']}; "
              f"schemathesis: {found['fuzzed']} requests, failures: {len(found['fuzz_failures'])}")
        print(f"  memory: {found['memory_mb']['start']} MB after warm-up, {found['memory_mb']['middle']} MB in the middle, "
              f"{found['memory_mb']['end']} MB at the end; exit code {found['exit_code']}")
        print(f"  {'held' if not found['broken'] else 'BROKEN: ' + '; '.join(found['broken'])}")


def main() -> int:
    args = arguments()
    artifact = read_artifact(args.run, args.model)
    task = load_task(artifact.task, **artifact.task_options)
    if task.name != "cerebellum":
        raise UserError(f"{args.run}: a run of task '{task.name}'; this benchmark asks the routes of 'cerebellum'")
    asked, results = questions(task, artifact), {}
    print(f"{artifact.name} ({artifact.model.stat().st_size / 1e6:.1f} MB), {len(asked)} prompts, {os.cpu_count()} cores, "
          f"load {os.getloadavg()[0]:.1f}")
    for part in args.parts:
        if part == "soak":
            from serving_soak import soak

            results[part] = soak(args, artifact, asked)
        else:
            function = {"starts": starts, "latency": latency, "scoring": scoring}[part]
            results[part] = function(args, task, artifact, *([asked] if part != "scoring" else []))
        show(part, results[part])
    if args.json:
        settings = {"model": artifact.name, "rev": artifact.rev, "cores": os.cpu_count(), "threads": args.threads,
                    "load": os.getloadavg()[0]}
        versions = {p: version(p) for p in ("scionwood", "xllamacpp", "fastapi", "uvicorn", "httpx")}
        files.write_json(args.json, {"settings": settings, "versions": versions, **results})
    bad = results.get("starts", {}).get("missed_or_degraded", 0) or len(results.get("soak", {}).get("broken", []))
    return 1 if bad else 0


if __name__ == "__main__":
    if sys.argv[1:2] == [BARE]:
        bare_server(*sys.argv[2:])
    try:
        sys.exit(main())
    except UserError as e:
        print(e, file=sys.stderr)
        sys.exit(2)
