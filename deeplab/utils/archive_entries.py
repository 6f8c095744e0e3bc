"""Entries of an archive on their way to the disk: names made safe, sizes held within bounds, nothing overwritten."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import IO

from deeplab.utils.errors import UserError

CHUNK = 1 << 20
AGAIN = "remove it and fetch it again"
_JUNK = ("__MACOSX", ".DS_Store", "Thumbs.db", "desktop.ini")


class Damaged(Exception):
    """What the archive's reader stumbled over."""


@dataclass(frozen=True)
class Limits:
    """What an archive of one kind may become when it is unpacked.

    Attributes:
      kind: what such an archive holds, for messages: "checkpoint".
      files: most files.
      bytes: most bytes of all files together.
      ratio: most bytes for each byte of the archive, looked at beyond `harmless` bytes.
      harmless: bytes up to which any ratio is let pass.
      durable: write each file through to the disk; without it the caller does so once for all.
    """

    kind: str
    files: int
    bytes: int
    ratio: int = 200
    harmless: int = 1 << 30
    durable: bool = True


CHECKPOINTS = Limits("checkpoint", files=1000, bytes=8 << 30)


@dataclass
class Target:
    """Where the entries of one archive go.

    Attributes:
      archive: path of the archive, for messages.
      folder: an empty folder.
      limits: what it may become.
      place: where in the folder a file belongs, by its name in the archive; empty for one that is not wanted.
      inside: what stands before every name: the place of an archive that lies in another.
      names: paths of the files written so far, relative to the folder.
      size: how many bytes they have together.
    """

    archive: str
    folder: str
    limits: Limits
    place: Callable[[str], str] = str
    inside: str = ""
    names: list[str] = field(default_factory=list)
    size: int = 0

    def admit(self, size: int, files: int = 1, packed: int | None = None) -> None:
        """Counts files that are about to be written.

        Args:
          size: their bytes, as the archive declares them.
          files: how many there are.
          packed: bytes of the archive that have been read for all files so far; None = all of it.

        Raises:
          UserError: that is more than the limits allow.
        """
        limits = self.limits
        self.size += size
        if self.size > limits.bytes or len(self.names) + files > limits.files:
            rule = f"holds more than {limits.files} files or {limits.bytes >> 30} GiB, as no {limits.kind} does"
            raise UserError("unclassified", rule, AGAIN, where=self.archive)
        packed = max(1, os.path.getsize(self.archive) if packed is None else packed)
        if self.size > limits.harmless and self.size > limits.ratio * packed:
            rule = f"would grow from {packed} bytes to {self.size}, more than {limits.ratio} times"
            raise UserError("unclassified", f"{rule}, as no {limits.kind} does", AGAIN, where=self.archive)

    def destination(self, name: str) -> str:
        """An entry's path in the folder; empty where it is not wanted, or is the folder itself.

        Raises:
          UserError: it would lie outside.
        """
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or "\\" in name or "\0" in name:
            raise self.distrust(name, "would lie outside its folder")
        if not parts or parts[0] in _JUNK or parts[-1] in _JUNK:
            return ""
        return self.place(os.path.join(self.inside, *parts))

    def distrust(self, name: str, rule: str) -> UserError:
        """The error for an entry that must not be unpacked."""
        return UserError("unclassified", f"is not to be trusted: its entry {name!r} {rule}", AGAIN, where=self.archive)

    def write(self, name: str, source: IO[bytes] | None, size: int) -> Iterator[None]:
        """Writes one file of a safe name; comes back after every piece.

        Raises:
          Damaged: the source ends before `size` bytes, or cannot be unpacked.
          UserError: something of that name is there already, or the disk does not take it.
        """
        path = os.path.join(self.folder, name)
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "xb") as target:  # never over another entry
                while source is not None and (piece := source.read(CHUNK)):
                    target.write(piece)
                    yield
                if target.tell() != size:
                    raise Damaged(f"{name} ends early")
                if self.limits.durable:
                    target.flush()
                    os.fsync(target.fileno())
        except OSError as fault:
            if fault.errno is None:  # of the unpacking, not of the disk
                raise Damaged(str(fault)) from fault
            raise self._unwritable(name, fault) from fault
        self.names.append(name)

    def _unwritable(self, name: str, fault: OSError) -> UserError:
        if fault.errno in (errno.EEXIST, errno.ENOTDIR, errno.EISDIR):
            return self.distrust(name, f"stands there twice: {fault.strerror}")
        hint = "make room" if fault.errno in (errno.ENOSPC, errno.EDQUOT) else "see that it can be written to"
        return UserError(
            "unclassified", f"{name} cannot be written: {fault.strerror or fault}", hint, where=self.folder
        )
