"""Measure a text with the thermometer and with plain code, in processes of their own: seconds, peak memory, and that both agree.

    python benchmarks/measuring.py                     # 10 MB of made-up words, frequencies as in a language (Zipf)
    python benchmarks/measuring.py --text book.txt     # a text of your own, repeated or cut to --megabytes

"thermometer" reads the file as one text, "thermometer, texts of 250 words" as JSON lines. The peers: a plain implementation of
the same measures in this file, and the package lexicalrichness (MTLD and HD-D alone) where it is installed. All on one thread.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

from scionwood import files
from scionwood.errors import UserError, run_script

NAMES = {"ours": "thermometer", "texts": "thermometer, texts of 250 words", "plain": "plain code, same measures",
         "lexicalrichness": "lexicalrichness: MTLD, HD-D"}
VOCABULARY = 40_000


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--text", type=Path, metavar="FILE", help="UTF-8 text (default: made-up words)")
    parser.add_argument("--megabytes", type=float, default=10, help="size of the text (default: %(default)s)")
    parser.add_argument("--sides", nargs="+", choices=tuple(NAMES), default=list(NAMES), metavar="SIDE",
                        help=f"of {', '.join(NAMES)} (default: all)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures there as well")
    parser.add_argument("--side", choices=tuple(NAMES), help=argparse.SUPPRESS)  # what a child process is told
    parser.add_argument("--file", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.megabytes <= 0:
        parser.error("--megabytes: more than 0")
    return args


def make_text(args, path: Path) -> None:
    """The text to measure, exactly ``megabytes`` long (in bytes of ASCII or UTF-8, give or take one character)."""
    size = int(args.megabytes * 1e6)
    if args.text:
        try:
            whole = args.text.read_text("utf-8")
        except (OSError, UnicodeDecodeError) as e:
            raise UserError(f"--text {args.text}: cannot be read ({e})") from None
        if not whole.strip():
            raise UserError(f"--text {args.text}: is empty")
        data = (whole + "\n") * (size // len(whole.encode()) + 1)
    else:
        import numpy as np

        rng = np.random.RandomState(0)
        letters = "etaoinshrdlucmfwypvbgk"
        words = [f"{''.join(letters[k] for k in rng.randint(len(letters), size=rng.randint(2, 9)))}" for _ in range(VOCABULARY)]
        p = 1 / (np.arange(VOCABULARY) + 3.0)
        drawn = rng.choice(VOCABULARY, size=size // 4, p=p / p.sum())
        data = " ".join(words[i] + ("." if n % 17 == 16 else "") for n, i in enumerate(drawn))
    path.write_bytes(data.encode()[:size].decode("utf-8", "ignore").encode())


def ours(path: Path) -> dict:
    from scionwood.tasks.lantern.documents import Fields, documents
    from scionwood.tasks.lantern.thermometer import Thermometer

    result = next(Thermometer("en", VOCABULARY).measure(documents([str(path)], Fields())))
    return {"words": result.texts[0].words, "values": {k: m.value for k, m in result.texts[0].measures.items()}}


def texts(path: Path) -> dict:
    from scionwood.tasks.lantern.documents import Fields, documents
    from scionwood.tasks.lantern.thermometer import Thermometer

    meter = Thermometer("en", VOCABULARY)
    words = sum(r.texts[0].words for r in meter.measure(documents([str(path.with_suffix(".jsonl"))], Fields("text"))))
    return {"words": words, "values": {}, "texts": meter.texts.documents}


def plain(path: Path) -> dict:
    """The measures as their definitions read, the text held as a whole."""
    from scionwood.tasks.lantern.measures.words import WORD

    text = path.read_text("utf-8")
    words = WORD.findall(text.lower())

    def entropy(items) -> float:
        counts = Counter(items)
        n = sum(counts.values())
        return -sum(c / n * math.log(c / n) for c in counts.values())

    def windows(k: int) -> float:
        values = [entropy(words[i : i + k]) for i in range(0, len(words) - k + 1, 10)]
        return sum(values) / len(values)

    def factors(row) -> float:
        count, seen, length = 0.0, set(), 0
        for w in row:
            seen.add(w)
            length += 1
            if 25 * len(seen) <= 18 * length:
                count, seen, length = count + 1, set(), 0
        return count + ((1 - len(seen) / length) / (1 - 0.72) if length else 0)

    n, counts = len(words), Counter(words)
    missed = [math.prod((n - c - i) / (n - i) for i in range(42)) if n - c >= 42 else 0.0 for c in counts.values()]
    out = {"E1": entropy(text.split()), "E2": entropy(text), "H50": windows(50), "H100": windows(100),
           "MTLD": (n / factors(words) + n / factors(words[::-1])) / 2, "HD-D": sum(1 - m for m in missed) / 42}
    for k in (1, 2, 3):
        out[f"distinct-{k}"] = len({tuple(words[i : i + k]) for i in range(n - k + 1)}) / (n - k + 1)
    out["EAD"] = len(counts) / (VOCABULARY * (1 - ((VOCABULARY - 1) / VOCABULARY) ** n))
    return {"words": n, "values": out}


def lexicalrichness(path: Path) -> dict:
    from lexicalrichness import LexicalRichness

    from scionwood.tasks.lantern.measures.words import english_words

    # the same words on both sides: its own tokenizer is not what is compared
    lex = LexicalRichness(path.read_text("utf-8"), preprocessor=None, tokenizer=english_words)
    return {"words": lex.words, "values": {"MTLD": lex.mtld(threshold=0.72), "HD-D": lex.hdd(draws=42)}}


def run_side(args) -> None:
    """What a child process does: measure once, and print the figures as JSON."""
    begin, cpu = time.perf_counter(), time.process_time()
    row = globals()[args.side](args.file)
    print(json.dumps(row | {"seconds": time.perf_counter() - begin, "cpu_seconds": time.process_time() - cpu, "peak_mb": peak_memory_mb()}))


def peak_memory_mb() -> float:
    """The highest resident memory of this process. The kernel's ru_maxrss also counts what the parent had when it forked."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        from scionwood.training.monitors import peak_memory_mb as portable

        return portable()


def measure(side: str, path: Path) -> dict | None:
    """Run one side in a process of its own; None where its package is not installed."""
    env = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"}
    done = subprocess.run([sys.executable, __file__, "--side", side, "--file", str(path)], env=env, capture_output=True, text=True)
    if done.returncode:
        if "No module named 'lexicalrichness'" in done.stderr:
            print(f"{NAMES[side]}: left out, it is not installed (pip install lexicalrichness)", file=sys.stderr)
            return None
        raise UserError(f"{NAMES[side]}: ended with status {done.returncode}\n{done.stderr[-2000:]}")
    return {"side": side, "name": NAMES[side]} | json.loads(done.stdout.splitlines()[-1])


def show(rows: list[dict], size: int) -> None:
    print(f"{size / 1e6:.1f} MB, {rows[0]['words']:,} words, one thread\n")
    print(f"{'':34}{'seconds':>9}{'of a core':>11}{'MB/s':>8}{'peak MB':>9}")
    for r in rows:
        print(f"{r['name']:34}{r['seconds']:9.1f}{r['cpu_seconds']:11.1f}{size / 1e6 / r['cpu_seconds']:8.2f}{r['peak_mb']:9.0f}")
    names = [k for r in rows for k in r["values"]]
    print()
    for name in dict.fromkeys(names):
        print(f"{name:34}" + "".join(f"{r['values'][name]:14.6f}" for r in rows if name in r["values"]))
    print("\nSeconds by the clock, and seconds that the one core worked: on a busy machine only the latter say something; MB/s are by\n"
          "them. Peak memory is that of the whole process, Python and NumPy included.")


def main() -> None:
    args = arguments()
    if args.side:
        return run_side(args)
    with tempfile.TemporaryDirectory(prefix="scionwood-bench-") as folder:
        path = Path(folder) / "text.txt"
        make_text(args, path)
        words = path.read_text("utf-8").split()
        files.write_jsonl(path.with_suffix(".jsonl"), ({"text": " ".join(words[i : i + 250])} for i in range(0, len(words), 250)))
        size = path.stat().st_size
        rows = [r for r in (measure(side, path) for side in args.sides) if r]
    show(rows, size)
    if args.json:
        files.write_json(args.json, {"bytes": size, "rows": rows})


if __name__ == "__main__":
    run_script(main)
