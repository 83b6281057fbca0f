"""The [teacher] table says plainly what it lacks, and never prints a key."""

import pytest

from scionwood.errors import UserError
from scionwood.settings import check
from scionwood.teaching.endpoint import Endpoint
from scionwood.teaching.settings import Teacher

HERE = {"base_url": "http://127.0.0.1:8080/v1/", "model": "m"}


def test_defaults():
    teacher = check({}, Teacher, "recipe.toml")
    assert (teacher.kind, teacher.temperature, teacher.weight, teacher.logits) == ("none", 1.0, 0.5, False)
    endpoint = check({"kind": "endpoint", "endpoint": HERE}, Teacher, "recipe.toml").endpoint
    assert endpoint.url() == "http://127.0.0.1:8080/v1/chat/completions"
    assert endpoint.extra == {"chat_template_kwargs": {"enable_thinking": False}} and endpoint.temperature == 0


def test_tables_of_other_kinds_may_stay():
    assert check({"kind": "recorded", "path": "a.jsonl", "endpoint": HERE, "model": "m"}, Teacher, "r").path == "a.jsonl"


@pytest.mark.parametrize(
    "table, says",
    [
        ({"kind": "endpoint"}, r"kind = 'endpoint' needs a table \[teacher.endpoint\]"),
        ({"kind": "local"}, "kind = 'local' needs a model"),
        ({"kind": "recorded"}, "kind = 'recorded' needs a path"),
        ({"kind": "recorded", "path": "a", "logits": True}, "logits = true needs kind = 'local'"),
        ({"kind": "oracle"}, "'none', 'endpoint', 'local' or 'recorded'"),
        ({"wieght": 0.5}, "did you mean 'weight'"),
        ({"weight": 2}, "weight = 2"),
        ({"endpoint": HERE | {"base_url": "127.0.0.1:8080"}}, "expected http://host:port/v1"),
        ({"endpoint": HERE | {"base_url": "http://h/v1/chat/completions"}}, "leave out /chat/completions"),
        ({"endpoint": HERE | {"base_url": "http://h:port/v1"}}, "endpoint.base_url"),
        ({"endpoint": HERE | {"extra": {"temperature": 1}}}, "'temperature' does not belong here"),
    ],
)
def test_mistakes_are_one_plain_line(table, says):
    with pytest.raises(UserError, match=says) as e:
        check(table, Teacher, "recipe.toml")
    assert "\n" not in str(e.value)


@pytest.mark.parametrize(
    "wrong",
    [
        {"api_key_env": "sk-SECRET"},
        {"base_url": "http://me:SECRET@host/v1"},
        {"base_url": "http://host/v1?key=SECRET"},
        {"api_key": "SECRET"},
    ],
)
def test_a_key_in_the_wrong_place_is_not_printed(wrong):
    with pytest.raises(UserError) as e:
        check(HERE | wrong, Endpoint, "recipe.toml")
    assert "SECRET" not in str(e.value) and "api_key_env" in str(e.value)


def test_the_named_variable_must_hold_a_key(monkeypatch):
    endpoint = Endpoint(**HERE, api_key_env="SCION_TEST_KEY")
    monkeypatch.delenv("SCION_TEST_KEY", raising=False)
    with pytest.raises(UserError, match="'SCION_TEST_KEY': the variable holds no key"):
        endpoint.api_key()
    monkeypatch.setenv("SCION_TEST_KEY", " abc\n")
    assert endpoint.api_key() == "abc"
