"""Who says how good an answer is: marks of a real server on loopback, a reward model from a folder."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from scionwood.errors import UserError
from scionwood.tasks.lantern.judging import open_marker, quality_of
from scionwood.tasks.lantern.settings import Quality


@pytest.mark.parametrize("text, quality", [
    ("10", 1), ("1", 0), (" 7.\n", 6 / 9), ("**4**", 3 / 9), ("I give it an 8", 7 / 9), ("8, so 8", 7 / 9), ("", 0), ("good", 0),
    ("between 3 and 5", 0), ("0", 0), ("11", 0), ("7.5", 0), ("100", 0), ("8 of 10", 0)])
def test_a_mark_is_one_whole_number(text, quality):
    assert quality_of(text) == pytest.approx(quality)


@given(st.text(max_size=40))
def test_any_reply_has_a_quality(text):
    assert 0 <= quality_of(text) <= 1


@pytest.fixture
def server():
    class Handler(BaseHTTPRequestHandler):
        asked = []
        say = staticmethod(lambda prompt: (200, "10" if "splendid" in prompt else "1"))

        def log_message(self, *args):
            pass

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            Handler.asked.append(body["messages"][0]["content"])
            status, text = Handler.say(Handler.asked[-1])
            data = json.dumps({"choices": [{"message": {"role": "assistant", "content": text}, "finish_reason": "stop"}],
                               "usage": {"prompt_tokens": 1, "completion_tokens": 1}}).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=http.serve_forever, args=(0.02,), daemon=True).start()
    Handler.url = f"http://127.0.0.1:{http.server_port}/v1"
    yield Handler
    http.shutdown()
    http.server_close()


def judge(server, folder):
    endpoint = {"base_url": server.url, "model": "m", "retries": 1, "backoff_s": 0.01}
    return open_marker(Quality.model_validate({"kind": "judge", "endpoint": endpoint}), 60, folder / "marks.jsonl", str)


def test_marks_come_from_the_endpoint_and_are_asked_once(server, tmp_path):
    answers = [["splendid", "poor"], ["splendid words"]]
    marker = judge(server, tmp_path)
    assert marker.marks(["Why?", "How?"], answers) == [[1, 0], [1]] and len(server.asked) == 3 and marker.name == "m"
    assert any("cut at 60 words" in a and "Why?" in a and "poor" in a for a in server.asked)
    assert judge(server, tmp_path).marks(["Why?", "How?"], answers) == [[1, 0], [1]] and len(server.asked) == 3, "the journal answers"


def test_a_judge_that_cannot_be_reached_stops_and_what_it_said_is_kept(server, tmp_path):
    server.say = staticmethod(lambda prompt: (500, "") if "second" in prompt else (200, "10"))
    with pytest.raises(UserError, match=r"judge m: 1 of 2 answers got no mark .*; run it again, marks.jsonl keeps the others"):
        judge(server, tmp_path).marks(["Why?"], [["first", "second"]])
    server.say = staticmethod(lambda prompt: (200, "1"))
    assert judge(server, tmp_path).marks(["Why?"], [["first", "second"]]) == [[1, 0]]


@pytest.mark.parametrize("labels", [1, 2])
def test_a_reward_model_reads_prompt_and_answer(labels, tmp_path, tokenizer):
    from transformers import Qwen3Config, Qwen3ForSequenceClassification

    torch.manual_seed(0)
    config = Qwen3Config(vocab_size=8192, hidden_size=32, intermediate_size=64, num_hidden_layers=1, num_attention_heads=4,
                         num_key_value_heads=2, head_dim=8, initializer_range=0.3, num_labels=labels, pad_token_id=0)
    Qwen3ForSequenceClassification(config).save_pretrained(tmp_path / "reward")
    tokenizer.save_pretrained(tmp_path / "reward")
    quality = Quality(kind="reward", model="reward")
    if labels == 2:
        with pytest.raises(UserError, match="not a reward model with one stored output"):
            open_marker(quality, 60, tmp_path / "x", lambda name: str(tmp_path / name))
        return
    marker = open_marker(quality, 60, tmp_path / "x", lambda name: str(tmp_path / name))
    got = marker.marks(["Why?", "How?"], [["because", "no"], ["because"]])
    assert all(0 < q < 1 for row in got for q in row) and len({q for row in got for q in row}) == 3
    assert marker.marks(["Why?"], [["because"]])[0][0] == got[0][0]


def test_coherence_needs_nobody(tmp_path):
    assert open_marker(Quality(), 60, tmp_path, str) is None
    with pytest.raises(UserError, match="no such folder"):
        open_marker(Quality(kind="reward", model="./nowhere"), 60, tmp_path, str)
