"""The server keeps to its own OpenAPI document, whatever schemathesis makes of it: legal requests, and requests that are not."""

import httpx
import pytest
from hypothesis import HealthCheck, Phase, given, settings

from serving_live import SlowModel, live, until
from scionwood.task import load_task

schemathesis = pytest.importorskip("schemathesis", reason="schemathesis is not installed (pip install 'scionwood[test]')")
from schemathesis import GenerationMode, checks  # noqa: E402

checks.load_all_checks()
NAMES = ("not_a_server_error", "status_code_conformance", "content_type_conformance", "response_schema_conformance",
         "allow_header_conformance")
CHECKS = [checks.CHECKS.get_one(name) for name in NAMES]


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_every_operation_keeps_to_the_document(tmp_path, mode):
    task = load_task("cerebellum")
    seen = []
    with live(tmp_path, task, SlowModel(task)) as server:
        until(server.sidecar.is_ready)
        document = httpx.get(f"{server.url}/openapi.json").json()
        schema = schemathesis.openapi.from_dict(document)
        for operation in (o.ok() for o in schema.get_all_operations()):
            if mode == GenerationMode.NEGATIVE and not operation.body:
                continue  # nothing in it could be wrong

            @settings(max_examples=15, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck))
            @given(case=operation.as_strategy(generation_mode=mode))
            def one(case):
                response = case.call(base_url=server.url)
                seen.append((operation.path, response.status_code))
                case.validate_response(response, checks=CHECKS)

            one()
    answered = {path for path, code in seen if code == 200}
    assert len(seen) >= 60 and not any(code >= 500 for _, code in seen)
    if mode == GenerationMode.POSITIVE:
        assert answered >= {"/v1/classify", "/v1/memorize", "/v1/chat/completions", "/v1/models", "/metrics"}
    else:
        assert {code for _, code in seen} & {400, 422}
