"""Handles signals that arrive before the other modules are loaded: the process ends without a traceback.

Imported first by `deeplab/__main__.py` and `config/command_line.py`, so it imports nothing that takes time; what
happens to signals once a command runs is in `processes.py`. It never touches the handlers of a program that imports the
package.
"""

import os
import signal
import sys

STOPPED = 130  # exit code after Ctrl-C or SIGTERM


def silent_start() -> None:
    """Lets a signal end the process without a traceback until `processes.ending_on_signals` takes over.

    Nothing happens in a program that calls this package, nor where Ctrl-C is ignored or handled already.
    """
    if is_program() and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, end_silently)
        signal.signal(signal.SIGTERM, end_silently)


def end_silently(*_: object) -> None:
    """Handles a signal: ends the process at once."""
    os._exit(STOPPED)


def is_program() -> bool:
    """Whether this process was started for a command of this package, and not by a program that calls it."""
    main = getattr(sys.modules.get("__main__"), "__file__", None) or ""
    package = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    return os.path.dirname(os.path.abspath(main)) == package or os.path.basename(main) == os.path.basename(package)
