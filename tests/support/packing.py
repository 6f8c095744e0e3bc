"""Archives made in memory."""

from __future__ import annotations

import io
import tarfile
import zipfile


def zipped(contents: dict[str, bytes]) -> bytes:
    """A .zip of files, by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return buffer.getvalue()


def tarred(contents: dict[str, bytes], mode: str = "w:gz") -> bytes:
    """A .tgz of files, by name; with mode "w" a .tar."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        for name, content in contents.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return buffer.getvalue()
