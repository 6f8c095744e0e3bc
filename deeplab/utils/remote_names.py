"""The names of remote files and folders: which texts are such names, and which local copy belongs to which name.

Called by `remote_files.py`, which makes the copies, and by everything that shows or saves a path, so that people and
`config.yml` get `gs://bucket/run` and not the copy's path. Never opens a file.
"""

from __future__ import annotations

import os
import re

_NAME = re.compile(r"(?<![A-Za-z0-9+.-])([a-z][a-z0-9+.-]+)://[^,]*")
_SERVERS = ("http", "https", "grpc")  # schemes of servers of models
_OTHERS = {*_SERVERS, "hf", "rtsp", "rtmp", "rtp", "udp"}  # and of what loads itself

_copies: dict[str, str] = {}  # path of a local copy -> remote name


def remote_names(text: str) -> list[str]:
    """Return the names of remote files in a text, such as `gs://bucket/a` in `train:gs://bucket/a,val:/data/b`."""
    return [match[0].strip() for match in _NAME.finditer(text) if match[1] not in _OTHERS] if "://" in text else []


def is_remote(path: str | os.PathLike) -> bool:
    """Whether a path names a file or folder on another file system, such as `gs://bucket/a`."""
    text = os.fspath(path)
    return remote_names(text) == [text]


def is_server(path: str) -> bool:
    """Whether a text is the address of a server of models, such as `http://host:8501/v1/models/NAME`."""
    return path.startswith(tuple(f"{scheme}://" for scheme in _SERVERS))


def remember(copy: str | os.PathLike, name: str) -> None:
    """Notes that a local path stands for a remote name in what is shown and saved from now on."""
    _copies[os.fspath(copy)] = name


def forget(copy: str | os.PathLike) -> None:
    """Undoes `remember`."""
    _copies.pop(os.fspath(copy), None)


def named(text: str) -> str:
    """Return a text with the remote names in place of the paths of their copies."""
    for copy in sorted(_copies, key=len, reverse=True) if _copies else ():
        text = text.replace(copy, _copies[copy])
    return text
