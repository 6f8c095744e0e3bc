"""Members of volumes and tables, read as if they were files."""

import io

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data import containers
from deeplab.data.containers import expanded, read_content, split_member
from deeplab.data.readers.source import Pair


def write_volume(path, values, affine=None):
    nibabel = pytest.importorskip("nibabel", reason="the extra `medical` is not installed")
    nibabel.save(nibabel.Nifti1Image(values, np.eye(4) if affine is None else affine), path)
    return str(path)


def png(value):
    buffer = io.BytesIO()
    Image.fromarray(np.full((3, 4), value, np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.mark.parametrize("path", ["a.png", "a#b.png", "a.nii.gz", "a.nii.gz#axial", "a.zip#x/3", "a.parquet#image/x"])
def test_other_names_are_files(path):
    assert split_member(path) is None


def test_a_file_whose_name_looks_like_a_member_is_a_file(tmp_path):
    path = tmp_path / "a.parquet#image" / "3"
    assert split_member(str(path)) == (str(tmp_path / "a.parquet"), "image", 3)
    path.parent.mkdir()
    path.write_bytes(b"content")
    assert read_content(str(path)) == b"content"


class TestVolumes:
    VALUES = np.arange(2 * 3 * 4, dtype=np.int16).reshape(2, 3, 4)

    def read(self, path, part):
        return np.load(io.BytesIO(read_content(f"{path}#{part}")))

    def test_slices_look_the_same_however_the_volume_is_stored(self, tmp_path):
        upright = write_volume(tmp_path / "a.nii.gz", self.VALUES)
        turned = write_volume(tmp_path / "b.nii", self.VALUES[::-1, :, ::-1], np.diag([-1, 1, -1, 1]))
        for part in ("axial/3", "coronal/1", "sagittal/0"):
            np.testing.assert_array_equal(self.read(upright, part), self.read(turned, part))

    def test_the_front_is_up_and_the_right_side_is_left(self, tmp_path):
        path = write_volume(tmp_path / "a.nii", self.VALUES)  # RAS+: axes go to the right, to the front, and up
        axial = self.read(path, "axial/2")
        assert axial.shape == (3, 2) and axial[0, 0] == self.VALUES[1, 2, 2]  # the patient's right, in front
        coronal = self.read(path, "coronal/1")
        assert coronal.shape == (4, 2) and coronal[0, 0] == self.VALUES[1, 1, 3]  # the patient's right, at the top

    def test_pairs_of_volumes_become_pairs_of_slices(self, tmp_path):
        image, mask = (write_volume(tmp_path / name, self.VALUES) for name in ("a.nii", "b.nii"))
        pairs = expanded([Pair("x", "photo.png", "mask.png"), Pair("a", f"{image}#axial:3", f"{mask}#axial:3")])
        assert [pair.name for pair in pairs] == ["x", "a_0000", "a_0003"]
        assert (pairs[2].image, pairs[2].mask) == (f"{image}#axial/3", f"{mask}#axial/3")
        other = write_volume(tmp_path / "c.nii", self.VALUES[..., :2])
        with raises("size-mismatch", where="c.nii"):
            expanded([Pair("a", f"{image}#axial", f"{other}#axial")])

    def test_what_is_no_volume_is_named(self, tmp_path):
        path = write_volume(tmp_path / "a.nii", self.VALUES[0])
        with raises("unsupported-pixels", where="a.nii"):
            containers.volume_slices(path, "axial")
        (tmp_path / "b.nii.gz").write_bytes(b"no volume")
        with raises("unreadable-file", where="b.nii.gz"):
            containers.volume_slices(str(tmp_path / "b.nii.gz"), "axial")
        cut = write_volume(tmp_path / "c.nii", np.random.default_rng(0).random((9, 9, 9)))
        (tmp_path / "c.nii").write_bytes((tmp_path / "c.nii").read_bytes()[:900])
        with raises("unreadable-file", where="c.nii"):
            read_content(f"{cut}#axial/1")


class TestTables:
    @pytest.fixture
    def pyarrow(self):
        return pytest.importorskip("pyarrow", reason="the extra `hf` is not installed")

    def table(self, pyarrow, path):
        columns = {
            "image": [{"bytes": png(row), "path": f"{row}.png"} for row in range(5)],
            "mask": list(map(png, range(5))),
        }
        table = pyarrow.table(columns)
        if path.suffix == ".parquet":
            import pyarrow.parquet

            pyarrow.parquet.write_table(table, path, row_group_size=2)
        else:
            with pyarrow.OSFile(str(path), "wb") as file, pyarrow.ipc.new_stream(file, table.schema) as writer:
                writer.write_table(table)
        return str(path)

    @pytest.mark.parametrize("name", ["a.parquet", "a.arrow"])
    def test_cells_are_read_one_by_one(self, pyarrow, tmp_path, name):
        path = self.table(pyarrow, tmp_path / name)
        for row in (4, 0, 3):
            assert read_content(f"{path}#image/{row}") == read_content(f"{path}#mask/{row}") == png(row)

    def test_what_is_no_table_or_no_image_is_named(self, pyarrow, tmp_path):
        path = self.table(pyarrow, tmp_path / "a.parquet")
        with raises("unreadable-file", where="a.parquet"):
            read_content(f"{path}#image/5")
        with raises("unreadable-file", where="a.parquet"):
            read_content(f"{path}#photo/1")
        for name in ("b.parquet", "b.arrow"):
            (tmp_path / name).write_bytes(b"no table at all")
            with raises("unreadable-file", where=name):
                read_content(f"{tmp_path / name}#image/1")
        pyarrow.parquet.write_table(pyarrow.table({"image": [3]}), tmp_path / "c.parquet")
        with raises("unreadable-image", where="c.parquet"):
            read_content(f"{tmp_path / 'c.parquet'}#image/0")
