"""CVAT's XML: every shape pixel by pixel, labels, subsets, tracks of videos, and files that are wrong."""

import pickle

import numpy as np
import pytest
from support.errors import raises

from deeplab.data.labels import LabelSpec
from deeplab.data.readers.cvat import BuildCvatConfig, read_cvat
from deeplab.data.readers.source import UNDIVIDED, Painter

LABELS = """
<label><name>road</name><color>#804080</color><type>any</type><attributes><attribute><name>wet</name>
<values>yes
no</values></attribute></attributes></label>
<label><name>car</name><color>#0000ff</color><type>polygon</type></label>
"""
SQUARE = (
    '<polygon label="car" source="manual" occluded="0" points="1.00,1.00;4.00,1.00;4.00,4.00;1.00,4.00"{}></polygon>'
)


def image(shapes="", name="a.jpg", **attributes):
    more = "".join(f' {key}="{value}"' for key, value in {"height": 5, "width": 6, **attributes}.items())
    return f'<image id="0" name="{name}"{more}>{shapes}</image>'


def dump(*images, labels=LABELS, of="task"):
    head = f"<meta><{of}><id>4</id><name>my {of}</name><labels>{labels}</labels></{of}><dumped>today</dumped></meta>"
    text = f"<annotations><version>1.1</version>{head}{''.join(images)}</annotations>"
    return f'<?xml version="1.0" encoding="utf-8"?>\n{text}'


@pytest.fixture
def folder(tmp_path):
    for name in ("a.jpg", "b.jpg", "night/a.jpg"):
        (tmp_path / "images" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "images" / name).touch()
    return tmp_path


def read(folder, *files, **settings):
    paths = [folder / f"part{number}.xml" for number in range(len(files))]
    for path, text in zip(paths, files, strict=True):
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    named = {"annotations": ",".join(map(str, paths)), "image_folder": str(folder / "images")}
    return read_cvat(BuildCvatConfig(**{**named, **settings}))


def draw(source, height=5, width=6):
    painter = Painter(source.class_names, LabelSpec())
    return pickle.loads(pickle.dumps(source.pairs()[0])).mask.draw(painter, height, width).tolist()


def drawn(folder, shapes, **settings):
    return draw(read(folder, dump(image(shapes)), **settings))


# --- Shapes -------------------------------------------------------------------------------------------------


def test_polygons_have_the_value_of_their_label(folder):
    source = read(folder, dump(image(SQUARE.format(""))))
    assert source.class_names == ("background", "road", "car") and source.drawn
    assert source.colors == ((0, 0, 0), (128, 64, 128), (0, 0, 255))
    assert source.splits[UNDIVIDED][0].mask.size == (5, 6)
    assert draw(source) == [[0] * 6, *[[0, 2, 2, 2, 0, 0]] * 3, [0] * 6]


def test_boxes(folder):
    box = '<box label="road" xtl="4.00" ytl="3.00" xbr="6.00" ybr="7.00" z_order="0"></box>'
    assert drawn(folder, box) == [[0] * 6] * 3 + [[0, 0, 0, 0, 1, 1]] * 2


def test_boxes_are_turned_clockwise_about_their_middle(folder):
    """A bar of 5 by 1 pixels becomes an upright one; turned by 45 degrees its right end goes down."""
    bar = '<box label="car" xtl="0" ytl="2" xbr="5" ybr="3" rotation="{}"></box>'
    assert drawn(folder, bar.format(90)) == [[0, 0, 2, 0, 0, 0]] * 5
    label = np.array(drawn(folder, bar.format(45)))
    assert label[1, 1] and label[2, 2] and label[3, 3]
    assert not label[1, 3] and not label[3, 1]


def test_ellipses(folder):
    round_ = '<ellipse label="car" cx="3.00" cy="2.50" rx="{}" ry="{}" rotation="{}"></ellipse>'
    expected = [[0, 0, 0, 0, 0, 0], [0, 0, 2, 2, 0, 0], [0, 2, 2, 2, 2, 0], [0, 0, 2, 2, 0, 0], [0, 0, 0, 0, 0, 0]]
    assert drawn(folder, round_.format(2, 1.2, 0)) == expected
    assert drawn(folder, round_.format(1.2, 2, 90)) == expected
    assert drawn(folder, '<ellipse label="car" cx="3" cy="2.5" rx="2" ry="1.2"></ellipse>') == expected


def test_masks_are_run_lengths_of_their_rectangle_row_after_row(folder):
    mask = '<mask label="road" source="manual" occluded="0" rle="1, 2, 1, 1, 1" left="2" top="3" width="3" height="2"/>'
    assert drawn(folder, mask) == [[0] * 6] * 3 + [[0, 0, 0, 1, 1, 0], [0, 0, 0, 1, 0, 0]]


def test_masks_that_reach_over_the_border_are_cut(folder):
    mask = '<mask label="road" rle="0, 4" left="-1" top="4" width="2" height="2"/>'
    assert drawn(folder, mask) == [[0] * 6] * 4 + [[1, 0, 0, 0, 0, 0]]


def test_higher_layers_lie_on_lower_ones_then_later_shapes_on_earlier_ones(folder):
    everywhere = '<box label="road" xtl="0" ytl="0" xbr="6" ybr="5"{}></box>'
    assert drawn(folder, SQUARE.format(' z_order="1"') + everywhere.format(' z_order="0"'))[2] == [1, 2, 2, 2, 1, 1]
    assert drawn(folder, SQUARE.format("") + everywhere.format(""))[2] == [1] * 6
    assert drawn(folder, everywhere.format(' z_order="-1"') + SQUARE.format(""))[2] == [1, 2, 2, 2, 1, 1]
    assert drawn(folder, SQUARE.format("") + everywhere.format(""), overlap="area")[2] == [1, 2, 2, 2, 1, 1]


def test_shapes_without_an_area_are_counted(folder, capsys):
    lines = '<polyline label="road" points="0,0;1,1"/><tag label="road"/><cuboid label="car"/>'
    parts = '<skeleton label="car"><points label="1" points="1,1"/><points label="2" points="2,2"/></skeleton>'
    assert drawn(folder, f'{lines}{parts}<points label="car" points="1,1"/>') == [[0] * 6] * 5
    said = capsys.readouterr().err
    assert "5 shapes without an area left out (1 cuboid, 1 points, 1 polyline, 1 skeleton, 1 tag): a.jpg\n" in said
    assert "1 image without a shape: background everywhere" in said


def test_lines_have_an_area_if_they_are_closed_or_have_a_width(folder):
    line = '<polyline label="road" points="{}"/>'
    assert drawn(folder, line.format("0,1;6,1"), line_width=2)[:3] == [[1] * 6, [1] * 6, [0] * 6]
    closed = "1,1;4,1;4,4;1,4;1,1"
    assert drawn(folder, line.format(closed)) == [[0] * 6, *[[0, 1, 1, 1, 0, 0]] * 3, [0] * 6]


def test_outlines_without_an_area_are_counted(folder, capsys):
    assert drawn(folder, '<polygon label="car" points="1,1;2,2"/>') == [[0] * 6] * 5
    assert "1 shape without an area left out (1 too small): a\n" in capsys.readouterr().err


# --- Labels -------------------------------------------------------------------------------------------------


def test_labels_that_can_have_no_area_are_no_classes(folder):
    labels = f"""{LABELS}<label><name>body</name><type>skeleton</type></label>
    <label><name>1</name><type>points</type><parent>body</parent></label>
    <label><name>lane</name><color>#010203</color><type>polyline</type></label>
    <label><name>good frame</name><type>tag</type></label>"""
    assert read(folder, dump(image(), labels=labels)).class_names == ("background", "road", "car")
    lane = '<box label="lane" xtl="0" ytl="0" xbr="1" ybr="1"/>'
    assert read(folder, dump(image(lane), labels=labels)).class_names == ("background", "road", "car", "lane")


@pytest.mark.parametrize("of", ["task", "project", "job"])
def test_dumps_of_tasks_projects_and_jobs_have_their_labels(folder, of):
    assert read(folder, dump(image(), of=of)).class_names == ("background", "road", "car")


def test_a_background_label_is_the_background_and_keeps_its_color(folder):
    labels = f"{LABELS}<label><name>background</name><color>#010203</color></label>"
    source = read(folder, dump(image(SQUARE.format("")), labels=labels))
    assert source.class_names == ("background", "road", "car")
    assert source.colors[0] == (1, 2, 3)


def test_without_colors_for_all_labels_there_are_none(folder):
    labels = f"{LABELS}<label><name>bus</name></label>"
    assert read(folder, dump(image(), labels=labels)).colors == ()
    labels = f"{LABELS}<label><name>bus</name><color>blue</color></label>"  # only decoration
    assert read(folder, dump(image(), labels=labels)).colors == ()


def test_files_without_labels_have_those_of_their_shapes(folder):
    text = f"<annotations>{image(SQUARE.format(''))}</annotations>"
    assert read(folder, text).class_names == ("background", "car")


# --- Images and subsets -------------------------------------------------------------------------------------


def test_several_subsets_are_the_splits(folder):
    source = read(
        folder,
        dump(
            image(subset="Train"),
            image(name="b.jpg", subset="Validation"),
            image(name="night/a.jpg", subset="My Set/2"),
        ),
    )
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["a"],
        "val": ["b"],
        "my_set_2": ["night/a"],
    }


@pytest.mark.parametrize("subsets", [("default", "default"), ("Train", "Train"), ("", "Train")])
def test_one_subset_is_no_split(folder, subsets):
    images = (image(name=name, subset=subset) for name, subset in zip(("a.jpg", "b.jpg"), subsets, strict=True))
    assert list(read(folder, dump(*images)).splits) == [UNDIVIDED]


def test_several_files_go_together(folder):
    more = "<label><name>bus</name><color>#000001</color></label>"
    source = read(folder, dump(image()), dump(image(name="b.jpg"), labels=more))
    assert [pair.name for pair in source.pairs()] == ["a", "b"]
    assert source.class_names == ("background", "road", "car", "bus")


def test_files_may_name_their_splits(folder):
    paths = [folder / f"{name}.xml" for name in ("x", "y")]
    for path, name in zip(paths, ("a.jpg", "b.jpg"), strict=True):
        path.write_text(dump(image(name=name, subset="Train")))
    source = read(folder, annotations=f"train:{paths[0]},val:{paths[1]}")
    assert {split: [pair.name for pair in pairs] for split, pairs in source.splits.items()} == {
        "train": ["a"],
        "val": ["b"],
    }


def test_images_without_shapes_and_images_that_are_not_named_are_counted(folder, capsys):
    source = read(folder, dump(image(SQUARE.format("")), image(name="b.jpg")), skip_empty=True)
    assert [pair.name for pair in source.pairs()] == ["a"]
    said = capsys.readouterr().err
    assert "1 image without a shape: left out: b" in said
    assert "1 image that no annotation names left out: night/a.jpg" in said


# --- Videos -------------------------------------------------------------------------------------------------


def track(label, *shapes):
    return f'<track id="0" label="{label}" source="manual">{"".join(shapes)}</track>'


def box(frame, left, outside=0):
    corners = f'xtl="{left}" ytl="1" xbr="{left + 2}" ybr="2"'
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0" {corners} z_order="0"/>'


@pytest.fixture
def video(tmp_path):
    (tmp_path / "images").mkdir()
    for frame in range(6):
        (tmp_path / "images" / f"frame_{frame:06}.png").touch()
    return tmp_path


def frames(source):
    return {pair.name: draw_pair(source, pair)[1] for pair in source.pairs()}


def draw_pair(source, pair):
    return pair.mask.draw(Painter(source.class_names, LabelSpec()), 3, 6).tolist()


def test_tracks_are_drawn_on_every_frame_and_between_their_key_frames(video):
    source = read(video, dump(track("road", box(0, 0), box(4, 4, outside=1)), track("car", box(1, 0), box(3, 4))))
    assert frames(source) == {
        "frame_000000": [1, 1, 0, 0, 0, 0],
        "frame_000001": [2, 2, 0, 0, 0, 0],
        "frame_000002": [1, 1, 2, 2, 0, 0],  # half way from 0 to 4
        "frame_000003": [1, 1, 0, 0, 2, 2],
        "frame_000004": [0] * 6,  # both have ended
    }
    assert list(source.splits) == [UNDIVIDED]


def test_frames_state_the_size_of_the_video(video):
    head = "<original_size><width>6</width><height>3</height></original_size><stop_frame>5</stop_frame>"
    source = read(video, dump(track("car", box(1, 0)), labels=f"{LABELS}</labels>{head}<labels>"))
    assert {pair.mask.size for pair in source.pairs()} == {(3, 6)} and len(source.pairs()) == 6


def test_frames_are_found_by_the_number_at_the_end_of_their_name(video):
    (video / "images" / "frame_000001.png").rename(video / "images" / "clip-01.jpg")
    source = read(video, dump(track("car", box(0, 0), box(1, 0))))
    assert [pair.name for pair in source.pairs()] == ["frame_000000", "clip-01"]
    (video / "images" / "clip-01.jpg").unlink()
    with raises("image-not-found", where="part0.xml, frame 1"):
        read(video, dump(track("car", box(0, 0), box(1, 0))))


# --- Files that are not right -------------------------------------------------------------------------------


def shape(kind, **attributes):
    return f"<{kind} " + " ".join(f'{key}="{value}"' for key, value in attributes.items()) + "/>"


MASK = {"label": "car", "rle": "0,4", "left": 0, "top": 0, "width": 2, "height": 2}
BOX = {"label": "car", "xtl": 0, "ytl": 0, "xbr": 1, "ybr": 1}


@pytest.mark.parametrize(
    ("shapes", "code", "place"),
    [
        (shape("polygon", points="1,1;2,2;3,3"), "missing-key", "shape 1"),
        (shape("polygon", label="car"), "missing-key", "shape 1"),
        (shape("polygon", label="car", points="1,1;2,2;x,3"), "invalid-points", "shape 1"),
        (shape("polygon", label="car", points="1,1;2,2;3"), "invalid-points", "shape 1"),
        (shape("polygon", label="car", points="1,1;2,nan;3,3"), "out-of-range", "shape 1"),
        (shape("tag", label="car") + shape("box", **BOX | {"xbr": "wide"}), "wrong-type", "shape 2"),
        (shape("box", **BOX | {"ybr": "inf"}), "wrong-type", "shape 1"),
        (shape("box", **BOX, z_order="1.5"), "out-of-range", "shape 1"),
        (shape("ellipse", label="car", cx=1, cy=1, rx=-1, ry=1), "out-of-range", "shape 1"),
        (shape("mask", **MASK | {"rle": "0,5"}), "invalid-rle", "shape 1"),
        (shape("mask", **MASK | {"rle": "0;4"}), "invalid-rle", "shape 1"),
        (shape("mask", **MASK | {"rle": "9" * 30}), "wrong-type", "shape 1"),
        (shape("mask", **MASK | {"rle": "-1,5"}), "out-of-range", "shape 1"),
        (shape("mask", **MASK | {"width": 0}), "out-of-range", "shape 1"),
        (shape("mask", **MASK | {"width": 40, "rle": "0,80"}), "size-mismatch", "image a.jpg"),
        (shape("sphere", label="car"), "unknown-shape", "shape 1"),
        (shape("box", **BOX | {"label": "a\tb"}), "control-characters", "shape 1"),
        (shape("box", **BOX | {"label": "cat"}), "unknown-class", "image a.jpg"),
    ],
)
def test_shapes_that_break_the_format(folder, shapes, code, place):
    with raises(code, where=place) as caught:
        drawn(folder, shapes.replace("\t", "&#9;"))
    assert "part0.xml, image a.jpg" in caught.value.where and caught.value.hint


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("", "invalid-xml", ""),
        (dump(image())[:-20], "invalid-xml", ""),
        ("<annotations><image></annotations>", "invalid-xml", ""),
        (b'<?xml version="1.0" encoding="utf-99"?><annotations/>', "invalid-xml", ""),
        ("{}", "invalid-xml", ""),
        ("<annotation><folder>VOC</folder></annotation>", "wrong-format", ""),
        ("<annotations/>", "no-pairs", ""),
        ("<annotations><track id='0'/></annotations>", "missing-key", "track 1"),
        (dump(track("car", "<box frame='x' outside='0'/>")), "wrong-type", "track 1, shape 1"),
        (dump(image(width="wide")), "wrong-type", "image a.jpg"),
        (dump(image(name="")), "missing-key", "image 1"),
        (dump(image(name="../../../etc/passwd")), "image-not-found", "image ../../../etc/passwd"),
        (dump(image(), image()), "duplicate-image", "image a.jpg"),
        (dump(image(), labels="<label><name>a\nb</name></label>"), "control-characters", "label 1"),
    ],
)
def test_files_that_break_the_format(folder, text, code, place):
    with raises(code, where=place) as caught:
        read(folder, text)
    assert "part0.xml" in caught.value.where and caught.value.hint


def test_document_types_are_refused_before_anything_grows(folder):
    bomb = '<!DOCTYPE lolz [<!ENTITY a "ha"><!ENTITY b "&a;&a;">]>\n<annotations>&b;</annotations>'
    with raises("wrong-format", where="part0.xml") as caught:
        read(folder, bomb)
    assert "DOCTYPE" in caught.value.rule


def test_a_mask_larger_than_its_image_is_never_unpacked(folder):
    mask = shape("mask", **MASK | {"width": 2_000_000_000, "height": 1, "rle": "0,2000000000"})
    with raises("size-mismatch", where="image a.jpg") as caught:
        drawn(folder, mask)
    assert caught.value.value == (1, 2_000_000_000)


def test_files_that_do_not_exist_are_named(folder):
    with raises("file-not-found", where="nowhere.xml"):
        read(folder, annotations=str(folder / "nowhere.xml"))
    with raises("missing-setting", field="annotations"):
        read(folder, annotations="")
