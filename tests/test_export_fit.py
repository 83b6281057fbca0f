"""What fits a small machine: the arithmetic by hand, and the command."""

import json

import pytest
from conftest import tiny_model
from export_runs import scion
from serving_export import write_export

from scionwood.errors import UserError
from scionwood.export.devices import DEVICES
from scionwood.export.fit import Shape, Speed, fit, measure, shape_from, shape_of
from scionwood.export.gguf import write_gguf
from scionwood.models.llamacpp import SMALL_FILE


@pytest.fixture(scope="module")
def file(tokenizer, tmp_path_factory):
    return write_gguf(tiny_model(), tokenizer, tmp_path_factory.mktemp("m") / "m-q8_0.gguf", "q8_0", {})


def test_a_7b_in_four_bits_does_not_fit_four_gigabytes(monkeypatch, capsys):
    code, out, _ = scion(monkeypatch, capsys, "fit", "--params", "7B", "--kind", "q4_0", "-d", "pi4", "-d", "jetson-nano")
    assert code == 1 and out.count("does NOT fit") == 2 and "3.94 GB = parameters x 4.5 bits / 8" in out
    code, out, _ = scion(monkeypatch, capsys, "fit", "--params", "7B", "--kind", "q4_0", "-d", "pi5")
    assert code == 0 and ": fits" in out


def test_the_cache_by_hand(file):
    shape = shape_of(file)
    assert (shape.layers, shape.kv_heads, shape.head, shape.longest) == (4, 2, 8, 1024)
    assert shape.cache(1000) == 2 * 4 * 2 * 8 * 4 * 1000 and shape.bytes == file.stat().st_size  # float32: the file is small
    assert Shape("m", SMALL_FILE + 1, 4, 2, 8).cache(1000) == 2 * 4 * 2 * 8 * 2 * 1000


def test_needed_and_free_are_added_up():
    shape = Shape("m", 3.0e9, 32, 8, 128)
    lines = fit(shape, DEVICES["pi4"], 1000)["lines"]
    assert "  needed             3.38 GB of 3.50 GB = 4 GB - 0.5 GB for the system (assumed)" in lines  # 3 + 0.131 + 0.25
    assert fit(shape, DEVICES["pi4"], 2000)["fits"] is False  # 3 + 0.262 + 0.25


def test_a_sidecars_caches_are_counted_and_a_token_reads_one():
    shape = Shape("m", 3.0e9, 32, 8, 128)
    told = fit(shape, DEVICES["pi4"], 1000, routes=1)
    assert told["fits"] is False  # 3 + 2 x 0.131 + 0.25 of 3.5
    told, alone = fit(shape, DEVICES["pi5"], 1000, routes=3)["lines"], fit(shape, DEVICES["pi5"], 1000)["lines"]
    assert "  key-value caches   0.52 GB = 4 caches (3 routes + 1) x 2 x 32 layers x 8 heads x 128 x 2 bytes x 1000 tokens" in told
    assert "  key-value cache    0.13 GB = 2 x 32 layers x 8 heads x 128 x 2 bytes x 1000 tokens" in alone
    assert told[4].startswith("  needed             3.77 GB") and told[5] == alone[5]


def test_a_run_is_counted_as_it_is_served(tokenizer, tmp_path, monkeypatch, capsys):
    run = write_export(tmp_path / "run", tiny_model(), tokenizer, max_length=700)
    for folder in (run, run / "export"):
        code, out, _ = scion(monkeypatch, capsys, "fit", folder, "--no-measure", "-d", "pi4")
        assert code == 0 and "= 4 caches (3 routes + 1) x 2 x 4 layers x 2 heads x 8 x 4 bytes x 700 tokens" in out
    assert "x 512 tokens" in scion(monkeypatch, capsys, "fit", run, "--no-measure", "-d", "pi4", "--context", "512")[1]
    about = json.loads((run / "export/serving.json").read_text())
    (run / "export/serving.json").write_text(json.dumps(about | {"task": "gone"}))
    code, out, err = scion(monkeypatch, capsys, "fit", run, "--no-measure", "-d", "pi4")
    assert code == 0 and "one key-value cache is counted" in err and "task 'gone'" in err and "cache    " in out


def test_speed_is_scaled_by_the_share_of_the_bandwidth():
    shape = Shape("m", 1.0e9, 1, 1, 1)
    speed = Speed(tokens_per_second=6.0, bytes_per_token=1.0e9, bandwidth=10e9, threads=2)
    told = "\n".join(fit(shape, DEVICES["orin-nano"], 1, speed)["lines"])
    assert "at most            68.0 tokens/s" in told and "about              20.4 tokens/s" in told  # 68 x 0.5 x 0.6
    small = "\n".join(fit(Shape("m", 1e6, 1, 1, 1), DEVICES["pi4"], 1, speed)["lines"])
    assert "not estimated" in small


def test_measuring_gives_a_speed(file):
    speed = measure(file, tokens=8)
    assert speed.tokens_per_second > 0 and speed.bandwidth > 1e8 and 0 < speed.share <= 1


def test_the_command_on_a_file(file, monkeypatch, capsys):
    code, out, _ = scion(monkeypatch, capsys, "fit", file, "--no-measure")
    assert code == 0 and out.count(": fits") == len(DEVICES)


@pytest.mark.parametrize("given,said", [(["--params", "7X"], "--params 7X"), (["--params", "7B", "--kind", "q9"], "--kind q9"),
                                        ([], "name a run"),
                                        (["--params", "7B", "-d", "pi6"], "--device pi6: not known; did you mean"),
                                        (["/nowhere"], "no GGUF file")])
def test_mistakes_are_one_line(given, said, monkeypatch, capsys):
    code, _, err = scion(monkeypatch, capsys, "fit", *given)
    assert code == 2 and said in err and err.count("\n") == 1


def test_a_torn_file(file, tmp_path):
    torn = tmp_path / "torn.gguf"
    torn.write_bytes(file.read_bytes()[:40])
    with pytest.raises(UserError, match="torn.gguf"):
        shape_of(torn)


def test_sizes_of_shapes():
    assert shape_from("0.6b", "q8_0").bytes == pytest.approx(0.6e9 * 8.5 / 8)
