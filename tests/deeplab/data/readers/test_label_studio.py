"""Label Studio: both exports, every kind of region pixel by pixel, names of images, and files that are wrong."""

import json
import pickle

import numpy as np
import pytest
from PIL import Image
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.label_studio import BuildLabelStudioConfig, read_label_studio
from deeplab.data.readers.source import UNDIVIDED, Painter

HEIGHT, WIDTH = 5, 10  # so that 10 % are one pixel across and half a pixel down
SQUARE = {"points": [[10, 20], [40, 20], [40, 80], [10, 80]]}  # rows and columns 1 to 3
SQUARE_DRAWN = [[0] * 10, *[[0, 1, 1, 1, 0, 0, 0, 0, 0, 0]] * 3, [0] * 10]


def region(kind, value, label="car", **more):
    """A region as the export JSON has it."""
    sizes = {"original_width": WIDTH, "original_height": HEIGHT, "image_rotation": 0}
    labels = {} if label is None else {kind: [label]}
    return {"id": "r", "type": kind, "from_name": "label", "value": {**value, **labels}, **sizes, **more}


def annotated(*regions, **more):
    return {"id": 5, "was_cancelled": False, "ground_truth": False, "result": list(regions), **more}


def task(*regions, number=1, image="/data/upload/3/1a2b3c4d-a.jpg", **more):
    return {"id": number, "data": {"image": image}, "annotations": [annotated(*regions)], "predictions": [], **more}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "images" / "night").mkdir(parents=True)
    for name in ("a.jpg", "b c.jpg", "night/d.jpg"):
        (tmp_path / "images" / name).touch()
    return tmp_path


def read(folder, *tasks, text="", **settings):
    path = folder / "export.json"
    path.write_text(text or json.dumps(list(tasks)))
    named = {"annotations": str(path), "image_folder": str(folder / "images")}
    return read_label_studio(BuildLabelStudioConfig(**{**named, **settings}))


def draw(source, place=0, height=HEIGHT, width=WIDTH):
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(source.pairs()[place])).mask.draw(painter, height, width).tolist()


def drawn(folder, *regions, **settings):
    return draw(read(folder, task(*regions), **settings))


# --- Regions ------------------------------------------------------------------------------------------------


def test_polygons_are_percentages_of_the_sides(folder):
    source = read(folder, task(region("polygonlabels", SQUARE)))
    assert source.class_names == ("background", "car") and source.drawn
    assert source.splits[UNDIVIDED][0].mask.size == (HEIGHT, WIDTH)
    assert draw(source) == SQUARE_DRAWN


def test_without_a_stated_size_percentages_fit_any(folder):
    bare = region("polygonlabels", SQUARE)
    del bare["original_width"], bare["original_height"]
    source = read(folder, task(bare))
    assert source.pairs()[0].mask.size is None
    assert np.array_equal(draw(source, height=10, width=20), np.kron(SQUARE_DRAWN, np.ones((2, 2))))


def test_images_of_another_size_than_stated_are_accepted_on_request(folder):
    source = read(folder, task(region("polygonlabels", SQUARE)), scale_annotations=True)
    assert source.pairs()[0].mask.size is None
    assert np.array_equal(draw(source, height=10, width=20), np.kron(SQUARE_DRAWN, np.ones((2, 2))))


def test_rectangles(folder):
    value = {"x": 50, "y": 40, "width": 30, "height": 100, "rotation": 0}
    assert drawn(folder, region("rectanglelabels", value)) == [[0] * 10] * 2 + [[0] * 5 + [1, 1, 1, 0, 0]] * 3


def test_rectangles_are_turned_clockwise_about_their_own_corner_in_pixels(folder):
    """4 by 1 pixels from (5, 0): turned by 90 degrees it hangs down from there, to the left of x = 5."""
    value = {"x": 50, "y": 0, "width": 40, "height": 20, "rotation": 90}
    assert drawn(folder, region("rectanglelabels", value)) == [[0, 0, 0, 0, 1, 0, 0, 0, 0, 0]] * 4 + [[0] * 10]


def test_ellipses_have_their_center_and_radii(folder):
    value = {"x": 30, "y": 50, "radiusX": 20, "radiusY": 24, "rotation": 0}
    expected = [[0] * 10, [0, 0, 1, 1, *[0] * 6], [0, 1, 1, 1, 1, *[0] * 5], [0, 0, 1, 1, *[0] * 6], [0] * 10]
    assert drawn(folder, region("ellipselabels", value)) == expected
    upright = {"x": 30, "y": 50, "radiusX": 12, "radiusY": 40, "rotation": 90}
    assert drawn(folder, region("ellipselabels", upright)) == expected


def test_later_regions_lie_on_earlier_ones_unless_areas_count(folder):
    both = (
        region("polygonlabels", SQUARE),
        region("rectanglelabels", {"x": 0, "y": 0, "width": 100, "height": 100}, "bus"),
    )
    assert drawn(folder, *both)[2] == [1] * 10
    assert drawn(folder, *both, overlap="area")[2] == [1, 2, 2, 2, 1, 1, 1, 1, 1, 1]


def test_labels_of_the_general_kind_are_told_by_their_measures(folder):
    """With <Labels> every region stands there twice: once with its label, once with its shape."""
    twin = region("polygon", SQUARE, label=None)
    assert drawn(folder, twin, region("labels", SQUARE)) == SQUARE_DRAWN


def test_what_has_no_area_or_no_label_is_counted(folder, capsys):
    regions = (
        region("keypointlabels", {"x": 1, "y": 1, "width": 0.5}),
        region("polygonlabels", {**SQUARE, "closed": False}),
        region("polygonlabels", {"points": [[1, 2], [3, 4]]}),
        region("labels", {"start": 0, "end": 5, "text": "word"}),
        region("polygon", SQUARE, label=None, id="alone"),
        region("choices", {"choices": ["good"]}, label=None),
        {"type": "relation", "from_id": "r", "to_id": "r", "direction": "right"},
    )
    assert drawn(folder, *regions) == [[0] * 10] * 5
    said = capsys.readouterr().err
    assert "4 shapes without an area left out (1 keypoint, 1 other, 1 polygon, 1 too small): a\n" in said
    assert "1 region without a label left out: a\n" in said
    assert "1 image without a shape: background everywhere" in said


def test_of_several_labels_the_first_counts_and_that_is_said(folder, capsys):
    many = region("polygonlabels", {**SQUARE, "polygonlabels": ["car", "red"]}, label=None)
    source = read(folder, task(many))
    assert source.class_names == ("background", "car")
    assert "1 region with several labels, of which the first counts: a" in capsys.readouterr().err


def brush_code(pixels):
    """A mask as Label Studio may pack it: one run of RGBA values, each in a word of one bit."""
    words = "".join(f"{int(pixel > 0)}" * 4 for pixel in np.ravel(pixels))
    bits = f"{len(words):032b}00000{'1111' * 4}000{len(words) - 1:016b}{words}"
    return np.packbits([int(bit) for bit in bits]).tolist()


def test_brush_regions_are_painted(folder):
    value = {"format": "rle", "rle": brush_code(SQUARE_DRAWN)}
    assert drawn(folder, region("brushlabels", value)) == SQUARE_DRAWN


def test_brush_regions_are_scaled_to_resized_images(folder):
    """Their pixels are those of the image that was annotated, unlike the percentages of other regions."""
    value = {"format": "rle", "rle": brush_code(SQUARE_DRAWN)}
    source = read(folder, task(region("brushlabels", value)), scale_annotations=True)
    assert np.array_equal(draw(source, height=10, width=20), np.kron(SQUARE_DRAWN, np.ones((2, 2))))


# --- Tasks and annotations ----------------------------------------------------------------------------------


def test_the_last_annotation_that_was_not_canceled_counts(folder, capsys):
    left, right = ({"x": x, "y": 0, "width": 10, "height": 100} for x in (0, 90))
    several = task(
        annotations=[
            annotated(region("rectanglelabels", left)),
            annotated(region("rectanglelabels", right)),
            annotated(was_cancelled="true"),
        ]
    )
    assert draw(read(folder, several)) == [[0] * 9 + [1]] * 5
    assert "1 task with several annotations: the last one that was not canceled counts" in capsys.readouterr().err


def test_tasks_without_annotation_are_not_taken_for_background(folder, capsys):
    source = read(
        folder,
        task(region("polygonlabels", SQUARE)),
        task(number=2, image="b c.jpg", annotations=[]),
        task(number=3, image="d.jpg", annotations=[annotated(was_cancelled=True)]),
    )
    assert [pair.name for pair in source.pairs()] == ["a"]
    said = capsys.readouterr().err
    assert "2 tasks without an annotation left out: b c.jpg, d.jpg" in said
    assert "no annotation names" not in said


def test_an_annotation_without_regions_is_background(folder):
    both = task(region("polygonlabels", SQUARE)), task(number=2, image="d.jpg")
    assert draw(read(folder, *both), 1) == [[0] * 10] * 5
    assert [pair.name for pair in read(folder, *both, skip_empty=True).pairs()] == ["a"]


def test_exports_of_old_versions_call_annotations_completions(folder):
    old = task()
    del old["annotations"]
    old["completions"] = [{"result": [region("polygonlabels", SQUARE)]}, {"result": [], "skipped": True}]
    assert draw(read(folder, old)) == SQUARE_DRAWN


def minimal(*values, number=1, image="/data/upload/3/1a2b3c4d-a.jpg", **more):
    sized = [{**value, "original_width": WIDTH, "original_height": HEIGHT} for value in values]
    return {"id": number, "image": image, "tag": sized, "annotator": 1, "created_at": "2024-01-01T10:00:00Z", **more}


def test_the_small_export_has_its_regions_beside_the_image(folder):
    square = {**SQUARE, "polygonlabels": ["car"]}
    pixel = {"x": 0, "y": 0, "width": 10, "height": 20, "rotation": 0, "rectanglelabels": ["bus"]}
    source = read(folder, minimal(square, more=[pixel], choice="good"))
    assert source.class_names == ("background", "bus", "car")
    assert source.pairs()[0].mask.size == (HEIGHT, WIDTH)
    assert draw(source)[0][0] == 1 and draw(source)[1][1] == 2


def test_rows_of_one_task_in_the_small_export_are_its_annotations(folder, capsys):
    first, second = {**SQUARE, "polygonlabels": ["bus"]}, {**SQUARE, "polygonlabels": ["car"]}
    source = read(folder, minimal(first), minimal(second))
    assert len(source.pairs()) == 1 and source.class_names == ("background", "car")
    assert "1 task with several annotations" in capsys.readouterr().err


def test_tasks_of_one_number_but_two_images_are_two(folder):
    square = {**SQUARE, "polygonlabels": ["bus"]}
    assert len(read(folder, minimal(square), minimal(square, image="d.jpg")).pairs()) == 2
    assert len(read(folder, task(), task(image="d.jpg")).pairs()) == 2


def test_several_exports_go_together(folder):
    other = folder / "other.json"
    other.write_text(json.dumps([task(region("polygonlabels", SQUARE, "bus"), image="d.jpg")]))
    source = read(folder, task(region("polygonlabels", SQUARE)), annotations=f"{folder / 'export.json'}, {other}")
    assert [pair.name for pair in source.pairs()] == ["a", "night/d"]
    assert source.class_names == ("background", "bus", "car")


def test_files_may_name_their_splits(folder):
    other = folder / "other.json"
    other.write_text(json.dumps([task(region("polygonlabels", SQUARE, "bus"), image="d.jpg")]))
    named = f"train:{folder / 'export.json'},val:{other}"
    source = read(folder, task(region("polygonlabels", SQUARE)), annotations=named)
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["a"],
        "val": ["night/d"],
    }


@pytest.mark.parametrize("canceled", [True, "true", 1])
def test_canceled_in_any_form(folder, canceled):
    with raises("no-pairs"):
        read(folder, task(annotations=[annotated(region("polygonlabels", SQUARE), was_cancelled=canceled)]))


# --- Names of images ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stored", "name"),
    [
        ("a.jpg", "a"),
        ("/data/upload/3/1a2b3c4d-a.jpg", "a"),
        ("/data/upload/3/1a2b3c4d-b%20c.jpg", "b c"),
        ("/data/local-files/?d=photos/night/d.jpg", "night/d"),
        ("/data/local-files/?d=photos%2Fnight%2Fd.jpg&x=1", "night/d"),
        ("s3://bucket/photos/b c.jpg", "b c"),
        ("https://example.com/photos/b%20c.jpg?token=x.y/z", "b c"),
        ("http://[broken/d.jpg", "night/d"),
        ("..\\..\\night\\d.jpg", "night/d"),
    ],
)
def test_images_are_found_by_what_exports_call_them(folder, stored, name):
    assert [pair.name for pair in read(folder, task(image=stored)).pairs()] == [name]


def test_an_image_that_still_has_its_prefix_is_found_as_it_is(folder):
    (folder / "images" / "1a2b3c4d-a.jpg").touch()
    assert [pair.name for pair in read(folder, task()).pairs()] == ["1a2b3c4d-a"]


def test_the_key_of_the_image_is_found_or_given(folder):
    two = {"photo": "a.jpg", "thumbnail": "d.jpg", "note": "at noon"}
    with raises("unclear-image", where="task 1") as caught:
        read(folder, task(data=two))
    assert caught.value.value == ("photo", "thumbnail") and "`image_key`" in caught.value.hint
    assert [pair.name for pair in read(folder, task(data=two), image_key="photo").pairs()] == ["a"]
    with raises("missing-key", where="task 1"):
        read(folder, task(data=two), image_key="image")
    assert [pair.name for pair in read(folder, task(data={"photo": "a.jpg", "note": "x"})).pairs()] == ["a"]


# --- Files that are not right -------------------------------------------------------------------------------

RECTANGLE = {"x": 1, "y": 1, "width": 1, "height": 1}


@pytest.mark.parametrize(
    ("broken", "code"),
    [
        (region("polygonlabels", {"points": None}), "wrong-type"),
        (region("polygonlabels", {"points": [[1, 2], [3, 4], [5, "6"]]}), "wrong-type"),
        (region("polygonlabels", {**SQUARE, "closed": "perhaps"}), "wrong-type"),
        (region("rectanglelabels", RECTANGLE | {"x": "1"}), "wrong-type"),
        (region("rectanglelabels", RECTANGLE | {"width": -1}), "out-of-range"),
        (region("rectanglelabels", RECTANGLE | {"rotation": []}), "wrong-type"),
        (region("brushlabels", {"format": "png", "rle": []}), "wrong-format"),
        (region("brushlabels", {"rle": [1, 2, 256]}), "invalid-rle"),
        (region("brushlabels", {"rle": [0, 0]}), "invalid-rle"),
        (region("brushlabels", {"rle": brush_code(np.zeros((3, 3), int))}), "size-mismatch"),
        (region("polygonlabels", SQUARE, image_rotation=90), "rotated-image"),
        (region("polygonlabels", SQUARE, original_width=0), "out-of-range"),
        (region("polygonlabels", {**SQUARE, "polygonlabels": "car"}, None), "wrong-type"),
        (region("polygonlabels", {**SQUARE, "polygonlabels": [7]}, None), "wrong-type"),
        (region("polygonlabels", SQUARE, "a\nb"), "control-characters"),
        ({"type": "polygonlabels"}, "missing-key"),
        (None, "wrong-type"),
    ],
)
def test_regions_that_break_the_format(folder, broken, code):
    with raises(code, where="export.json, task 1, region 1") as caught:
        drawn(folder, broken)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("tasks", "code", "place"),
    [
        ([7], "wrong-type", "task number 1"),
        ([task(data=None)], "wrong-type", "task 1"),
        ([task(annotations={"x": 1})], "wrong-type", "task 1"),
        ([task(annotations=[3])], "wrong-type", "task 1"),
        ([task(annotations=[{}])], "missing-key", "task 1"),
        ([task(annotations=[{"result": None}])], "wrong-type", "task 1"),
        ([task(image="nowhere.jpg")], "image-not-found", "task 1"),
        ([task(image="../../../etc/passwd.jpg")], "image-not-found", "task 1"),
        ([task(image="data:image/png;base64,AAAA")], "unclear-image", "task 1"),
        ([task(), task(number=2)], "duplicate-image", "task 2"),
        (
            [task(region("polygonlabels", SQUARE), region("polygonlabels", SQUARE, original_width=9))],
            "size-mismatch",
            "task 1",
        ),
    ],
)
def test_tasks_that_break_the_format(folder, tasks, code, place):
    with raises(code, where=f"export.json, {place}") as caught:
        read(folder, *tasks)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ("{", "invalid-json"),
        ('{"images": [], "annotations": []}', "wrong-format"),
        ("[]", "no-pairs"),
        ("null", "wrong-format"),
    ],
)
def test_files_that_are_not_exports(folder, text, code):
    with raises(code, where="export.json") as caught:
        read(folder, text=text)
    assert caught.value.hint


# --- Regions outside the image ------------------------------------------------------------------------------

FAR = {"points": [[10, 20], [160, 20], [160, 80], [10, 80]]}  # 60 % of the width beyond the right border
OVER_THE_BORDER = {"points": [[-2, 20], [102, 20], [102, 80], [-2, 80]]}


@pytest.mark.parametrize("sized", [True, False])
def test_regions_far_outside_the_image_stop_the_build(folder, capsys, sized):
    Image.new("RGB", (WIDTH * 20, HEIGHT * 20)).save(folder / "images" / "a.jpg")
    sizes = {"original_width": WIDTH * 20, "original_height": HEIGHT * 20} if sized else {}
    far, near = (region("polygonlabels", value) for value in (FAR, OVER_THE_BORDER))
    for one in (far, near):
        one.pop("original_width"), one.pop("original_height")
        one.update(sizes)
    with raises("shapes-outside", where="annotations"):
        read(folder, task(far))
    with raises("shapes-outside", where="annotations"):
        read(folder, task(region("rectanglelabels", {"x": 50, "y": 0, "width": 10, "height": 300}, **sizes)))
    capsys.readouterr()
    read(folder, task(near), annotation_scale=0.5)
    assert "outside" not in capsys.readouterr().err
    source = read(folder, task(far), on_outside="cut")
    assert "1 image with shapes that reach far outside" in capsys.readouterr().err
    assert np.array_equal(np.unique(draw(source, height=100, width=200)), [0, 1])
