"""The process of one task: reads it from standard input, and ends when the process that started it is gone."""

from __future__ import annotations

import os
import sys
import threading
from typing import NoReturn

from xdm.schema import XdmError


def main() -> NoReturn:
    """Carry out the task on the first line of standard input. The line's sender keeps the pipe open; its end, however it
    came, ends this process, so that a killed experiment leaves nothing running."""
    from xdm.experiments.task import Task, carry_out

    task = Task.model_validate_json(sys.stdin.buffer.readline())
    threading.Thread(target=_end_with_sender, daemon=True).start()
    try:
        carry_out(task)
    except XdmError as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr, flush=True)
        os._exit(error.exit_code)
    except KeyboardInterrupt:
        os._exit(130)
    # A fault of ours ends in Python's own way, with its traceback and exit code 1.
    sys.stderr.flush()
    os._exit(0)


def _end_with_sender() -> None:
    while os.read(sys.stdin.fileno(), 4096):
        pass
    os._exit(137)


if __name__ == "__main__":
    main()
