"""Looks for known vulnerabilities in the installed packages, with pip-audit.

Findings fail, except those in `IGNORED`, whose reasons are given there. A service that cannot be reached, and packages
that it does not know, are said and pass: whoever works offline can still run the checks.
"""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

SECONDS = 120
IGNORED: dict[str, str] = {}  # identifier of a finding -> why it does not matter here, and until which version


def findings(report: dict[str, Any]) -> list[str]:
    """One line per known vulnerability that is not ignored."""
    lines = []
    for package in report["dependencies"]:
        for entry in package.get("vulns", []):
            if not {entry["id"], *entry.get("aliases", [])} & set(IGNORED):
                fixed = ", ".join(entry.get("fix_versions", [])) or "no version yet"
                lines.append(f"{package['name']} {package['version']}: {entry['id']}, fixed in {fixed}")
    return lines


def unknown(report: dict[str, Any]) -> list[str]:
    """The packages about which the service says nothing."""
    return [package["name"] for package in report["dependencies"] if "skip_reason" in package]


def conclude(output: str, problem: str) -> tuple[int, str]:
    """The exit code, and what to print.

    Args:
      output: the JSON report of pip-audit; something else if it has failed.
      problem: the last line of its messages.
    """
    try:
        report = json.loads(output)
    except ValueError:
        return 0, f"pip-audit: not audited, the service cannot be reached: {problem}"
    found = findings(report)
    if found:
        return 1, "\n".join(["pip-audit: known vulnerabilities:", *found])
    number, skipped = len(report["dependencies"]), len(unknown(report))
    if number and skipped == number:
        return 0, "pip-audit: not audited, the service knows none of the packages: it cannot be reached"
    return 0, f"pip-audit: nothing known about {number - skipped} packages; {skipped} could not be audited"


def main() -> int:
    """Runs pip-audit on this environment; returns the exit code."""
    words = ["-m", "pip_audit", "--local", "--skip-editable", "--progress-spinner=off", "--timeout=10", "--format=json"]
    try:
        run = subprocess.run(
            [sys.executable, *words], capture_output=True, text=True, check=False, timeout=SECONDS, encoding="utf-8"
        )
        output, messages = run.stdout, run.stderr
    except subprocess.TimeoutExpired:
        output, messages = "", f"no answer within {SECONDS} seconds"
    code, text = conclude(output, (messages.strip().splitlines() or ["no reason given"])[-1])
    print(text, file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
