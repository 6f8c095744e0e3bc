"""The processor's instructions as Linux lists them, and systems that do not tell."""

import platform

import pytest

from deeplab.utils import processor


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "flags\t\t: fpu avx512_vnni avx2 unknown\nflags\t\t: avx512f\n",
            "avx2, avx512_vnni",
        ),
        ("Features\t: fp asimd asimddp\n", "asimd, asimddp"),
        ("processor\t: 0\n", ""),
    ],
    ids=["x86", "arm", "none"],
)
def test_known_instructions_are_listed(tmp_path, monkeypatch, text, expected):
    (tmp_path / "cpuinfo").write_text(text)
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "cpuinfo")
    assert ", ".join(processor.instructions()) == expected
    assert processor.describe() == (f"{platform.machine()}: {expected}" if expected else platform.machine())


def test_a_system_without_the_file(tmp_path, monkeypatch):
    monkeypatch.setattr(processor, "_CPUINFO", tmp_path / "none")
    assert processor.instructions() == ()
