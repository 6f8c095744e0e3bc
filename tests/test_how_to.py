"""The pages on adding one's own: their code runs, from top to bottom, in a process of its own."""

import json
import os
import pathlib
import re
import subprocess
import sys

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PAGES = ["add_a_loss", "add_an_augmentation", "add_a_reader", "add_an_export_format"]


def code_of(page: str) -> str:
    text = (ROOT / "docs" / f"{page}.md").read_text(encoding="utf-8")
    return "\n\n".join(re.findall(r"^```python\n(.*?)^```", text, re.M | re.S))


RUN = """
import json, os, sys
for page, code in json.load(sys.stdin).items():
    os.makedirs(page)
    os.chdir(page)
    exec(compile(code, page, "exec"), {"__name__": page})
    os.chdir("..")
    print(page, flush=True)
"""


@pytest.mark.slow
def test_the_code_runs(tmp_path):
    """All pages in one process, because TensorFlow takes seconds to start."""
    codes = {page: code_of(page) for page in PAGES}
    assert all("assert " in code for code in codes.values())
    words, environment = [sys.executable, "-c", RUN], {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(words, input=json.dumps(codes), cwd=tmp_path, env=environment, capture_output=True, text=True)
    ran = [line for line in done.stdout.splitlines() if line in PAGES]
    assert done.returncode == 0 and ran == PAGES, done.stderr
