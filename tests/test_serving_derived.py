"""A stranger's task has typed routes without a word about serving; whatever comes is answered or refused in one line."""

import json

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from scionwood.errors import UserError
from scionwood.secrets import holds_secret
from scionwood.serving.derived import LONGEST
from scionwood.serving.routes import Route, routes_of
from scionwood.systems.base import ERROR, TIMEOUT, Prediction
from scionwood.task import Case, Invalid, JsonSchema
from serving_live import SlowModel, live, until
from tiny_flow import COLOURS, TinyTask

SECRET = "Gl0xinia!7"


class Plain(TinyTask):
    """Like a task that ``scion new`` writes: a summary, a default, one input field."""

    summary = "name the colour"

    def default(self, case):
        return "red"


class Rich(TinyTask):
    """Two jobs, inputs of several kinds, JSON as an answer, and keys that are no Python names."""

    INPUTS = [{"text": "a", "n": 1, "class": "x", "model_x": True, "tags": ["a"], "meta": {"k": 1}},
              {"text": "b", "n": 1.5, "class": None, "model_x": False, "tags": [], "meta": {}, "_odd key": "only here"}]

    def cases(self, split):
        first = [Case(f"{split}-{i}", "s", "Count things", given, {"n": i}) for i, given in enumerate(self.INPUTS)]
        return first + [Case(f"{split}-c", "s", "colour", {"text": "x"}, "red")]

    def messages(self, case):
        return [{"role": "user", "content": case.input["text"] + json.dumps(case.input)}]

    def constraint(self, case):
        number = JsonSchema({"type": "object", "properties": {"n": {"type": "integer"}}})
        return super().constraint(case) if case.job == "colour" else number

    def parse(self, case, text):
        if case.job == "colour":
            return super().parse(case, text)
        try:
            return json.loads(text)
        except ValueError:
            return Invalid("not JSON")


class NoData(Plain):
    def cases(self, split):
        raise UserError("data: no such folder")


def test_one_job_one_route_with_its_labels_as_an_enumeration():
    (route,) = routes_of(Plain())
    assert (route.name, route.summary) == ("colour", "name the colour") and route.example == Plain().cases("test")[0].input
    assert route.request.model_json_schema()["properties"]["text"]["type"] == "string"
    assert route.response.model_json_schema()["properties"]["answer"]["enum"] == list(COLOURS)
    asked = route.read({"text": "x"})
    (case,) = route.cases(asked, "r")
    assert Plain().messages(case) == Plain().messages(Case("t", "s", "colour", {"text": "x"}, None))
    assert route.respond(asked, [Prediction("r", "blue", "blue", confidence=0.7, latency_ms=1.0)], "abc") == {
        "status": "ok", "degraded": False, "answer": "blue", "confidence": 0.7, "latency_ms": 1.0, "model_rev": "abc"}
    late = route.respond(asked, [Prediction("r", status=TIMEOUT, reason="late")], "abc")
    assert late["answer"] == "red" and late["degraded"] and late["reason"] == "late"
    for response in (late,):
        route.response.model_validate(response)


def test_each_job_has_a_route_and_each_key_the_types_that_were_seen():
    routes = {r.name: r for r in routes_of(Rich())}
    assert set(routes) == {"count-things", "colour"}
    schema = routes["count-things"].request.model_json_schema(by_alias=True)
    assert set(schema["required"]) == {"text", "n", "class", "model_x", "tags", "meta"} and "_odd key" in schema["properties"]
    assert schema["properties"]["n"]["type"] == "number"
    assert {t["type"] for t in schema["properties"]["class"]["anyOf"]} == {"string", "null"}
    read = routes["count-things"].read
    assert read(Rich.INPUTS[0]) == Rich.INPUTS[0] and read(Rich.INPUTS[1]) == Rich.INPUTS[1]
    for change, says in (({"text": 7}, "'text'"), ({"extra": 1}, "unknown key 'extra'"), ({"text": "x" * (LONGEST + 1)}, "'text'"),
                         ({"tags": ["\ud800"]}, "surrogate"), ({"tags": [1] * 101}, "'tags'"),
                         ({SECRET + ": password is h1dden-9x": 1}, "unknown key")):
        with pytest.raises(UserError, match=says) as e:
            read(Rich.INPUTS[0] | change)
        assert "h1dden" not in str(e.value)
    with pytest.raises(UserError, match="key 'meta' is missing"):
        read({k: v for k, v in Rich.INPUTS[0].items() if k != "meta"})


def test_without_data_on_this_machine_the_form_is_free_and_the_prompt_decides():
    (route,) = routes_of(NoData())
    assert route.name == "answer" and not route.example
    assert route.cases(route.read({"text": "x"}), "r")[0].input == {"text": "x"}
    with pytest.raises(UserError, match="cannot make a prompt of this .KeyError.") as e:
        route.cases(route.read({"password": SECRET}), "r")
    assert SECRET not in str(e.value)


def nested(depth):
    value = "x"
    for _ in range(depth):
        value = [value]
    return value


JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(st.characters()),
                    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4), max_leaves=8)
INPUT = st.dictionaries(st.sampled_from(["text", "n", "class", "model_x", "tags", "meta", "_odd key", "other"]), JSON)


@settings(max_examples=150, deadline=None)
@given(st.sampled_from([Plain(), Rich(), NoData()]), JSON | INPUT | st.builds(lambda i: Rich.INPUTS[0] | i, INPUT))
def test_whatever_comes_is_answered_or_refused_in_one_line(task, value):
    for route in routes_of(task):
        try:
            asked = route.read(value)
            (case,) = route.cases(asked, "r")
        except UserError as e:
            assert "\n" not in str(e)
            str(e).encode()
            continue
        response = route.respond(asked, [Prediction(case.id, status=ERROR)], "abc")
        route.response.model_validate(json.loads(json.dumps(response)))
        holds_secret(asked)


def test_depth_is_bounded():
    (route,) = routes_of(NoData())
    with pytest.raises(UserError, match="nested deeper"):
        route.read({"text": nested(40)})


@pytest.mark.parametrize("names", [["chat"], ["results"], ["Bad Name"], ["a", "a"], [""]])
def test_names_that_cannot_be_routes_are_one_line(names):
    class Named(Plain):
        def routes(self):
            return [Route(n, "", BaseModel, BaseModel, dict, list, dict) for n in names]

    with pytest.raises(UserError, match="route"):
        routes_of(Named())


def test_a_strangers_task_is_served(tmp_path):
    task = Rich()
    with live(tmp_path, task, SlowModel(task)) as server:
        until(server.sidecar.is_ready)
        got = httpx.post(f"{server.url}/v1/colour", json={"text": "the barn is red"}).json()
        assert got["status"] == "ok" and got["answer"] in COLOURS
        assert httpx.post(f"{server.url}/v1/count-things", json=Rich.INPUTS[1]).json()["answer"] == {"n": 1}
        assert httpx.post(f"{server.url}/v1/count-things", json={"text": "x"}).status_code == 422
        server.model.held.clear()
        body = Rich.INPUTS[0] | {"meta": {"password": SECRET}}
        late = httpx.post(f"{server.url}/v1/count-things", json=body, headers={"X-Deadline-Ms": "20"}).json()
        server.model.held.set()
        until(lambda: httpx.get(f"{server.url}/v1/results/{late['result_id']}").json()["state"] == "done")
        paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
        assert {"/v1/colour", "/v1/count-things"} <= set(paths)
        assert httpx.get(f"{server.url}/docs").status_code == 200
    assert SECRET.encode() not in b"".join(p.read_bytes() for p in (tmp_path / "state").iterdir())
