"""Serving: a web server with a page and TensorFlow Serving's REST API, and a client for both.

`app` is the server, `batching` its queue, `protocol` the JSON of TensorFlow Serving, `segmentation_json` the JSON of
`/segment`; `client` is the other side. Used by the command `serve` and by the Python API; it never opens a path or an
address that a client sends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from deeplab.serving.client import Client

__all__ = ["Client"]


def __getattr__(name: str) -> Any:
    if name == "Client":
        from deeplab.serving.client import Client

        return Client
    raise AttributeError(f"module 'deeplab.serving' has no attribute {name!r}")
