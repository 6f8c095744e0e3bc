"""MobileNetV2."""

from support.backbone_battery import Battery, Golden


class TestMobilenetV2(Battery):
    variant = "mobilenet_v2"
    family = "mobilenet_v2"
    tolerance = 1e-5
    golden = (
        Golden("mobilenet_v2_os16", (97, 129)),
        Golden("mobilenet_v2_even_os16", (96, 128)),
        Golden("mobilenet_v2_os8", (97, 129), {"output_stride": 8}),
        Golden("mobilenet_v2_dm025_os16", (97, 129), {"depth_multiplier": 0.25}),
        Golden("mobilenet_v2_dm05_os16", (97, 129), {"depth_multiplier": 0.5}),
    )
