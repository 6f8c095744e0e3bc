"""Files on other file systems: `gs://bucket/run`, `s3://...`, `hdfs://...`, everything that `file_systems` knows.

The one place that decides between local and remote. Commands work on local files: what they read is copied into
`$DEEPLAB_CACHE/remote` before they start (files that have not changed since are not copied again), and what they write
is copied from a folder there while they run and at their end. Called by the command line for all commands, and by the
functions of the Python API that take a path. Local paths cost nothing: TensorFlow and fsspec are imported at the first
remote name.

Object storage has no locks and no renames of folders. Each file arrives whole (stores show an object when its upload
has ended; other file systems get a temporary name and a rename), files that name others (`checkpoint`, `dataset.yml`)
come after the others, and files that are gone here are removed there last.
"""

from __future__ import annotations

import contextlib
import functools
import glob
import os
import pathlib
import posixpath
import re
import shutil
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, TypeVar

from deeplab.utils import console
from deeplab.utils.errors import UserError
from deeplab.utils.file_systems import Facts, FileSystem, file_system
from deeplab.utils.files import free_space, partial_path, remove, writing
from deeplab.utils.locks import is_running
from deeplab.utils.parallel import ordered_map
from deeplab.utils.paths import cache_root, matches
from deeplab.utils.processes import extend_grace, require_grace
from deeplab.utils.remote_names import forget, is_remote, named, remember, remote_names
from deeplab.utils.text import byte_text, counted

SECONDS_BETWEEN_COPIES = 20.0  # of a command's output while it runs
_SECONDS_AT_THE_END = 600.0  # that the last copy may take after Ctrl-C or SIGTERM
_SECONDS_TO_THE_END = 30.0  # until the last copy begins
_PAUSES = (1.0, 4.0)  # seconds before the second and the third attempt
_WORKERS = 16  # files that are copied at the same time
_LAST = ("checkpoint", "dataset.yml")  # they name files that must be there before
_BESIDE_A_FILE = ("config.yml", "labels.txt", "metadata.json", "contract.json", "dataset.yml")
_HOPELESS = {
    *("NotFoundError", "FileNotFoundError", "PermissionDeniedError", "PermissionError", "UnauthenticatedError"),
    *("UnimplementedError", "NotImplementedError", "InvalidArgumentError", "NoCredentialsError", "IsADirectoryError"),
}
Result = TypeVar("Result")


# --- Operations ---------------------------------------------------------------------------------------------


def _system_of(name: str) -> FileSystem:
    return file_system(name.partition("://")[0])


def _attempted(doing: str, name: str, work: Callable[[], Result]) -> Result:
    """The result of an operation on a remote file, tried three times where another try may help.

    Raises:
      UserError: it failed (`remote-failed`).
    """
    for pause in (*_PAUSES, None):
        try:
            return work()
        except UserError:
            raise
        except Exception as error:  # whatever the library of a file system raises
            if pause is not None and type(error).__name__ not in _HOPELESS:
                time.sleep(pause)
                continue
            reason = " ".join(str(error).split())[:300] or type(error).__name__
            hint = "check the name, the network and your credentials for this storage"
            raise UserError("remote-failed", f"cannot be {doing}: {reason}", hint, where=name) from None
    raise AssertionError("the last attempt ends the loop")


# --- Reading ------------------------------------------------------------------------------------------------


def local_copy(path: str | os.PathLike) -> str:
    """Return the path of a local copy of a remote file, folder, pattern or checkpoint prefix; a local path as it is.

    Of a file, what belongs to it is copied as well: class names, metadata, weights in a file of their own. Files that
    have not changed since the last time are not copied again.

    Raises:
      UserError: there is nothing of this name (`file-not-found`), it cannot be read (`remote-failed`), there is no
        such file system (`unknown-file-system`), or no room for the copy (`unwritable-file`).
    """
    name = os.fspath(path)
    if not is_remote(name):
        return name
    if name.startswith("file://"):
        return name.removeprefix("file://")
    found = _found(name)
    if not found:
        raise UserError("file-not-found", "does not exist", "check the name", where=name)
    target = _cached(name)
    remember(target, name)
    _remove_stale(name, found)
    _download(found)
    return str(target)


_refreshed: dict[str, float] = {}  # time of the last copy, by the copy's path


def refresh(copy: str) -> None:
    """Copy again what has changed, at most every 20 seconds; nothing happens for a path that is no copy's."""
    name = named(copy)
    if name != copy and is_remote(name) and time.monotonic() - _refreshed.get(copy, 0.0) > SECONDS_BETWEEN_COPIES:
        local_copy(name)
        _refreshed[copy] = time.monotonic()


def read_bytes(name: str) -> bytes:
    """Return the bytes of a remote file, without a copy in the cache.

    Raises:
      UserError: it does not exist or cannot be read (`remote-failed`).
    """
    with _temporary_file() as path:
        _attempted("read", name, lambda: _system_of(name).download(name, str(path)))
        return path.read_bytes()


def list_files(name: str) -> list[str]:
    """Return the names of the files that a remote file, folder, pattern or prefix means, sorted; may be none."""
    return sorted(_found(name))


def _found(name: str) -> dict[str, Facts]:
    """The facts of the files that a name means, by their names."""
    system = _system_of(name)
    if glob.has_magic(name):
        parts = name.split("/")
        fixed = next(number for number, part in enumerate(parts) if glob.has_magic(part))
        root = "/".join(parts[:fixed])
        files = _listed(system, root)
        pattern = "/".join(parts[fixed:])
        return {file: facts for file, facts in files.items() if matches(file.removeprefix(f"{root}/"), pattern)}
    found = _listed(system, name)
    if found and name not in found:
        return found
    folder, _, last = name.rpartition("/")
    if folder.endswith(":/"):  # a bucket that is empty or does not exist
        return found
    stem = posixpath.splitext(last)[0]
    with contextlib.suppress(UserError):  # no right to list: the file alone
        beside = _attempted("read", folder, lambda: system.names_in(folder))
        wanted = [one for one in beside if one == last or one.startswith(f"{last}.") or one == f"{stem}.bin"]
        wanted += [one for one in beside if one in _BESIDE_A_FILE] if wanted and not _is_image(last) else []
        for one in wanted:
            found |= _listed(system, f"{folder}/{one}")
    return found


def _is_image(name: str) -> bool:
    return name.lower().endswith((".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".heic"))


def _listed(system: FileSystem, name: str) -> dict[str, Facts]:
    try:
        files = _attempted("read", name, lambda: system.files(name))
    except UserError as error:
        if error.code == "remote-failed" and "not found" in error.rule.lower():
            return {}
        raise
    for path in files:
        if ".." in path.split("/") or path.startswith("/") or "\\" in path:
            rule = f"holds a file of the name {path!r}, which would leave its folder"
            raise UserError("bad-name", rule, "rename or remove it", where=name, value=path)
    root = name.rstrip("/")
    kept = {path: facts for path, facts in files.items() if not path.endswith("/")}  # markers of empty folders
    return {f"{root}/{path}" if path else root: facts for path, facts in kept.items()}


def _cached(name: str) -> pathlib.Path:
    """Where the copy of a remote file or folder goes."""
    scheme, _, rest = name.partition("://")
    return pathlib.Path(cache_root(), "remote", scheme, *filter(None, rest.split("/")))


def _remove_stale(name: str, found: Mapping[str, Facts]) -> None:
    """Remove copies of files that are gone, so that a folder or pattern does not show them any more."""
    parts = name.rstrip("/").split("/")
    fixed = next((number for number, part in enumerate(parts) if glob.has_magic(part)), len(parts))
    root, pattern = "/".join(parts[:fixed]), "/".join(parts[fixed:])
    folder = _cached(root)
    for place, _, names in os.walk(folder):
        for path in (pathlib.Path(place, name) for name in names if not name.startswith(".")):
            inside = path.relative_to(folder).as_posix()
            if f"{root}/{inside}" not in found and (not pattern or matches(inside, pattern)):
                remove(path)


def _download(found: Mapping[str, Facts], place: Callable[[str], pathlib.Path] = _cached) -> None:
    """Copy those files of which there is no copy with the same facts."""
    missing = {name: facts for name, facts in found.items() if not _is_current(place(name), facts)}
    if not missing:
        return
    need = sum(facts.size for facts in missing.values())
    root = place(next(iter(missing))).parent
    if need > free_space(root):
        rule = f"{byte_text(need)} are to be copied, and {byte_text(free_space(root))} are free"
        raise UserError("unwritable-file", rule, "free some space, or set DEEPLAB_CACHE to another disk", where=root)

    def fetch(item: tuple[str, Facts]) -> None:
        name, facts = item
        path = place(name)
        temporary = partial_path(path)
        with writing(path, facts.size):
            path.parent.mkdir(parents=True, exist_ok=True)
            try:
                _attempted("read", name, lambda: _system_of(name).download(name, str(temporary)))
                if facts.changed:
                    os.utime(temporary, (facts.changed, facts.changed))
                os.replace(temporary, path)
            finally:
                remove(temporary)

    what = f"copying {byte_text(need)} from {next(iter(missing)).partition('://')[0]}://"
    with console.progress(total=len(missing), what=what, unit="file") as bar:
        for _ in ordered_map(fetch, missing.items(), _WORKERS):
            bar.update()


def _is_current(path: pathlib.Path, facts: Facts) -> bool:
    try:
        copy = path.stat()
    except OSError:
        return False
    return bool(facts.changed) and (copy.st_size, int(copy.st_mtime)) == facts


@contextlib.contextmanager
def _temporary_file() -> Iterator[pathlib.Path]:
    folder = _work_folder()
    try:
        yield folder / "file"
    finally:
        remove(folder)


# --- Writing ------------------------------------------------------------------------------------------------


class Output:
    """A local folder that stands for a remote one; what is written there is copied while the block runs and at its end.

    Hidden files (locks, temporary files) are not copied.

    Args:
      name: the remote folder or file.
      is_file: whether it is a file.

    Attributes:
      path: the local folder or file.
    """

    def __init__(self, name: str, is_file: bool = False):
        self.name = name.rstrip("/")
        self._root = posixpath.dirname(self.name) if is_file else self.name
        self._work = _work_folder()
        self.folder = self._work / (posixpath.basename(self._root) or "bucket")
        self.path = self.folder / posixpath.basename(self.name) if is_file else self.folder
        self._there: dict[str, tuple[int, int]] = {}  # size and time of the local files that are copied, by path
        self._end, self._turn = threading.Event(), threading.Lock()
        self._problem = ""

    def __enter__(self) -> Output:
        """Copies what is there already.

        Raises:
          UserError: it cannot be read (`remote-failed`).
        """
        try:
            self._system = _system_of(self.name)
            _tell_left(self._work)
            console.note(
                f"{self.name}: written in {self._work}, copied every {SECONDS_BETWEEN_COPIES:.0f} seconds and at the "
                "end; such storage has no locks: make sure that no other command writes there"
            )
            found = _listed(self._system, self.name)
            _download(found, lambda name: self.folder / name.removeprefix(f"{self._root}/"))
        except BaseException:
            remove(self._work)
            raise
        self._there = {path: self._state(path) for path in self._files()}
        remember(self.folder, self._root)
        require_grace(_SECONDS_TO_THE_END)
        self._thread = threading.Thread(target=self._copy_now_and_then, name="copies", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        extend_grace(_SECONDS_AT_THE_END)
        self._end.set()
        self._thread.join()
        try:
            number = self.copy(show=True)
        except UserError as error:
            hint = f"the files are in {self._work}: copy them yourself, then remove that folder"
            raise UserError(error.code, error.rule, hint, where=error.where) from None
        finally:
            forget(self.folder)
            extend_grace(0)
            require_grace(0)
        console.note(f"{self.name}: {counted(number, 'file')} copied at the end; the copy is complete")
        remove(self._work)

    def copy(self, show: bool = False) -> int:
        """Copy what has changed, and remove what is gone; the number of files copied.

        Args:
          show: show the progress.

        Raises:
          UserError: a file cannot be written or removed (`remote-failed`).
        """
        with self._turn:
            # Read before the others are listed: what they name is there then, or will be with the next copy.
            last = {path: (self._state(path), self._content(path)) for path in self._files(named_last=True)}
            states = {path: self._state(path) for path in self._files(named_last=False)}
            changed = [path for path, state in states.items() if self._there.get(path) != state]
            uploaded: Iterable[str] = ordered_map(self._upload, changed, _WORKERS)
            if show and changed:
                what = f"copying to {self.name}"
                uploaded = console.progress(uploaded, total=len(changed), what=what, unit="file")
            number = 0
            for path in uploaded:
                if path:
                    self._there[path] = states[path]
                    number += 1
            if number < len(changed):
                return number  # files were removed meanwhile: the next copy has the files that name them
            for path, (state, content) in last.items():
                if content is not None and self._there.get(path) != state:
                    held, name = self._work / "last", f"{self._root}/{path}"
                    held.write_bytes(content)
                    _attempted("written", name, functools.partial(self._system.upload, str(held), name))
                    self._there[path] = state
                    number += 1
            for path in [path for path in self._there if not (self.folder / path).exists()]:
                name = f"{self._root}/{path}"
                _attempted("removed", name, functools.partial(self._system.remove, name))
                del self._there[path]
            return number

    def _upload(self, path: str) -> str:
        """Copy one file; "" if it is gone meanwhile."""
        local, name = self.folder / path, f"{self._root}/{path}"
        try:
            _attempted("written", name, lambda: self._system.upload(str(local), name))
        except UserError:
            if local.exists():
                raise
            return ""
        return path

    def _copy_now_and_then(self) -> None:
        while not self._end.wait(SECONDS_BETWEEN_COPIES):
            try:
                self.copy()
                self._problem = ""
            except UserError as error:  # said once; the last copy raises it
                if error.rule != self._problem:
                    console.warning(f"{error.where}: {error.rule}; trying again")
                self._problem = error.rule

    def _files(self, named_last: bool | None = None) -> Iterator[str]:
        """Paths of the files to copy, within the folder; only those that name others, or only the others."""
        for place, folders, names in os.walk(self.folder):
            folders[:] = [name for name in folders if not name.startswith(".")]
            inside = os.path.relpath(place, self.folder).replace(os.sep, "/")
            for name in names:
                path = name if inside == "." else f"{inside}/{name}"
                is_wanted = named_last is None or named_last == (name in _LAST)
                if is_wanted and not name.startswith(".") and (self.folder / path).is_file():
                    yield path

    def _content(self, path: str) -> bytes | None:
        """The bytes of a file; None if it was removed meanwhile."""
        with contextlib.suppress(FileNotFoundError):
            return (self.folder / path).read_bytes()
        return None

    def _state(self, path: str) -> tuple[int, int]:
        try:
            facts = (self.folder / path).stat()
        except OSError:
            return (0, 0)
        return facts.st_size, facts.st_mtime_ns


def write_files(folder: str | os.PathLike, name: str) -> None:
    """Copy the files of a local folder and of those in it into a remote folder; those that name others come last.

    Raises:
      UserError: one cannot be written (`remote-failed`).
    """
    system = _system_of(name)
    paths = [path for path in sorted(pathlib.Path(folder).rglob("*")) if path.is_file()]

    def upload(path: pathlib.Path) -> None:
        target = f"{name.rstrip('/')}/{path.relative_to(folder).as_posix()}"
        _attempted("written", target, lambda: system.upload(str(path), target))

    for named_last in (False, True):
        for _ in ordered_map(upload, [path for path in paths if (path.name in _LAST) is named_last], _WORKERS):
            pass


def remove_file(name: str) -> None:
    """Remove a remote file; nothing happens if there is none.

    Raises:
      UserError: it cannot be removed (`remote-failed`).
    """
    _attempted("removed", name, lambda: _system_of(name).remove(name))


_OF_FOLDERS = ("_folder", "_dir", "_root", "logdir")  # ends of the names of settings
_OF_FILES = {"annotations", "data_yaml", "list_files", "pair_list", "palette", "tables"}
_numbers = iter(range(10**9))


def _work_folder() -> pathlib.Path:
    """A new folder for files on their way."""
    root = pathlib.Path(cache_root(), "remote-work")
    folder = root / f"{os.getpid()}.{next(_numbers)}"
    with writing(root):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    return folder


def _tell_left(own: pathlib.Path) -> None:
    """Say which folders of killed commands are left; what was not copied any more is in them."""
    for other in sorted(own.parent.iterdir()):
        process = other.name.partition(".")[0]
        if process.isdigit() and not is_running(int(process)):
            console.note(f"{other}: left by a command that was killed; remove it when you do not need its files")


# --- All settings of a command ------------------------------------------------------------------------------


@contextlib.contextmanager
def local_settings(given: Mapping[str, Any], outputs: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Settings in which local paths replace remote ones, for the time of a block.

    Args:
      given: settings by name, texts or tuples of texts among them.
      outputs: the settings under which the command writes: what they name, "folder", "file", or "either", which is a
        file if it has an extension.

    Raises:
      UserError: as `local_copy` and `Output`; a setting for a folder, a list of files or output has a web address
        (`unknown-file-system`).
    """
    with contextlib.ExitStack() as stack:

        def local(setting: str, text: str) -> str:
            _require_no_web_address(setting, text, setting in outputs)
            for name in sorted(set(remote_names(text)), key=len, reverse=True):
                if setting in outputs and not name.startswith("file://"):
                    kind = outputs[setting]
                    is_file = kind == "file" or (kind == "either" and bool(posixpath.splitext(name)[1]))
                    path = str(stack.enter_context(Output(name, is_file)).path)
                else:
                    path = local_copy(name)
                text = text.replace(name, path)
            return text

        found = dict(given)
        for setting, value in given.items():
            if isinstance(value, str):
                found[setting] = local(setting, value)
            elif isinstance(value, tuple) and any(isinstance(part, str) for part in value):
                found[setting] = tuple(local(setting, part) if isinstance(part, str) else part for part in value)
        yield found


def _require_no_web_address(setting: str, text: str, is_output: bool) -> None:
    """Refuses the address of a web server where a folder is read or anything is written: it lists and takes no files.

    Raises:
      UserError: the setting has one (`unknown-file-system`).
    """
    address = re.search(r"(?<![\w+.-])https?://[^,]*", text, re.IGNORECASE) if "://" in text else None
    if address and (is_output or setting.endswith(_OF_FOLDERS) or setting in _OF_FILES):
        rule = f"{address[0]} is a web address: files there can be neither listed nor written"
        hint = "download the files, and give the local folder" if not is_output else "give a local folder, or a bucket"
        raise UserError("unknown-file-system", rule, hint, field=setting, value=address[0])
