"""The cache keeps what fits, and nothing else; what it keeps it never drops."""

import threading
import types

import numpy as np
import pytest

from deeplab.data.image_cache import Decoded, ImageCache


def decoded(number, pixels=10):
    return Decoded(
        np.full((1, pixels, 3), number, np.uint8), np.zeros((1, pixels), np.uint8), b"name", np.array([1, pixels])
    )


def test_keeps_what_fits_and_drops_nothing():
    cache = ImageCache(100, count=4)  # two images of 40 bytes
    assert cache.find(0) is None and cache.has_room and not cache.is_complete
    cache.keep(7, decoded(7))
    cache.keep(7, decoded(8))  # an image that comes twice in an epoch
    assert cache.find(7).image[0, 0, 0] == 7 and cache.has_room
    cache.keep(1, decoded(1, pixels=1000))  # larger than all that is left: smaller ones still fit
    assert cache.find(1) is None and cache.has_room
    cache.keep(2, decoded(2))
    assert cache.find(2) is not None and not cache.has_room
    cache.keep(3, decoded(3))
    assert cache.find(3) is None and cache.find(7) is not None and not cache.is_complete


def test_is_complete_with_all_images():
    cache = ImageCache(1000, count=2)
    cache.keep(0, decoded(0))
    cache.keep(1, decoded(1))
    assert cache.is_complete


def test_several_threads_do_not_exceed_the_limit():
    cache = ImageCache(40 * 50, count=400)
    threads = [
        threading.Thread(target=lambda first=first: [cache.keep(first + n, decoded(n)) for n in range(100)])
        for first in range(0, 400, 100)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(cache.find(number) is not None for number in range(400)) == 50 and not cache.has_room


def test_the_images_are_gone_with_their_owner():
    cache, owner = ImageCache(1000, count=1), types.SimpleNamespace()
    cache.live_with(owner)
    cache.keep(0, decoded(0))
    assert cache.find(0) is not None and cache.is_complete and cache.has_room
    with pytest.raises(ValueError, match="read-only"):
        cache.find(0).image[:] = 1  # an operation that computes in place would change all later epochs
    del owner
    assert cache.find(0) is None and not cache.is_complete and not cache.has_room
    cache.keep(0, decoded(0))
    assert cache.find(0) is None
