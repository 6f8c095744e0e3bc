"""Every reader reads a minimal dataset, no pixels, refuses empty folders, travels, and survives mutated files."""

import base64
import io
import json
import pathlib
import zlib

import numpy as np
import pytest
from PIL import Image
from support import reader_battery as battery
from support.reader_battery import ReaderCase

from deeplab.data import dataset as datasets
from deeplab.data.readers import FORMATS

PAGE = pathlib.Path(__file__).parents[4] / "docs" / "data.md"
SQUARE = [[1, 1], [5, 1], [5, 5], [1, 5]]
FLAT = [1, 1, 5, 1, 5, 5, 1, 5]


def put(root, name, content=b""):
    path = root / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else json.dumps(content).encode())


def folder(root):
    put(root, "images/a.jpg")
    put(root, "masks/a.png")
    return {"image_folder": str(root / "images"), "mask_folder": str(root / "masks")}


def binary(root):
    put(root, "images/a.jpg")
    put(root, "masks/a_x.png")
    return {"image_folder": str(root / "images"), "class_masks": f"x={root}/masks/{{name}}_x.png"}


def voc(root):
    put(root, "images/a.jpg")
    put(root, "masks/a.png")
    put(root, "lists/train.txt", b"a\n")
    return {
        "image_folder": str(root / "images"),
        "semantic_segmentation_folder": str(root / "masks"),
        "list_folder": str(root / "lists"),
    }


def cityscapes(root):
    for split in ("train", "val"):
        put(root, f"leftImg8bit/{split}/ulm/ulm_0_{split}_leftImg8bit.png")
        put(root, f"gtFine/{split}/ulm/ulm_0_{split}_gtFine_labelTrainIds.png")
    return {"cityscapes_root": str(root)}


def ade20k(root):
    folders = {}
    for part, name in (("train", "training"), ("val", "validation")):
        put(root, f"images/{name}/a.jpg")
        put(root, f"annotations/{name}/a.png")
        folders |= {
            f"{part}_image_folder": str(root / "images" / name),
            f"{part}_image_label_folder": str(root / "annotations" / name),
        }
    return folders


def ade20k_full(root):
    for part in ("training", "validation"):
        objects = [{"name_ndx": 300, "name": "car, auto"}, {"name_ndx": 5, "name": "wall"}]
        put(root, f"{part}/scene/{part}_1.json", {"annotation": {"object": objects}})
        put(root, f"{part}/scene/{part}_1.jpg")
        mask = np.zeros((8, 8, 3), np.uint8)
        mask[:, :4], mask[:, 4:] = (10, 44, 0), (0, 5, 9)
        Image.fromarray(mask).save(root / part / "scene" / f"{part}_1_seg.png")
    return {"ade20k_root": str(root)}


def vistas(root):
    labels = [{"name": name, "evaluate": name != "void", "color": [1, 2, 3]} for name in ("car", "void", "sky")]
    put(root, "config_v2.0.json", {"labels": labels})
    for part in ("training", "validation"):
        put(root, f"{part}/images/a.jpg")
        put(root, f"{part}/v2.0/labels/a.png")
    return {"vistas_root": str(root)}


def coco_panoptic(root):
    put(root, "images/a.jpg")
    mask = np.full((8, 8, 3), (5, 1, 0), np.uint8)
    (root / "a").mkdir()
    Image.fromarray(mask).save(root / "a" / "a.png")
    segments = [{"id": 261, "category_id": 3, "iscrowd": 0}]
    put(
        root,
        "a.json",
        {
            "images": [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}],
            "annotations": [{"image_id": 1, "file_name": "a.png", "segments_info": segments}],
            "categories": [{"id": 3, "name": "car", "color": [1, 2, 3]}, {"id": 9, "name": "sky"}],
        },
    )
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def camvid(root):
    put(root, "train/0001TP_006690.png")
    put(root, "trainannot/0001TP_006690.png")
    return {"camvid_root": str(root)}


def coco(root):
    put(root, "images/a.jpg")
    put(root, "images/b.jpg")
    annotations = [
        {"id": 1, "image_id": 1, "category_id": 2, "iscrowd": 0, "segmentation": [FLAT], "bbox": [1, 1, 4, 4]},
        {
            "id": 2,
            "image_id": 2,
            "category_id": 1,
            "iscrowd": 0,
            "segmentation": {"size": [8, 8], "counts": [8, 20, 36]},
        },
        {"id": 3, "image_id": 2, "category_id": 1, "iscrowd": 1, "segmentation": {"size": [8, 8], "counts": [64]}},
    ]
    images = [{"id": 1, "file_name": "a.jpg", "height": 8, "width": 8}, {"id": 2, "file_name": "b.jpg"}]
    kinds = [{"id": 1, "name": "car", "color": "#010203"}, {"id": 2, "name": "dog"}]
    put(root, "a.json", {"images": images, "annotations": annotations, "categories": kinds})
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def labelme(root):
    put(root, "a.jpg")
    kinds = {"polygon": SQUARE, "rectangle": [[0, 0], [2, 2]], "circle": [[4, 4], [6, 4]], "line": [[0, 0], [3, 3]]}
    shapes = [{"label": "hair", "points": points, "shape_type": kind} for kind, points in kinds.items()]
    put(root, "a.json", {"shapes": shapes, "imagePath": "a.jpg", "imageHeight": 8, "imageWidth": 8, "imageData": None})
    return {"annotation_folder": str(root), "line_width": 2.0}


def cvat(root):
    put(root, "images/a.jpg")
    put(root, "images/frame_000001.png")
    shapes = (
        '<polygon label="car" points="1,1;5,1;5,5;1,5" z_order="1"/><box label="car" xtl="0" ytl="0" xbr="2" ybr="2"/>'
        '<ellipse label="car" cx="3" cy="3" rx="2" ry="1"/><polyline label="car" points="0,0;3,3"/>'
        '<mask label="car" rle="1,2,1" left="0" top="0" width="2" height="2"/>'
    )
    track = '<track id="0" label="car"><box frame="1" outside="0" xtl="0" ytl="0" xbr="2" ybr="2"/></track>'
    labels = "<meta><task><labels><label><name>car</name><color>#010203</color></label></labels></task></meta>"
    image = f'<image id="0" name="a.jpg" height="8" width="8">{shapes}</image>'
    put(root, "a.xml", f"<annotations>{labels}{image}{track}</annotations>".encode())
    return {"annotations": str(root / "a.xml"), "image_folder": str(root / "images"), "line_width": 2.0}


def label_studio(root):
    put(root, "images/a.jpg")
    values = (
        {"points": SQUARE, "polygonlabels": ["car"]},
        {"x": 1, "y": 1, "width": 50, "height": 50, "rotation": 9, "rectanglelabels": ["car"]},
        {"x": 50, "y": 50, "radiusX": 20, "radiusY": 9, "ellipselabels": ["car"]},
        {"format": "rle", "rle": [0, 0, 1, 0, 7, 51, 51], "brushlabels": ["car"]},
    )
    sizes = {"original_width": 8, "original_height": 8, "image_rotation": 0}
    results = [{"id": str(i), "type": "x", "value": value, **sizes} for i, value in enumerate(values[:3])]
    task = {"id": 1, "data": {"image": "a.jpg"}, "annotations": [{"was_cancelled": False, "result": results}]}
    put(root, "a.json", [task])
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def via(root):
    put(root, "images/a.jpg")
    outlines = (
        {"name": "polygon", "all_points_x": [1, 5, 5, 1], "all_points_y": [1, 1, 5, 5]},
        {"name": "rect", "x": 1, "y": 1, "width": 3, "height": 3},
        {"name": "ellipse", "cx": 3, "cy": 3, "rx": 2, "ry": 1, "theta": 0.5},
        {"name": "polyline", "all_points_x": [1, 5], "all_points_y": [1, 1]},
    )
    regions = [{"shape_attributes": outline, "region_attributes": {"part": "hair"}} for outline in outlines]
    put(root, "a.json", {"a.jpg0": {"filename": "a.jpg", "size": 0, "regions": regions, "file_attributes": {}}})
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images"), "line_width": 2.0}


def supervisely(root):
    put(root, "meta.json", {"classes": [{"title": "hair", "shape": "polygon", "color": "#010203"}]})
    put(root, "one/img/a.jpg")
    points = {"points": {"exterior": SQUARE, "interior": []}, "classTitle": "hair"}
    objects = [{**points, "geometryType": "polygon"}, {**points, "geometryType": "line"}]
    corners = {"exterior": [[0, 0], [3, 3]], "interior": []}
    objects.append({"points": corners, "classTitle": "hair", "geometryType": "rectangle"})
    put(root, "one/ann/a.jpg.json", {"size": {"height": 8, "width": 8}, "objects": objects})
    return {"project_folder": str(root), "line_width": 2.0}


def yolo(root):
    put(root, "images/train/a.jpg")
    put(root, "labels/train/a.txt", b"0 0.1 0.1 0.5 0.1 0.5 0.5\n1 0.5 0.5 0.2 0.2\n")
    put(root, "data.yaml", b"train: images/train\nnames: [hair, skin]\nnc: 2\n")
    return {"data_yaml": str(root / "data.yaml")}


def isat(root):
    put(root, "a.jpg")
    info = {"description": "ISAT", "name": "a.jpg", "width": 8, "height": 8}
    common = {"group": 1, "iscrowd": False, "segmentation": SQUARE}
    objects = [{"category": "hair", "layer": 1.0, **common}, {"category": "__background__", "layer": 2.0, **common}]
    objects.append({"category": "skin", "layer": 3.0, "segmentation": [SQUARE, SQUARE]})
    put(root, "a.json", {"info": info, "objects": objects})
    put(root, "isat.yaml", b"label:\n- {name: __background__, color: '#000000'}\n- {name: skin, color: '#ff0000'}\n")
    return {"annotation_folder": str(root)}


def labelme_xml(root):
    put(root, "a.jpg")
    outline = "".join(f"<pt><x>{x}</x><y>{y}</y></pt>" for x, y in SQUARE)
    entry = f"<object><name>car</name><deleted>0</deleted><polygon>{outline}</polygon></object>"
    size = "<imagesize><nrows>8</nrows><ncols>8</ncols></imagesize>"
    put(root, "a.xml", f"<annotation><filename>a.jpg</filename>{size}{entry}</annotation>".encode())
    return {"annotation_folder": str(root)}


def labelbox(root):
    put(root, "images/a.jpg")
    points = [{"x": x, "y": y} for x, y in SQUARE]
    objects = [
        {"name": "car", "annotation_kind": "ImagePolygon", "polygon": points},
        {"name": "car", "bounding_box": {"top": 0, "left": 0, "height": 2, "width": 2}},
        {"name": "car", "line": points},
        {"name": "car", "point": points[0]},
    ]
    labels = [{"label_kind": "Default", "annotations": {"objects": objects}}]
    row = {"data_row": {"id": "1", "external_id": "a.jpg"}, "media_attributes": {"height": 8, "width": 8}}
    put(root, "a.json", [{**row, "projects": {"p": {"labels": labels}}}])
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images"), "line_width": 2.0}


def darwin(root):
    put(root, "a.jpg")
    points = [{"x": x, "y": y} for x, y in SQUARE]
    slot = {"type": "image", "slot_name": "0", "width": 8, "height": 8}
    layer = {"dense_rle": [0, 4, 1, 60], "mask_annotation_ids_mapping": {"m": 1}, "total_pixels": 64}
    annotations = [
        {"name": "car", "polygon": {"paths": [points, points]}, "bounding_box": {"x": 1, "y": 1, "w": 4, "h": 4}},
        {"name": "car", "ellipse": {"angle": 0.5, "center": {"x": 3, "y": 3}, "radius": {"x": 2, "y": 1}}},
        {"name": "car", "bounding_box": {"x": 1, "y": 1, "w": 4, "h": 4}},
        {"name": "car", "line": {"path": points}},
        {"name": "car", "keypoint": {"x": 1, "y": 1}},
        {"name": "sky", "mask": {}, "id": "m"},
        {"name": "__raster_layer__", "raster_layer": layer},
    ]
    item = {"name": "a.jpg", "path": "/", "slots": [slot]}
    put(root, "a.json", {"version": "2.0", "item": item, "annotations": annotations})
    return {"annotation_folder": str(root), "line_width": 2.0}


def rle_csv(root):
    put(root, "images/a.jpg")
    put(root, "images/b.jpg")
    put(root, "a.csv", b"ImageId,ClassId,EncodedPixels\na.jpg,car,1 3 9 3\na.jpg,dog,20 2\nb.jpg,dog,\n")
    return {"annotations": str(root / "a.csv"), "image_folder": str(root / "images")}


def deepfashion2(root):
    put(root, "image/000001.jpg")
    put(
        root, "annos/000001.json", {"source": "user", "pair_id": 1, "item1": {"category_id": 1, "segmentation": [FLAT]}}
    )
    return {"annotation_folder": str(root / "annos"), "image_folder": str(root / "image")}


def nifti(root):
    put(root, "images/a.nii.gz")
    put(root, "labels/a_seg.nii.gz")
    return {"image_folder": str(root / "images"), "mask_folder": str(root / "labels"), "mask_suffix": "_seg"}


def parquet(root):
    pyarrow = pytest.importorskip("pyarrow", reason="the extra `hf` is not installed")
    write = pytest.importorskip("pyarrow.parquet").write_table
    cells = [{"bytes": b"", "path": "a.png"}, {"bytes": b"", "path": "b.png"}]
    write(pyarrow.table({"image": cells, "label": cells}), root / "rows.parquet")
    return {"tables": str(root)}


# --- Other forms of the same formats, whose files other code reads ---------------------------------------------


def png(pixels, **options):
    buffer = io.BytesIO()
    Image.fromarray(np.asarray(pixels, np.uint8)).save(buffer, "PNG", **options)
    return base64.b64encode(buffer.getvalue()).decode()


def folder_of_pairs(root):
    put(root, "images/day/a.jpg")
    put(root, "masks/a.png")
    put(root, "pairs.csv", b"image,mask\n# comment\n/x/images/day/a.jpg,masks/a.png\n")
    return {
        "image_folder": str(root / "images"),
        "mask_folder": str(root / "masks"),
        "pair_list": str(root / "pairs.csv"),
    }


def folder_with_classes(root):
    put(root, "masks/class_dict.csv", b"name,r,g,b\nbackground,0,0,0\nroad,128,64,128\n")
    return folder(root)


def camvid_lists(root):
    put(root, "images/0001TP_006690.png")
    put(root, "masks/0001TP_006690.png")
    put(root, "train.txt", b"# 2008\n0001TP_006690\n")
    return {"camvid_root": str(root), "layout": "lists"}


def coco_of_cvat(root):
    """Compressed and uncompressed run lengths, brush strokes that are marked as crowds, a flat polygon, text ids."""
    put(root, "images/a.jpg")
    common = {"image_id": "1", "category_id": "1"}
    annotations = [
        {**common, "id": 1, "iscrowd": 1, "segmentation": {"size": [8, 8], "counts": [8, 20, 36]}},
        {**common, "id": 2, "iscrowd": 1, "segmentation": {"size": [8, 8], "counts": [0, 9, 55]}},
        {**common, "id": 3, "iscrowd": "false", "segmentation": {"size": [8, 8], "counts": "8d0T1"}},
        {**common, "id": 4, "segmentation": FLAT},
    ]
    image = {"id": "1", "file_name": "images/a.jpg", "height": 8, "width": 8}
    content = {"images": [image], "annotations": annotations, "categories": [{"id": "1", "name": "car"}]}
    put(root, "a.json", content)
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def labelme_masks(root):
    put(root, "a.jpg")
    shapes = [
        {"label": "hair", "points": [[1, 1], [3, 2]], "shape_type": "mask", "mask": png([[1, 1, 0], [0, 1, 1]])},
        {"label": "skin", "points": SQUARE, "shape_type": "polygon", "group_id": 1, "flags": {}, "description": ""},
    ]
    put(
        root,
        "a.json",
        {"version": "5.5.0", "shapes": shapes, "imagePath": "..\\a.jpg", "imageHeight": 8, "imageWidth": 8},
    )
    return {"annotation_folder": str(root)}


def cvat_tracks(root):
    """A video: boxes that move, polygons between key frames, masks."""
    for number in range(4):
        put(root, f"images/frame_{number:06}.png")
    box = '<box frame="{}" outside="{}" keyframe="1" xtl="{}" ytl="0" xbr="6" ybr="4" occluded="0"/>'
    outline = '<polygon frame="{}" outside="{}" keyframe="1" points="1,1;5,1;5,5;1,5" z_order="1"/>'
    mask = '<mask frame="1" outside="0" keyframe="1" rle="1,2,1" left="0" top="0" width="2" height="2"/>'
    tracks = (
        f'<track id="0" label="car">{box.format(0, 0, 1)}{box.format(3, 1, 3)}</track>',
        f'<track id="1" label="dog">{outline.format(1, 0)}{outline.format(2, 0)}</track>',
        f'<track id="2" label="dog">{mask}</track>',
    )
    task = "<meta><task><size>4</size><original_size><width>8</width><height>8</height></original_size></task></meta>"
    put(root, "a.xml", f"<annotations><version>1.1</version>{task}{''.join(tracks)}</annotations>".encode())
    return {"annotations": str(root / "a.xml"), "image_folder": str(root / "images")}


def label_studio_brush(root):
    put(root, "images/a.jpg")
    from tests.deeplab.data.readers.test_label_studio import brush_code

    value = {"format": "rle", "rle": brush_code(np.eye(8, dtype=int)), "brushlabels": ["car"]}
    sizes = {"original_width": 8, "original_height": 8, "image_rotation": 0}
    result = {"id": "r", "type": "brushlabels", "from_name": "tag", "to_name": "image", "value": value, **sizes}
    put(
        root,
        "a.json",
        [{"id": 1, "data": {"image": "/data/upload/1/0123abcd-a.jpg"}, "annotations": [{"result": [result]}]}],
    )
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def via_csv(root):
    put(root, "images/a.jpg")
    head = b"filename,file_size,file_attributes,region_count,region_id,region_shape_attributes,region_attributes\n"
    outline = json.dumps({"name": "polygon", "all_points_x": [1, 5, 5, 1], "all_points_y": [1, 1, 5, 5]})
    cells = ["a.jpg", "0", "{}", "2", "0", outline, json.dumps({"part": "hair"})]
    row = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells) + "\n"
    put(root, "a.csv", head + row.encode() + row.replace("hair", "skin").encode())
    return {"annotations": str(root / "a.csv"), "image_folder": str(root / "images")}


def supervisely_bitmap(root):
    put(root, "meta.json", {"classes": [{"title": "hair", "shape": "bitmap", "color": "#010203"}]})
    put(root, "train/img/a.jpg")
    data = base64.b64encode(zlib.compress(base64.b64decode(png([[0, 1], [1, 1]])))).decode()
    item = {"classTitle": "hair", "geometryType": "bitmap", "bitmap": {"data": data, "origin": [2, 1]}}
    put(root, "train/ann/a.jpg.json", {"size": {"height": 8, "width": 8}, "objects": [item], "tags": []})
    return {"project_folder": str(root)}


def yolo_folders(root):
    put(root, "images/a.jpg")
    put(root, "labels/a.txt", b"# made by a script\n0,0.1,0.1,0.5,0.1,0.5,0.5\n1 0.5 0.5 0.2 0.2\n".partition(b"\n")[2])
    put(root, "labels/classes.txt", b"hair\nskin\n")
    return {"image_folder": str(root / "images"), "label_folder": str(root / "labels")}


def labelbox_lines(root):
    settings = labelbox(root)
    (row,) = json.loads((root / "a.json").read_bytes())
    put(root, "a.ndjson", "\n".join([json.dumps(row), json.dumps({**row, "projects": {}}), ""]).encode())
    (root / "a.json").unlink()
    return {**settings, "annotations": str(root / "a.ndjson")}


def labelbox_old(root):
    put(root, "images/a.jpg")
    points = [{"x": x, "y": y} for x, y in SQUARE]
    objects = {"objects": [{"title": "car", "value": "car", "polygon": points}]}
    entries = [{"External ID": "a.jpg", "Label": objects}, {"External ID": "a.jpg", "Label": "Skip"}]
    put(root, "a.json", entries)
    return {"annotations": str(root / "a.json"), "image_folder": str(root / "images")}


def darwin_one(root):
    put(root, "a.jpg")
    points = [{"x": x, "y": y} for x, y in SQUARE]
    outline = {"path": points, "additional_paths": [points]}
    image = {"filename": "a.jpg", "original_filename": "a.jpg", "width": 8, "height": 8}
    put(root, "a.json", {"dataset": "d", "image": image, "annotations": [{"name": "car", "polygon": outline}]})
    return {"annotation_folder": str(root)}


def rle_csv_wide(root):
    """Name and class in one column, as in Kaggle's cloud dataset."""
    put(root, "images/a.jpg")
    put(root, "a.csv", b"Image_Label,EncodedPixels\na.jpg_Fish,1 3 9 3\na.jpg_Sugar,20 2\n")
    return {"annotations": str(root / "a.csv"), "image_folder": str(root / "images")}


CLOTHES = datasets.load_known("deepfashion2").class_names
GONE = ("file-not-found",)
CASES = [
    ReaderCase("folder", folder, {"": 1}),
    ReaderCase("binary", binary, {"": 1}, ("background", "x")),
    ReaderCase("voc", voc, {"train": 1}, (), ("lists/train.txt",)),
    ReaderCase("cityscapes", cityscapes, {"train_fine": 1, "val_fine": 1}),
    ReaderCase("ade20k", ade20k, {"train": 1, "val": 1}),
    ReaderCase(
        "ade20k_full", ade20k_full, {"train": 1, "val": 1}, ("wall", "car, auto"), ("training/scene/training_1.json",)
    ),
    ReaderCase("vistas", vistas, {"train": 1, "val": 1}, ("car", "sky"), ("config_v2.0.json",)),
    ReaderCase("camvid", camvid, {"train": 1}),
    ReaderCase("coco", coco, {"": 2}, ("background", "car", "dog"), ("a.json",), GONE),
    ReaderCase("coco_panoptic", coco_panoptic, {"": 1}, ("car", "sky"), ("a.json",), GONE),
    ReaderCase("labelme", labelme, {"": 1}, ("background", "hair"), ("a.json",)),
    ReaderCase("cvat", cvat, {"": 2}, ("background", "car"), ("a.xml",), GONE),
    ReaderCase("label_studio", label_studio, {"": 1}, ("background", "car"), ("a.json",), GONE),
    ReaderCase("via", via, {"": 1}, ("background", "hair"), ("a.json",), GONE),
    ReaderCase("supervisely", supervisely, {"": 1}, ("background", "hair"), ("meta.json", "one/ann/a.jpg.json"), GONE),
    ReaderCase("yolo", yolo, {"train": 1}, ("background", "hair", "skin"), ("data.yaml", "labels/train/a.txt"), GONE),
    ReaderCase("isat", isat, {"": 1}, ("background", "skin", "hair"), ("a.json", "isat.yaml")),
    ReaderCase("labelme_xml", labelme_xml, {"": 1}, ("background", "car"), ("a.xml",)),
    ReaderCase("labelbox", labelbox, {"": 1}, ("background", "car"), ("a.json",), GONE),
    ReaderCase("darwin", darwin, {"": 1}, ("background", "car", "sky"), ("a.json",)),
    ReaderCase("nifti", nifti, {"": 1}),
    ReaderCase("parquet", parquet, {"": 2}, in_tables=True),
    ReaderCase("rle_csv", rle_csv, {"": 2}, ("background", "car", "dog"), ("a.csv",), GONE),
    ReaderCase("deepfashion2", deepfashion2, {"": 1}, CLOTHES, ("annos/000001.json",)),
]

VARIANTS = [
    ReaderCase("folder", folder_of_pairs, {"": 1}, (), ("pairs.csv",), variant="pairs"),
    ReaderCase("folder", folder_with_classes, {"": 1}, (), ("masks/class_dict.csv",), variant="classes"),
    ReaderCase("camvid", camvid_lists, {"train": 1}, (), ("train.txt",), variant="lists"),
    ReaderCase("coco", coco_of_cvat, {"": 1}, ("background", "car"), ("a.json",), variant="cvat"),
    ReaderCase("labelme", labelme_masks, {"": 1}, ("background", "hair", "skin"), ("a.json",), variant="masks"),
    ReaderCase("cvat", cvat_tracks, {"": 4}, ("background", "car", "dog"), ("a.xml",), variant="tracks"),
    ReaderCase("label_studio", label_studio_brush, {"": 1}, ("background", "car"), ("a.json",), variant="brush"),
    ReaderCase("via", via_csv, {"": 1}, ("background", "hair", "skin"), ("a.csv",), variant="csv"),
    ReaderCase(
        *("supervisely", supervisely_bitmap, {"": 1}, ("background", "hair"), ("train/ann/a.jpg.json",)),
        variant="bitmap",
    ),
    ReaderCase(
        *("yolo", yolo_folders, {"": 1}, ("background", "hair", "skin"), ("labels/a.txt", "labels/classes.txt")),
        variant="folders",
    ),
    ReaderCase("labelbox", labelbox_lines, {"": 1}, ("background", "car"), ("a.ndjson",), variant="lines"),
    ReaderCase("labelbox", labelbox_old, {"": 1}, ("background", "car"), ("a.json",), variant="old"),
    ReaderCase("darwin", darwin_one, {"": 1}, ("background", "car"), ("a.json",), variant="one"),
    ReaderCase("rle_csv", rle_csv_wide, {"": 1}, ("background", "Fish", "Sugar"), ("a.csv",), variant="wide"),
]


def test_every_format_is_in_the_battery():
    assert [case.format for case in CASES] == FORMATS.names()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.format)
class TestReader:
    def test_reads_a_minimal_dataset(self, case, tmp_path):
        battery.check_minimal(case, tmp_path)

    def test_reads_no_pixels(self, case, tmp_path):
        battery.check_no_pixels(case, tmp_path)

    def test_its_source_travels_between_processes(self, case, tmp_path):
        battery.check_picklable(case, tmp_path)

    def test_names_of_splits(self, case, tmp_path):
        battery.check_named_splits(case, tmp_path)

    def test_several_files_of_a_split(self, case, tmp_path):
        battery.check_several_files(case, tmp_path)

    def test_the_documentation_says_what_it_reads(self, case):
        battery.check_matrix(case, PAGE.read_text(encoding="utf-8"))

    def test_merges_classes_by_name(self, case, tmp_path):
        battery.check_merged(case, tmp_path)

    def test_refuses_a_dataset_without_files(self, case, tmp_path):
        battery.check_empty(case, tmp_path)

    def test_survives_mutated_files(self, case, tmp_path):
        battery.check_mutants(case, tmp_path)


@pytest.mark.parametrize("case", VARIANTS, ids=lambda case: case.name)
class TestVariant:
    def test_several_files_of_a_split(self, case, tmp_path):
        if case.variant != "pairs":  # whose lists have folders of their own
            battery.check_several_files(case, tmp_path)

    def test_reads_a_minimal_dataset(self, case, tmp_path):
        battery.check_minimal(case, tmp_path)

    def test_survives_mutated_files(self, case, tmp_path):
        battery.check_mutants(case, tmp_path)
