"""The look for known vulnerabilities: findings fail, an unreachable service passes and is said."""

import importlib.util
import json
import pathlib

import pytest

PATH = pathlib.Path(__file__).parents[1] / ".ci" / "audit.py"
FOUND = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2.1"]}


@pytest.fixture
def audit():
    spec = importlib.util.spec_from_file_location("audit", PATH)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def report(*vulnerabilities):
    return json.dumps(
        {
            "dependencies": [
                {"name": "good", "version": "1", "vulns": []},
                {"name": "other", "version": "2", "vulns": list(vulnerabilities)},
                {"name": "private", "skip_reason": "not found"},
            ]
        }
    )


def test_findings_fail(audit):
    code, text = audit.conclude(report(FOUND), "")
    assert code == 1 and "other 2: PYSEC-1, fixed in 2.1" in text


def test_nothing_found(audit):
    code, text = audit.conclude(report(), "")
    assert code == 0 and "nothing known about 2 packages; 1 could not be audited" in text


@pytest.mark.parametrize("name", ["PYSEC-1", "CVE-1"])
def test_ignored_findings_pass_and_others_do_not(audit, monkeypatch, name):
    monkeypatch.setitem(audit.IGNORED, name, "it needs a file that we never read")
    assert audit.conclude(report(FOUND), "")[0] == 0
    assert audit.conclude(report(FOUND, {"id": "PYSEC-2"}), "")[0] == 1


def test_every_ignored_finding_has_a_reason(audit):
    assert all(len(reason) > 20 for reason in audit.IGNORED.values())


@pytest.mark.parametrize("output", ["", "Traceback", json.dumps({"dependencies": [{"name": "a", "skip_reason": "x"}]})])
def test_an_unreachable_service_passes_and_is_said(audit, output):
    code, text = audit.conclude(output, "connection refused")
    assert code == 0 and "not audited" in text
