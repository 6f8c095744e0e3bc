"""Images in two splits, or twice in one."""

import io
import tracemalloc

import cv2
import numpy as np
import pytest
from PIL import Image
from support.disc_files import draw, encoded, only

from deeplab.config.conversion_config import MAX_LEAK
from deeplab.config.validation_config import CheckConfig
from deeplab.data import records
from deeplab.data.validation import analysis, duplicates, subject
from deeplab.data.validation.thumbnails import small_gray


def copy(discs, source, target):
    discs.image(target).write_bytes(discs.image(source).read_bytes())
    discs.mask(target).write_bytes(discs.mask(source).read_bytes())


def test_a_name_in_two_splits(discs):
    discs.names["val"].append("a3")
    (found,) = only(discs.check(), "name-in-two-splits")
    assert (found.where, found.severity) == ("a3", "warning")
    assert found.text == "is in split 'train' and in 'val'"


def test_more_than_a_few_images_in_two_splits_are_an_error(discs):
    copies = discs.names["train"][: MAX_LEAK + 1]
    discs.names["val"] = copies[:MAX_LEAK]
    assert {item.severity for item in discs.check().findings if item.rule == "name-in-two-splits"} == {"warning"}
    discs.names["val"] = copies
    report = discs.check()
    assert {item.severity for item in report.findings if item.rule == "name-in-two-splits"} == {"error"}
    assert report.numbers["name-in-two-splits"] == MAX_LEAK + 1 and not report.may_train


def test_trainval_holds_both_on_purpose(discs):
    discs.names["trainval"] = [*discs.names["train"], *discs.names["val"]]
    assert discs.check().findings == []


def test_a_name_twice_in_a_list(discs):
    discs.names["train"].append("a3")
    (found,) = only(discs.check(), "name-repeated")
    assert found.where == "a3"


def test_the_same_file_in_two_splits(discs):
    copy(discs, "a3", "b1")
    (found,) = only(discs.check(), "image-in-two-splits")
    assert (found.where, found.split) == ("b1", "val")
    assert found.text == "is the same file, byte for byte, as 'a3' in train"


def test_the_same_file_twice_in_a_split(discs):
    copy(discs, "a3", "a6")
    (found,) = only(discs.check(), "image-repeated")
    assert (found.where, found.split) == ("a6", "train")
    assert found.text == "is the same file, byte for byte, as 'a3' in train"


def test_one_image_with_two_labels(discs):
    discs.image("a6").write_bytes(discs.image("a3").read_bytes())
    assert {item.rule for item in discs.check().findings} == {"image-repeated", "same-image-other-label"}


CHANGES = {
    "saved anew": lambda image: image,
    "smaller": lambda image: image.resize((image.width * 2 // 3, image.height * 2 // 3), Image.Resampling.BOX),
    "squeezed": lambda image: image.resize((image.height, image.height), Image.Resampling.BICUBIC),
    "brighter": lambda image: image.point(lambda value: min(255, int(1.1 * value))),
    "gray": lambda image: image.convert("L"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_nearly_the_same_image_in_two_splits(discs, change):
    image = CHANGES[change](Image.fromarray(draw(3)[0]))
    discs.image("b1").write_bytes(encoded(image, "jpeg", quality=60))
    discs.mask("b1").write_bytes(encoded(np.zeros((image.height, image.width), np.uint8)))
    found = [item for item in discs.check().findings if item.rule == "near-duplicate-in-two-splits"]
    assert [item.where for item in found] == ["b1"]
    assert found[0].text.startswith("is nearly the same as 'a3' in train: their thumbnails differ by ")


def save_again(discs, pairs, kind="jpeg", change=lambda image: image):
    for source, target in pairs:
        image = change(Image.open(io.BytesIO(discs.image(source).read_bytes())).convert("RGB"))
        discs.image(target).write_bytes(encoded(image, kind, **({"quality": 85} if kind == "jpeg" else {})))


def near_duplicates(report):
    return [item for item in report.findings if item.rule == "near-duplicate-in-two-splits"]


@pytest.fixture
def enough(discs):
    """Pairs of names from train and val, one more than may leak; images of a size that people use."""
    discs.names = {"train": discs.all_names[:6], "val": discs.all_names[6:]}
    for seed, name in enumerate(discs.all_names):
        image, label = (cv2.resize(pixels, (320, 256), interpolation=cv2.INTER_NEAREST) for pixels in draw(seed))
        discs.write(name, cv2.GaussianBlur(image, (9, 9), 0), label)
    pairs = list(zip(*discs.names.values(), strict=True))
    assert len(pairs) == MAX_LEAK + 1
    return pairs


@pytest.mark.parametrize("kind", ["jpeg", "png"])
def test_more_than_a_few_copies_that_were_saved_again_are_an_error(discs, enough, kind):
    save_again(discs, enough[:MAX_LEAK], kind)
    found = near_duplicates(discs.check())
    assert [item.severity for item in found] == ["warning"] * MAX_LEAK
    assert all(item.text.endswith(", as if one were saved again") for item in found)
    save_again(discs, enough, kind)
    report = discs.check()
    assert [item.severity for item in near_duplicates(report)] == ["error"] * (MAX_LEAK + 1) and not report.may_train
    assert f"`max_leak={MAX_LEAK + 1}`" in near_duplicates(report)[0].hint
    allowed = discs.check(CheckConfig(max_leak=MAX_LEAK + 1))
    assert [item.severity for item in near_duplicates(allowed)] == ["warning"] * (MAX_LEAK + 1)
    assert {item.severity for item in near_duplicates(discs.check(CheckConfig(max_leak=0)))} == {"error"}


def test_copies_of_each_kind_count_together(discs, enough):
    copy(discs, *enough[0])
    save_again(discs, enough[1:])
    errors = {item.rule for item in discs.check().findings if item.severity == "error"}
    assert errors == {"image-in-two-splits", "near-duplicate-in-two-splits"}


def test_frames_of_a_video_are_only_warned_about(discs, enough):
    """They differ where something moves, however little that changes the mean."""

    def next_frame(image):
        pixels = np.array(image)
        height, width = pixels.shape[:2]
        pixels[height // 2 : height // 2 + height // 12, width // 2 : width // 2 + width // 12] //= 2
        return Image.fromarray(pixels)

    save_again(discs, enough, change=next_frame)
    found = near_duplicates(discs.check())
    assert len(found) == len(enough) and {item.severity for item in found} == {"warning"}
    assert not any("saved again" in item.text for item in found)


def test_a_mirrored_image_in_another_split(discs):
    """As when images are mirrored before they are divided."""
    image, label = (np.ascontiguousarray(pixels[:, ::-1]) for pixels in draw(3))
    discs.image("b1").write_bytes(encoded(image, "jpeg", quality=70))
    discs.mask("b1").write_bytes(encoded(label))
    (found,) = only(discs.check(), "near-duplicate-in-two-splits")
    assert (found.where, found.split) == ("b1", "val")
    assert found.text.startswith("is nearly the same as 'a3' in train, mirrored left to right: ")


def test_the_mask_of_another_image(discs):
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    (found,) = only(discs.check(), "label-repeated")
    assert (found.where, found.split) == ("b1", "val")
    assert found.text == "has the same label as 'a3' in train, pixel for pixel, although the images differ"


def test_simple_labels_may_be_the_same_by_chance(discs):
    for number, name in enumerate(discs.all_names):
        label = np.zeros((64, 80), np.uint8)
        label[30:, 40:] = 1
        label[10:20, :30] = 2
        label[-1, number] = 1  # not all are the same
        discs.mask(name).write_bytes(encoded(label if name in ("a0", "a1") else np.where(label == 1, 0, label)))
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    assert "label-repeated" not in discs.check().numbers


def test_labels_of_one_class_may_be_the_same(discs):
    for name in ("a3", "a4", "b1"):
        discs.mask(name).write_bytes(encoded(np.zeros((64, 80), np.uint8)))
    assert discs.check().findings == []


def test_two_labels_of_one_image_are_shown(discs):
    discs.image("a6").write_bytes(discs.image("a3").read_bytes())
    previews = {item.rule: item.preview for item in discs.check(with_previews=True).findings}
    plain, labeled = (
        np.asarray(Image.open(io.BytesIO(previews[rule]))).astype(int)
        for rule in ("image-repeated", "same-image-other-label")
    )
    width = plain.shape[1] // 2
    assert np.abs(plain[:, : width - 4] - plain[:, width + 4 :]).mean() < 3
    assert np.abs(labeled[:, : width - 4] - labeled[:, width + 4 :]).mean() > 10  # the labels differ


def test_nearly_the_same_image_twice_in_a_split_is_a_video(discs):
    discs.image("a4").write_bytes(encoded(draw(3)[0], "jpeg", quality=60))
    discs.mask("a4").write_bytes(discs.mask("a3").read_bytes())
    assert discs.check().findings == []


def test_of_many_similar_images_the_most_similar_is_named(discs):
    for name, quality in (("a4", 50), ("a5", 30)):
        discs.image(name).write_bytes(encoded(draw(3)[0], "jpeg", quality=quality))
        discs.mask(name).write_bytes(discs.mask("a3").read_bytes())
    discs.image("b1").write_bytes(encoded(draw(3)[0], "jpeg", quality=91))
    discs.mask("b1").write_bytes(discs.mask("a3").read_bytes())
    report = discs.check()
    assert report.numbers == {"near-duplicate-in-two-splits": 1}
    assert "'a3' in train" in report.findings[0].text  # of quality 92


# --- Hashes -------------------------------------------------------------------------------------------------


def test_the_hash_of_a_ramp():
    ramp = np.repeat(np.linspace(0, 255, 90).astype(np.uint8)[None], 80, axis=0)
    small = small_gray(encoded(ramp), 80, 90)
    assert duplicates.hash_of(small) == 2**64 - 1  # every cell is brighter than its left neighbor
    thumbnail = duplicates.thumbnail_of(small)
    assert thumbnail.shape == (16, 16)
    assert np.all(np.diff(thumbnail.astype(int), axis=1) > 0)
    assert np.ptp(thumbnail, axis=0).max() == 0


def test_cells_are_exact_means():
    pixels = np.arange(12, dtype=np.float32).reshape(2, 6)
    assert duplicates._mean_cells(pixels, 2, 6, 1, 3).tolist() == [[3.5, 5.5, 7.5]]
    # 6 cells of which the image fills 4.5: cells of 1.5 pixels
    assert np.allclose(duplicates._mean_cells(pixels[:1], 1, 4.5, 1, 3), [[1 / 3, 5 / 3, 10 / 3]])


def test_candidates_share_a_band_and_differ_little():
    base = 0x0123456789ABCDEF
    bits = np.array([base, base ^ 0b111, base ^ 0xFFFF, ~base & 2**64 - 1, base], np.uint64)
    one, other = duplicates.candidates(bits, np.array([0, 1, 1, 1, 0]))
    assert list(zip(one.tolist(), other.tolist(), strict=True)) == [(0, 1), (1, 4)]


def test_the_hash_of_a_mirrored_image():
    image = draw(3)[0]
    one, other = (
        duplicates.hash_of(small_gray(encoded(np.ascontiguousarray(pixels)), 64, 80))
        for pixels in (image, image[:, ::-1])
    )
    (mirrored,) = duplicates.mirrored_bits(np.array([one], np.uint64)).tolist()
    assert (mirrored ^ other).bit_count() <= 1  # cells that are equally bright have no mirrored bit
    assert (one ^ other).bit_count() > 8


def test_mirrored_pairs_are_named_once():
    chance = np.random.default_rng(0)
    thumbnail = chance.integers(0, 255, (16, 16), np.uint8)
    bits = np.array([0x0F1E2D3C4B5A6978], np.uint64)
    both = np.concatenate([bits, duplicates.mirrored_bits(bits)])
    thumbnails = np.stack([thumbnail, thumbnail[:, ::-1]]).__getitem__
    assert duplicates.near_pairs(both, thumbnails, np.array([0, 1])) == [duplicates.NearPair(0, 1, 0.0, 0.0, True)]
    assert duplicates.near_pairs(both, thumbnails, np.array([1, 1])) == []


def test_many_images_are_compared_with_few():
    chance = np.random.default_rng(0)
    bits = chance.integers(0, 2**64, 20_000, np.uint64)
    bits[12_346] = bits[77] ^ np.uint64(1 << 40)
    one, other = duplicates.candidates(bits, np.arange(20_000) % 2)
    assert (77, 12_346) in set(zip(one.tolist(), other.tolist(), strict=True))
    assert len(one) < 50


def test_images_of_one_tone_are_not_compared():
    flat = np.full((2, 16, 16), 9, np.uint8)
    assert duplicates.near_pairs(np.zeros(2, np.uint64), flat.__getitem__, np.array([0, 1])) == []


def test_what_was_kept_is_read_again_from_temporary_files(discs, monkeypatch):
    copy(discs, "a3", "b1")
    copy(discs, "a3", "a6")
    discs.names["val"].append("a3")
    expected = discs.check()
    assert {"image-repeated", "image-in-two-splits", "name-in-two-splits"} <= set(expected.numbers)
    monkeypatch.setattr(duplicates, "_IN_MEMORY", 1)
    monkeypatch.setattr(duplicates, "_AT_ONCE", 3)
    assert discs.check().findings == expected.findings


def test_equal_hashes_are_not_equal_keys():
    hashes, keys = np.array([5, 7, 5, 0, 7, 0, 5], np.uint64), "abcdbda"
    assert duplicates._groups(hashes, keys.__getitem__) == [[0, 6], [1, 4]]


def test_little_is_kept_of_an_image(tmp_path, monkeypatch):
    """The memory of a check hardly grows with the number of images; see `benchmarks/growth.py`."""
    monkeypatch.setattr(duplicates, "_IN_MEMORY", 1)
    monkeypatch.setattr(duplicates, "_AT_ONCE", 32)
    draw = np.random.default_rng(0)
    for number in (200, 2000):
        (tmp_path / str(number)).mkdir()
        with records.ShardWriter(tmp_path / str(number), records.shard_name("train", 0, 1)) as writer:
            for index in range(number):
                image = cv2.imencode(".png", draw.integers(0, 256, (8, 8, 3), np.uint8))[1].tobytes()
                label = cv2.imencode(".png", draw.integers(0, 3, (8, 8), np.uint8))[1].tobytes()
                writer.write(records.encode_example(image, "png", f"{index:06d}", 8, 8, label))
            writer.publish()
    peaks = {}
    one_thread = CheckConfig(num_workers=1)  # several hold more or fewer images at a time
    for number in (200, 200, 2000):  # the first takes what is allocated once
        tracemalloc.start()
        analysis.check(subject.of_records(tmp_path / str(number), num_classes=3), one_thread)
        peaks[number] = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peaks[2000] - peaks[200] < 1800 * 100  # bytes per image
