"""Pairs in the compact form are the same pairs, in a tenth of the memory."""

import pickle
import tracemalloc

import pytest

from deeplab.data.readers.packed_pairs import PackedPairs, chosen, packed
from deeplab.data.readers.source import Pair

PAIRS = [
    Pair("a", "images/a.jpg", "masks/a.png"),
    Pair("b", "images/b.jpg", "masks/b.png"),
    Pair("b", "images/b.jpg", "elsewhere/other.png"),
    Pair("s/a", "images/s/a.jpg", "masks/s/a_mask.png"),
    Pair("a", "a/a/a.a.jpg", "a"),
    Pair("é", "images/e\u0301.jpg", "masks/é.png"),
    Pair("no\udcffutf", "images/no\udcffutf.jpg", "masks/no\udcffutf.png"),
    Pair("", "images/x.jpg", ""),
]


def test_pairs_are_read_as_they_were():
    found = PackedPairs(iter(PAIRS))
    assert len(found) == len(PAIRS) and list(found) == PAIRS and found == PAIRS and tuple(PAIRS) == found
    assert found != PAIRS[1:] and found != 3
    assert [found[place] for place in (0, 3, -1)] == [PAIRS[place] for place in (0, 3, -1)]
    with pytest.raises(IndexError):
        found[len(PAIRS)]


@pytest.mark.parametrize("part", [slice(None), slice(2), slice(1, None, 2), slice(None, None, -1), slice(9, 12)])
def test_parts_of_parts(part):
    found = PackedPairs(PAIRS)[1:][part]
    assert isinstance(found, PackedPairs) and list(found) == PAIRS[1:][part]
    assert list(found[:2]) == PAIRS[1:][part][:2]


@pytest.mark.parametrize("form", [list, PackedPairs])
def test_chosen_pairs_keep_order_and_form(form):
    found = chosen(form(PAIRS), [4, 0, 4])
    assert isinstance(found, form) and list(found) == [PAIRS[4], PAIRS[0], PAIRS[4]]
    assert list(chosen(form(PAIRS), [])) == list(chosen(form([]), [])) == []


def test_only_pairs_of_whole_files_are_packed():
    assert isinstance(packed(PAIRS), PackedPairs) and list(packed(PAIRS)) == PAIRS
    already = PackedPairs(PAIRS)
    assert packed(already) is already
    for other in (Pair("a", "a.jpg", object()), Pair("a", "a.tif", "a.png", window=(0, 0, 4, 4))):
        mixed = [*PAIRS, other]
        assert packed(mixed) is mixed


def test_they_reach_other_processes():
    assert pickle.loads(pickle.dumps(PackedPairs(PAIRS)[2:])) == PAIRS[2:]


def test_what_a_pair_takes():
    tracemalloc.start()
    try:
        found = PackedPairs(
            Pair(f"image_{i:07d}", f"/data/images/image_{i:07d}.jpg", f"/data/m/image_{i:07d}.png") for i in range(5000)
        )
        size = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert size / len(found) < 40  # bytes
