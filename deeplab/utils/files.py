"""Files and folders that are written whole or not at all.

`write_atomically` writes one file, `Transaction` several files and folders of one folder together. Both write under
hidden temporary names (`.NAME.HOST-PROCESS.partial`), sync to the disk and rename. Every failure is a UserError that
names the file, the system's reason and the free space. What a killed process left is removed by the next one of the
same machine; of other machines, whose processes are invisible, after a day.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import re
import shutil
import stat
import time
import zlib
from collections.abc import Iterable, Iterator

from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.locks import folder_lock, is_running
from deeplab.utils.text import byte_text

STALE_SECONDS = 24 * 3600.0  # leftovers of other machines, whose processes are invisible, are removed after a day
MAX_PARTIAL = 30  # bytes that a temporary name has more than the file's own
_PARTIAL = re.compile(r"^\.(?P<name>.+)\.(?P<mark>([0-9a-f]{8}-)?\d+)\.partial$")
_JOURNAL = ".deeplab-transaction.json"
_REPLACED, _DISCARDED = ".replaced", ".discarded"
_TURN, _MAX_TURN = ".deeplab-results.lock", 60.0  # seconds


# --- One file -----------------------------------------------------------------------------------------------


def write_atomically(path: str | os.PathLike, content: bytes | str) -> None:
    """Writes a file under a temporary name, syncs and renames it: after a kill the file is the old or the new one.

    A symbolic link stays, its target is replaced. Text is written as UTF-8.

    Raises:
      UserError: the path is a folder, a device or a pipe (`not-a-file`), or writing fails (`unwritable-file`).
    """
    path = _require_replaceable(path)
    data = content.encode() if isinstance(content, str) else content
    temporary = partial_path(path)
    with writing(path, len(data)):
        try:
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            remove(temporary)
            raise


@contextlib.contextmanager
def writing(path: str | os.PathLike, need: int = 0) -> Iterator[None]:
    """Turns an OSError of the block into a UserError about `path`.

    Args:
      path: the file that the block writes.
      need: bytes that it takes, for the message; 0 = unknown.

    Raises:
      UserError: `unwritable-file`, with the system's reason, and the free space in the hint.
    """
    try:
        yield
    except OSError as problem:
        raise unwritable_file(path, problem, need) from problem


def unwritable_file(path: str | os.PathLike, problem: OSError, need: int = 0) -> UserError:
    """Return the error for a file that cannot be written; see `writing`."""
    needed = f"{byte_text(need)} are needed, " if need else ""
    hint = f"check the permissions and the free space: {needed}{byte_text(free_space(path))} are free"
    return UserError("unwritable-file", f"cannot be written: {problem.strerror or problem}", hint, where=path)


def free_space(path: str | os.PathLike) -> int:
    """Return the free bytes on the disk of a path, which need not exist yet."""
    place = pathlib.Path(path).absolute()
    return shutil.disk_usage(next(part for part in (place, *place.parents) if part.is_dir())).free


def partial_path(path: str | os.PathLike, mark: int | str | None = None) -> pathlib.Path:
    """Return the temporary name of a file that is being written.

    Args:
      path: the name it will get.
      mark: number in the temporary name (default: machine and process).
    """
    path = pathlib.Path(path)
    return path.with_name(f".{path.name}.{_own_mark() if mark is None else mark}.partial")


def _own_mark() -> str:
    """Return what tells the temporary files of this process apart: its machine and its number."""
    import socket

    return f"{zlib.crc32(socket.gethostname().encode()):08x}-{os.getpid()}"


def _is_abandoned(mark: str, path: pathlib.Path) -> bool:
    """Return whether the process that wrote a temporary file or folder, or a journal, is known or assumed to be gone.

    Args:
      mark: of the process; without a machine it is one of this machine.
      path: the file or folder, whose age counts where the process is on another machine.
    """
    machine, _, process = mark.rpartition("-")
    if machine and machine != _own_mark().partition("-")[0]:
        return time.time() - _modified(path) > STALE_SECONDS
    return not is_running(int(process))


def _modified(path: pathlib.Path) -> float:
    """Return when a file, or anything in a folder, changed last: seconds of the epoch; now if it is gone."""
    inner = (pathlib.Path(folder, name) for folder, _, names in os.walk(path) for name in names)
    times = []
    for each in (path, *inner):
        with contextlib.suppress(OSError):
            times.append(each.lstat().st_mtime)
    return max(times, default=time.time())


def remove_partial(folder: str | os.PathLike, of_running: bool = False) -> list[str]:
    """Removes temporary files and folders that killed processes left in a folder; their names.

    Args:
      folder: the folder.
      of_running: remove those of running processes too; for callers that hold the folder's lock.
    """
    names = []
    for name in sorted(os.listdir(folder)):
        match = _PARTIAL.match(name)
        if match and (of_running or _is_abandoned(match["mark"], pathlib.Path(folder, name))):
            remove(pathlib.Path(folder, name))
            names.append(name)
    return names


def remove(path: str | os.PathLike) -> None:
    """Removes a file, or a folder with its content; nothing happens if it does not exist."""
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def sync(path: str | os.PathLike) -> None:
    """Waits until a file, or a folder with its files and their names, is on the disk."""
    if os.path.isdir(path):
        for folder, _, names in os.walk(os.fspath(path)):
            for name in names:
                sync(os.path.join(folder, name))
            sync_names(folder)
        return
    descriptor = os.open(path, os.O_RDONLY if os.name != "nt" else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync_names(folder: str | os.PathLike) -> None:
    """Waits until the names in a folder are on the disk, where the file system can do that (Windows cannot)."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def size_of(path: str | os.PathLike) -> int:
    """Return the bytes of a file, or of all files in a folder."""
    if os.path.isfile(path):
        return os.path.getsize(path)
    return sum(
        os.path.getsize(os.path.join(folder, name)) for folder, _, names in os.walk(os.fspath(path)) for name in names
    )


def _require_replaceable(path: str | os.PathLike, may_be_folder: bool = False) -> pathlib.Path:
    """Return the path with links resolved.

    Raises:
      UserError: it exists, and is neither a regular file nor, where that is allowed, a folder.
    """
    try:
        mode = os.stat(path).st_mode
    except OSError:  # it does not exist, or writing will report why it cannot be reached
        return pathlib.Path(os.path.realpath(path))
    if stat.S_ISDIR(mode) and not may_be_folder:
        raise UserError("not-a-file", "is a folder", "give the name of a file", where=path)
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise UserError("not-a-file", "is a device, a pipe or a socket", "give the name of a file", where=path)
    return pathlib.Path(os.path.realpath(path))


# --- Folders ------------------------------------------------------------------------------------------------


@contextlib.contextmanager
def made_folder(folder: str | os.PathLike, field: str = "output_dir") -> Iterator[None]:
    """Makes a folder and its parents; removes those it made when the block fails and they are empty.

    Args:
      folder: the folder.
      field: the setting that names it, for messages; "" = the message names the folder only.

    Raises:
      UserError: it cannot be made or written to (`unwritable-folder`).
    """
    made = _make_folder(pathlib.Path(folder), field)
    try:
        yield
    except BaseException:
        _remove_if_empty(made)
        raise


@contextlib.contextmanager
def locked_folder(folder: str | os.PathLike, doing: str, field: str = "output_dir") -> Iterator[None]:
    """Makes a folder as `made_folder` does, holds it for this process, and removes what killed processes left in it.

    Args:
      folder: the folder.
      doing: what this process does there, for the message to a second one.
      field: the setting that names the folder.

    Raises:
      UserError: it cannot be made or written to (`unwritable-folder`), or another process holds it (`folder-in-use`).
    """
    with made_folder(folder, field), folder_lock(folder, doing, f"give another `{field}`"):
        with contextlib.suppress(OSError):  # of another user, for example: it is harmless
            remove_partial(folder)
        yield


def _make_folder(folder: pathlib.Path, field: str) -> list[pathlib.Path]:
    """Makes a folder; those of it and its parents that did not exist, the innermost first."""
    missing = [part for part in (folder.absolute(), *folder.absolute().parents) if not os.path.exists(part)]
    place: dict[str, object] = {"field": field, "value": str(folder)} if field else {"where": folder}
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        _remove_if_empty(missing)
        why = "it is a file" if os.path.isfile(folder) else problem.strerror
        rule, hint = f"{folder} cannot be made: {why}", "choose another folder"
        raise UserError("unwritable-folder", rule, hint, **place) from None  # type: ignore[arg-type]
    if not os.access(folder, os.W_OK):
        rule, hint = f"{folder} cannot be written to", "check its permissions, or choose another folder"
        raise UserError("unwritable-folder", rule, hint, **place)  # type: ignore[arg-type]
    return missing


def _remove_if_empty(folders: Iterable[pathlib.Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # another process uses it now
            folder.rmdir()


# --- Several files together ---------------------------------------------------------------------------------


class Transaction:
    """Files and folders of one folder that get their names together, or none of them.

        with Transaction("models") as transaction:
            write(transaction.temporary("frozen_inference_graph.pb"))
            transaction.discard("labels.old.txt")
            transaction.commit()

    Leaving the context without `commit` removes what was written, and the folder if it was made here. A kill during
    `commit` is undone by the next Transaction of the same folder (or `roll_back`), with the help of a journal in the
    folder: what was there before returns. Lock the folder (`utils/locks.py`) where several processes may write there.

    Args:
      folder: where the files go; made when missing.
      field: the setting that names the folder, for messages.

    Raises:
      UserError: the folder cannot be made or written to (`unwritable-folder`).
    """

    def __init__(self, folder: str | os.PathLike, field: str = ""):
        self.folder = pathlib.Path(folder or ".")
        self._names: list[str] = []
        self._discarded: list[str] = []
        self._made = _make_folder(self.folder, field)
        roll_back(self.folder)

    def temporary(self, name: str) -> pathlib.Path:
        """Return the path under which to write what will be called `name`; nothing exists there."""
        if name not in self._names:
            self._names.append(name)
        remove(self.written(name))
        return self.written(name)

    def written(self, name: str) -> pathlib.Path:
        """Return where the content of `name` is until the commit."""
        return partial_path(self.folder / name)

    def discard(self, name: str) -> None:
        """Removes an existing file or folder at the commit."""
        self._discarded.append(name)

    def commit(self) -> list[pathlib.Path]:
        """Gives everything its name, in the order of `temporary`, replacing what had it; the paths.

        Raises:
          UserError: a name belongs to a device or a pipe (`not-a-file`), or the disk refuses (`unwritable-file`);
            what was there before is there again.
        """
        for name in self._names:
            _require_replaceable(self.folder / name, may_be_folder=True)
        existing = [name for name in (*self._discarded, *self._names) if os.path.lexists(self.folder / name)]
        journal = {"process": _own_mark(), "new": self._names, "existing": existing}
        with writing(self.folder):
            for name in self._names:
                sync(self.written(name))
            write_atomically(self.folder / _JOURNAL, json.dumps(journal))
            sync_names(self.folder)
            try:
                for name in existing:
                    _set_aside(self.folder, name, name in self._names)
                for name in self._names:
                    os.replace(self.written(name), self.folder / name)
                sync_names(self.folder)
            except BaseException:
                roll_back(self.folder)
                raise
            os.unlink(self.folder / _JOURNAL)
        for name in existing:
            remove(_aside(self.folder, name, name in self._names))
        return [self.folder / name for name in self._names]

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, *_: object) -> None:
        for name in self._names:
            remove(self.written(name))
        _remove_if_empty(self._made)


@contextlib.contextmanager
def transaction_in_turn(folder: str | os.PathLike, field: str = "") -> Iterator[Transaction]:
    """A `Transaction` that waits while another process commits one of this kind in the folder, for a minute at most.

    For results of long work, which are not to be lost because another process writes its own there. Write in the block
    what takes an instant only. Commands that hold the folder itself (`locked_folder`) are not waited for.

    Raises:
      UserError: as `Transaction`; or another process did not finish in time (`folder-in-use`).
    """
    doing, hint = "writing its results", f"give another `{field}`" if field else "choose another folder"
    with made_folder(folder, field), folder_lock(folder, doing, hint, _TURN, _MAX_TURN), Transaction(folder) as opened:
        yield opened


def roll_back(folder: str | os.PathLike, locked: bool = False) -> list[str]:
    """Undoes a commit that was killed, and removes what killed processes left in a folder; the names removed.

    Args:
      folder: the folder.
      locked: the caller holds the folder's lock, so that no other process can be committing.
    """
    folder = pathlib.Path(folder)
    journal = folder / _JOURNAL
    removed = []
    if journal.is_file():
        with contextlib.suppress(ValueError, KeyError, TypeError):  # not written by a Transaction
            entry = json.loads(journal.read_bytes())
            mark = str(entry["process"])
            if not locked and mark != _own_mark() and not _is_abandoned(mark, journal):
                return []
            removed = _undo(folder, mark, entry["new"], entry["existing"])
        journal.unlink(missing_ok=True)
    for name in os.listdir(folder):
        match = _PARTIAL.match(name)
        is_kept = match and match["name"].endswith(_REPLACED)
        if match and is_kept and (locked or _is_abandoned(match["mark"], folder / name)):
            target = folder / match["name"].removesuffix(_REPLACED)
            if not target.exists():
                os.replace(folder / name, target)
    return removed + remove_partial(folder, of_running=locked)


def recover(folder: str | os.PathLike) -> None:
    """Undoes a commit that was killed in a folder that is going to be read; nearly always there is none.

    Raises:
      UserError: another process is committing (`folder-in-use`), or the folder cannot be written to
        (`unfinished-commit`).
    """
    if not os.path.isfile(os.path.join(folder, _JOURNAL)):
        return
    try:
        with folder_lock(folder, "replacing files", "read another folder"):
            roll_back(folder, locked=True)
    except OSError as problem:
        rule = f"a command was killed while it replaced the files here, and they cannot be restored: {problem.strerror}"
        hint = "repeat the command that was killed, or any that reads this folder, with permission to write to it"
        raise UserError("unfinished-commit", rule, hint, where=folder) from None
    console.note(f"{folder}: a command was killed while it replaced the files here; the earlier ones are back")


def _undo(folder: pathlib.Path, mark: str, new: list[str], existing: list[str]) -> list[str]:
    removed = [name for name in new if name not in existing and not os.path.lexists(partial_path(folder / name, mark))]
    for name in removed:
        remove(folder / name)
    for name in existing:
        aside = _aside(folder, name, name in new, mark)
        if os.path.lexists(aside):
            if aside.is_dir():
                remove(folder / name)
            os.replace(aside, folder / name)
    return removed


def _set_aside(folder: pathlib.Path, name: str, is_replaced: bool) -> None:
    """Gives existing content a second name; a file that is replaced keeps the first one as well until then."""
    path, aside = folder / name, _aside(folder, name, is_replaced)
    remove(aside)
    if is_replaced and not path.is_dir():
        with contextlib.suppress(OSError):  # no hard links on this file system
            os.link(path, aside, follow_symlinks=False)
            return
    os.replace(path, aside)


def _aside(folder: pathlib.Path, name: str, is_replaced: bool, mark: str | None = None) -> pathlib.Path:
    """Return where the earlier content of a name is during a commit."""
    return partial_path(folder / (name + (_REPLACED if is_replaced else _DISCARDED)), mark)
