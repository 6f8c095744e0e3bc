"""Core ML packages: what is in them. They cannot be run here. Most tests need the extra coreml."""

import json
import sys

import pytest
from support.errors import raises
from support.export_battery import CLASSES, export

from deeplab.export.formats import FORMATS

MISSING = ", ".join(FORMATS.get("coreml").missing())


@pytest.fixture(scope="module")
def exported(live_model, tmp_path_factory):
    """The outcome of an export of both variants, and its folder."""
    folder = tmp_path_factory.mktemp("coreml")
    return export(live_model, folder, formats=("coreml", "coreml_int8"), parity_images=1, measure_time=True), folder


@pytest.mark.skipif(bool(MISSING), reason=f"the extra coreml is not installed: {MISSING}")
class TestCoreML:
    @pytest.mark.parametrize("name", ["model.mlpackage", "model_int8.mlpackage"])
    def test_the_interface_is_an_image_and_labels(self, exported, name):
        import coremltools

        model = coremltools.models.MLModel(str(exported[1] / name), skip_model_load=True)
        (image,), (labels,) = model.get_spec().description.input, model.get_spec().description.output
        assert (image.name, labels.name) == ("image", "SemanticPredictions")
        assert (image.type.imageType.height, image.type.imageType.width) == (65, 97)
        assert list(labels.type.multiArrayType.shape) == [1, 65, 97]
        described = json.loads(model.user_defined_metadata["deeplab"])
        assert described["classes"] == list(CLASSES.names)
        operations = {
            operation.type
            for function in model.get_spec().mlProgram.functions.values()
            for block in function.block_specializations.values()
            for operation in block.operations
        }
        assert "conv" in operations and not operations & {"space_to_batch", "space_to_depth", "batch_norm"}

    def test_weights_are_smaller_in_int8(self, exported):
        sizes = [
            sum(file.stat().st_size for file in (exported[1] / name).rglob("weight.bin"))
            for name in ("model.mlpackage", "model_int8.mlpackage")
        ]
        assert sizes[1] < 0.7 * sizes[0]

    def test_the_report_says_that_they_were_not_run(self, exported):
        result, folder = exported
        assert [row.agreement for row in result.rows[1:]] == [None, None] and not result.parity
        assert "not run" in (folder / "export_report.md").read_text()
        assert json.loads((folder / "metadata.json").read_text())["files"]["model.mlpackage"]["label_agreement"] is None

    def test_a_package_is_replaced(self, live_model, exported):
        path = exported[1] / "model.mlpackage"
        assert FORMATS.get("coreml").is_export(str(path))
        export(live_model, path, formats=("coreml",), parity_images=1)
        assert path.is_dir()


def test_a_missing_library_is_named(live_model, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "coremltools", None)
    assert FORMATS.get("coreml").missing() == {"coremltools": "coreml"}
    with raises("missing-library", where="coremltools") as caught:
        export(live_model, tmp_path, formats=("coreml",), parity_images=1)
    assert "[coreml]" in caught.value.hint and list(tmp_path.iterdir()) == []


def test_a_package_of_another_program_is_not_replaced(live_model, tmp_path):
    folder = tmp_path / "model.mlpackage" / "Data" / "com.apple.CoreML"
    folder.mkdir(parents=True)
    (folder.parents[1] / "Manifest.json").write_text("{}")
    (folder / "model.mlmodel").write_bytes(b"a classifier")
    with raises("would-overwrite", where="model.mlpackage"):
        export(live_model, tmp_path, formats=("coreml",), parity_images=1, overwrite=True)
    assert (folder / "model.mlmodel").read_bytes() == b"a classifier"
    (folder / "model.mlmodel").write_bytes(b"... SemanticPredictions ...")
    assert FORMATS.get("coreml").is_export(str(tmp_path / "model.mlpackage"))
