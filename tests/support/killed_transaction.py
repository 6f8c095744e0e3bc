"""Kills a commit before each operation that changes the disk; prints the outcome of each, one JSON line per kill.

Run as a program with a folder: every commit is a fork of it that ends without clean-up.
"""

import json
import os
import pathlib
import shutil
import signal
import sys

from deeplab.utils.files import Transaction, roll_back

OPERATIONS = ("replace", "unlink", "fsync", "link", "rmdir")
OLD = {"a.txt": "old a", "b.txt": "old b", "model/x": "old x", "gone.txt": "old gone"}
NEW = {"a.txt": "new a", "model/x": "new x", "c.txt": "new c", "b.txt": "old b"}


def make(folder: pathlib.Path, content: dict[str, str]) -> None:
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def content(folder: pathlib.Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*") if path.is_file()}


def change(folder: pathlib.Path) -> None:
    with Transaction(folder) as transaction:
        transaction.temporary("a.txt").write_text("new a")
        make(transaction.temporary("model"), {"x": "new x"})
        transaction.temporary("c.txt").write_text("new c")
        transaction.discard("gone.txt")
        transaction.commit()


def die_at(count: int, work) -> bool:
    """Runs the work in a fork that is killed just before the `count`-th operation; whether it was."""
    process = os.fork()
    if process:
        return os.WIFSIGNALED(os.waitpid(process, 0)[1])
    left = [count]

    def deadly(operation):
        def instead(*args, **kwargs):
            left[0] -= 1
            if not left[0]:
                os.kill(os.getpid(), signal.SIGKILL)
            return operation(*args, **kwargs)

        return instead

    for name in OPERATIONS:
        setattr(os, name, deadly(getattr(os, name)))
    work()
    os._exit(0)


def main(folder: pathlib.Path) -> None:
    for count in range(1, 100):
        shutil.rmtree(folder, ignore_errors=True)
        make(folder, OLD)
        killed = die_at(count, lambda: change(folder))
        for again in range(1, 100):  # the roll-back may be killed as well
            if not die_at(again, lambda: roll_back(folder)):
                break
        print(json.dumps(content(folder)), flush=True)
        if not killed:
            break


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
