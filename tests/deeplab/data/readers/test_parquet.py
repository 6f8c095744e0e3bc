"""Tables of Hugging Face datasets: columns, splits and names; no pixel is read."""

import pytest
from support.errors import raises

from deeplab.data.readers.parquet import BuildParquetConfig, read_parquet

parquet = pytest.importorskip("pyarrow.parquet", reason="the extra `hf` is not installed")


def write(path, paths, **columns):
    import pyarrow

    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [{"bytes": b"x", "path": name} for name in paths]
    parquet.write_table(pyarrow.table({"image": cells, "annotation": cells, **columns}), path)


def names(config):
    return {split: [pair.name for pair in pairs] for split, pairs in read_parquet(config).splits.items()}


def test_splits_are_those_of_the_files(tmp_path):
    write(tmp_path / "data" / "train-00000-of-00002.parquet", ["a.jpg", "b.jpg"])
    write(tmp_path / "data" / "train-00001-of-00002.parquet", ["c.jpg"])
    write(tmp_path / "data" / "validation-00000-of-00001.parquet", ["d.jpg"])
    assert names(BuildParquetConfig(str(tmp_path))) == {"train": ["a", "b", "c"], "val": ["d"]}
    (pair,) = read_parquet(BuildParquetConfig(str(tmp_path))).splits["val"]
    file = str(tmp_path / "data" / "validation-00000-of-00001.parquet")
    assert (pair.image, pair.mask) == (f"{file}#image/0", f"{file}#annotation/0")
    named = BuildParquetConfig(f"train:{file}")
    assert names(named) == {"train": ["d"]}


def test_names_that_are_missing_or_repeated_get_numbers(tmp_path):
    write(tmp_path / "a.parquet", ["x.png", None, "x.png"])
    assert names(BuildParquetConfig(str(tmp_path / "a.parquet"))) == {"": ["000000_x", "000001_a_000001", "000002_x"]}


def test_columns_that_do_not_exist_are_named(tmp_path):
    write(tmp_path / "a.parquet", ["x.png"])
    for field in ("image_column", "mask_column"):
        with raises("unknown-name", field) as error:
            read_parquet(BuildParquetConfig(str(tmp_path), **{field: "imgae"}))
        assert "image" in error.value.hint


def test_what_is_no_table_is_named(tmp_path):
    with raises("file-not-found", where="gone.parquet"):
        read_parquet(BuildParquetConfig(str(tmp_path / "gone.parquet")))
    with raises("no-files", where=str(tmp_path)):
        read_parquet(BuildParquetConfig(str(tmp_path)))
    (tmp_path / "a.parquet").write_bytes(b"PAR1 and no table")
    with raises("unreadable-file", where="a.parquet"):
        read_parquet(BuildParquetConfig(str(tmp_path)))
