"""Inflating and checksums: the same results with and without zlib-ng."""

import importlib
import sys
import zlib

import numpy as np
import pytest

from deeplab.utils import fast_zlib

DATA = np.random.default_rng(0).integers(0, 5, 100_000, np.uint8).tobytes()


@pytest.fixture(params=["zlib-ng", "zlib"])
def library(request, monkeypatch):
    """The module with each of the two libraries."""
    if request.param == "zlib":
        monkeypatch.setitem(sys.modules, "zlib_ng.zlib_ng", None)
    else:
        pytest.importorskip("zlib_ng")
    yield importlib.reload(fast_zlib)
    monkeypatch.undo()
    importlib.reload(fast_zlib)


def test_checksums_are_those_of_zlib(library):
    for size in (0, 1, 7, 5552, 100_000):
        assert library.crc32(DATA[:size]) == zlib.crc32(DATA[:size])
        assert library.adler32(DATA[:size]) == zlib.adler32(DATA[:size])


def test_inflates_no_more_than_is_asked_for(library):
    inflater = library.decompressobj()
    assert inflater.decompress(zlib.compress(DATA), 1000) == DATA[:1000]
    assert not inflater.eof
    whole = library.decompressobj()
    assert whole.decompress(zlib.compress(DATA) + b"rest") == DATA
    assert whole.eof
    assert whole.unused_data == b"rest"


def test_damage_raises_its_error(library):
    with pytest.raises(library.ZlibError):
        library.decompressobj().decompress(b"no zlib at all")
    stream = bytearray(zlib.compress(DATA))
    stream[-1] ^= 1
    with pytest.raises(library.ZlibError):
        library.decompressobj().decompress(bytes(stream))
