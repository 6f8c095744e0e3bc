"""The server does what its OpenAPI description says, whatever is sent. Needs the package schemathesis."""

import pytest
from support.threshold_predictor import ByRed

schemathesis = pytest.importorskip("schemathesis", reason="needs pip install schemathesis")
pytest.importorskip("fastapi", reason="needs the extra serve")
from schemathesis.checks import not_a_server_error  # noqa: E402
from schemathesis.specs.openapi import checks  # noqa: E402

from deeplab.serving import app as application  # noqa: E402

APP = application.create({"model": "made", "max_megapixels": 1}, [ByRed()])
schema = schemathesis.openapi.from_asgi("/openapi.json", APP)
CHECKS = [
    not_a_server_error,
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
]


@schema.parametrize()
def test_every_answer_is_described(case):
    case.call_and_validate(checks=CHECKS)
