"""The command line, from its arguments to its exit status."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

from absl import flags, logging

from zoo.command_line import help_text, library, parsing, requests
from zoo.machine import interruption
from zoo.modes import MODES
from zoo.terminal import standard_streams
from zoo.terminal.text import shortened

_LONGEST = 2000  # Characters of a message at most: it may quote text of any length.


def main(argv: Sequence[str]) -> int:
    """Runs one command line; its exit status: 0, 2 for bad input, 128 + n when signal n ended it.

    Args:
      argv: the command line, the program's name first.
    """
    standard_streams.prepare()
    library.defer()
    status = 0
    try:
        status = _status_of(list(argv))
        standard_streams.finish()
    except BrokenPipeError:  # Whoever read our output, such as `head`, has had enough of it.
        standard_streams.abandon()
    except standard_streams.OutputError as error:
        standard_streams.abandon()
        status = status or _refuse(error)
    return status


def _status_of(argv: list[str]) -> int:
    try:
        with interruption.ending_at_once():
            _run(argv)
    except interruption.Interrupted as error:
        print(error, file=sys.stderr)
        return 128 + error.number
    except (BrokenPipeError, standard_streams.OutputError):
        raise
    except Exception as error:
        problem = _problem(error)
        if problem is None:
            raise
        return _refuse(problem)
    return 0


def _problem(error: Exception) -> str | None:
    """The message to the user about an error; None where it is a mistake of ours."""
    if isinstance(error, flags.Error):
        return str(error)
    if isinstance(error, ValueError):
        from tfp_bayesrnn.errors import InputError  # Not at the top: it is deferred by then.

        return str(error) if isinstance(error, InputError) else None
    if isinstance(error, OSError) and error.filename:  # It names a path that nothing else has explained.
        return f"cannot use {error.filename}: {error.strerror}"
    tensorflow = sys.modules.get("tensorflow")
    exhausted = (MemoryError, *([tensorflow.errors.ResourceExhaustedError] if tensorflow else []))
    if isinstance(error, exhausted):
        reason = (str(error).strip().splitlines() or ["no more is there"])[0]
        return f"there is not enough memory ({reason}); accepted: smaller sizes, such as the batch's"
    return None


def _refuse(problem: object) -> int:
    print("error:", shortened(" ".join(str(problem).split()), _LONGEST), file=sys.stderr)
    return 2


def _run(argv: list[str]) -> None:
    # Parsed first without the --config flags, to find the configuration that defines them.
    parsed = parsing.parse(parsing.define_flags(), argv, known_only=True)
    if parsed["help"].value:
        preset = parsed["preset"].value
        program = help_text.program_of(argv[0])
        print(help_text.help_text(program) if preset is None else help_text.fields_text(preset))
        return
    mode = MODES[parsing.check_choice("mode", parsed["mode"].value, tuple(MODES))]
    machine = requests.machine_of(parsed)
    _use_plain_logging()
    requests.carry_out(mode, requests.resolve(mode, parsed, argv, machine))


def _use_plain_logging() -> None:
    flags.FLAGS.mark_as_parsed()  # absl's own flags, --verbosity and its like, keep their defaults.
    logging.use_absl_handler()
    handler = logging.get_absl_handler().python_handler
    if handler.stream in (None, sys.__stderr__):  # From before `standard_streams.prepare`.
        handler.setStream(sys.stderr)
    logging.set_verbosity(logging.INFO)
    logging.get_absl_handler().addFilter(_is_worth_saying)


def _is_worth_saying(record: Any) -> bool:
    """Returns whether a log record is of this project, or at least a warning of somebody else's."""
    return record.levelname != "INFO" or not {"zoo", "tfp_bayesrnn"}.isdisjoint(record.pathname.split(os.sep))
