"""MNN files as Predictors. Most tests need the extra mnn."""

import sys
import zipfile

import pytest
from support.errors import raises
from support.export_battery import export
from support.runtime_battery import IMAGE, RuntimeBattery
from support.small_exports import make_balanced_network, make_settings

from deeplab.export.formats import FORMATS
from deeplab.inference.fixed_size import FixedInput
from deeplab.inference.load import load

MISSING = ", ".join(FORMATS.get("mnn").missing())


@pytest.mark.skipif(bool(MISSING), reason=f"the extra mnn is not installed: {MISSING}")
class TestBattery(RuntimeBattery):
    name = "mnn"

    @pytest.fixture(scope="class")
    def path(self, tmp_path_factory):
        folder = tmp_path_factory.mktemp("mnn")
        export(make_balanced_network(IMAGE), folder, formats=("mnn",), parity_images=1)
        return str(folder / "model.mnn")


def test_files_of_other_programs(tmp_path):
    (tmp_path / "m.mnn").write_text("mine")
    with raises("not-a-deeplab-model", where="m.mnn"):
        load(tmp_path / "m.mnn")


def test_a_missing_extra_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "MNN", None)
    fixed = FixedInput((9, 9), (127.5,), make_settings().resize)
    with zipfile.ZipFile(tmp_path / "m.mnn", "w") as archive:
        archive.writestr("deeplab.json", fixed.to_json())
    with raises("missing-library", where="MNN") as caught:
        load(tmp_path / "m.mnn")
    assert "[mnn]" in caught.value.hint
