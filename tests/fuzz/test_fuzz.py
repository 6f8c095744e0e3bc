"""Fuzzing in CI: at least 20,000 inputs, seeded; `python -m tests.fuzz` is the long run."""

from __future__ import annotations

import collections

import pytest

from deeplab.config.conversion_config import DrawnConfig
from deeplab.data.readers import FORMATS
from tests.fuzz.harness import Outcome, chance_of, run_target
from tests.fuzz.mutation import mutate_bytes, mutate_text, mutate_value
from tests.fuzz.targets import TARGETS

INPUTS = 39_300  # over all targets
SLOW = {
    "graphs": 600,
    "graph_nodes": 120,  # each in a child process
    "readers": 13_500,  # about 350 of each annotation file
    "rasters": 1500,
    "array_masks": 1800,
    "flags": 300,
    "records": 600,
    "checkpoints": 500,
    "foreign_weights": 1200,
    "archives": 1200,
    "volumes": 600,
    "tables": 600,
    "dicom": 400,
}  # inputs of targets that take milliseconds


def number_of_inputs(name: str) -> int:
    """How many inputs a target gets: a fixed number where one takes long, else its part of the rest."""
    if name in SLOW:
        return SLOW[name]
    fast = [each for each in TARGETS.values() if each.name not in SLOW]
    return int((INPUTS - sum(SLOW.values())) * TARGETS[name].weight / sum(each.weight for each in fast)) + 1


def test_there_are_enough_inputs():
    assert sum(map(number_of_inputs, TARGETS)) >= 20_000


@pytest.mark.parametrize(("name", "module"), [("volumes", "nibabel"), ("tables", "pyarrow"), ("dicom", "pydicom")])
def test_valid_inputs_of_extras_are_read_where_the_library_is_there(name, module):
    """Mutations of a valid input must get past the library, or fuzzing shows nothing."""
    pytest.importorskip(module, reason="its extra is not installed")
    outcome = run_target(name, seed=1, start=0, count=60)
    assert outcome.findings == [] and outcome.accepted > 2 and outcome.refused > 2


def test_every_annotation_file_gets_enough_inputs():
    from tests.fuzz.targets import annotation_files

    files = [(case.name, name) for case, names in annotation_files() for name in names]
    seen = collections.Counter(chance_of("readers", 0, index).choice(files) for index in range(SLOW["readers"]))
    assert set(seen) == set(files) and min(seen.values()) >= 300, seen
    drawn = {case.format for case, names in annotation_files() if names}
    assert all(name in drawn for name in FORMATS if issubclass(FORMATS.get(name).config, DrawnConfig))


@pytest.mark.slow
@pytest.mark.parametrize("name", TARGETS)
def test_every_input_is_read_or_refused(name):
    outcome: Outcome = run_target(name, seed=0, start=0, count=number_of_inputs(name), seconds=1800)
    assert outcome.findings == [], f"python -m tests.fuzz --target={name} --seed=0 --index={outcome.findings[0][0]}"
    assert (outcome.inputs == number_of_inputs(name) and outcome.refused > 0) or name == "json_state"


def test_mutations_differ_and_can_be_repeated():
    def mutations(index: int) -> list:
        chance = chance_of("x", 0, index)
        return [
            mutate_bytes(b"abcdef" * 9, chance),
            mutate_text("a: 1\nb: 2", chance),
            mutate_value({"a": [1]}, chance),
        ]

    assert repr(mutations(1)) == repr(mutations(1))
    assert len({repr(mutations(index)) for index in range(50)}) > 45


def test_the_harness_reports_tracebacks_hangs_and_crashes(monkeypatch):
    """The net must not have holes itself: three targets that misbehave on purpose."""
    from tests.fuzz import harness

    def run(body: str) -> list[str]:
        code = (
            "import tests.fuzz.targets as t, tests.fuzz.harness as h, os, signal, time\n"
            "h.SECONDS_PER_INPUT = 1\n"
            f"def read(chance):\n    {body}\n"
            "t.TARGETS['bad'] = h.Target('bad', lambda folder: read)\n"
            "h.work()"
        )
        real = harness.subprocess.run

        def patched(words, **options):
            return real([words[0], "-c", code, *words[3:]], **options)

        monkeypatch.setattr(harness.subprocess, "run", patched)
        kinds = [kind for _, kind, _ in run_target("bad", 0, 0, 2).findings]
        monkeypatch.setattr(harness.subprocess, "run", real)
        return kinds

    assert run("raise KeyError('x')") == ["traceback"] * 2
    assert run("os.kill(os.getpid(), signal.SIGSEGV)") == ["crash"] * 2
    assert run("time.sleep(5)") == ["hang"] * 2
