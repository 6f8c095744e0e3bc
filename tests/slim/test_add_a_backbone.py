"""The backbone that `docs/add_a_backbone.md` shows is real: it passes what every backbone passes."""

import pytest
from support import tiny_backbone
from support.backbone_battery import Battery


class TestDocumentedBackbone(Battery):
    variant = "tiny"

    @pytest.fixture(autouse=True)
    def registered(self):
        with tiny_backbone.registered():
            yield
