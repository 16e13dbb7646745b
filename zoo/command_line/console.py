"""The program: what signals do from the first moment on, then the command line.

It imports little, so that a signal that comes while the rest is imported ends the program as it does later.
"""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn


def run() -> NoReturn:
    """Runs the command line of this process, and ends with its exit status."""
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, end)
    from zoo.command_line.main import main  # Imported here: it takes a moment, in which a signal may come.

    sys.exit(main(sys.argv))


def end(number: int, _frame: object) -> NoReturn:
    """Ends the process at a signal, before `zoo.machine.interruption` handles signals, and after."""
    os.write(2, f"interrupted by {signal.Signals(number).name}\n".encode())
    os._exit(128 + number)
