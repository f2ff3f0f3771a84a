"""The command line: ``mainstay``, or ``python -m mainstay``.

Bad usage, a store that cannot be used, and an extra that is missing end it with exit code 2 and one
line.
"""

import argparse
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from mainstay._checkpoint import commands as checkpoint_commands
from mainstay._core.version import VERSION
from mainstay._core.words import masked, printable
from mainstay._top import commands as top_commands
from mainstay.errors import MainstayError
from mainstay.ops import _commands as ops_commands

_INTERRUPTED = 128 + signal.SIGINT
"""The exit code of a command that Ctrl-C ended, as shells have it."""


class _Parser(argparse.ArgumentParser):
    """Reports what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, printable(masked(f"{self.prog}: {message}")) + "\n")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; None for the process's own.

    Returns:
        The exit code.
    """
    parser = _Parser(
        prog="mainstay" if Path(sys.argv[0]).name == "mainstay" else "python -m mainstay",
        description="Watch a program, write Prometheus rules and a Grafana dashboard, look after "
        "checkpoints.",
    )
    parser.add_argument("--version", action="version", version=f"mainstay {VERSION}")
    subparsers = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for commands in (top_commands, ops_commands, checkpoint_commands):
        commands.add_to(subparsers)
    options = parser.parse_args(arguments)
    try:
        code: int = options.run(options)
        sys.stdout.flush()
    except BrokenPipeError:  # the reader of the output has seen enough
        sys.stderr.close()
        return 0
    except KeyboardInterrupt:
        return _INTERRUPTED
    except (MainstayError, ValueError, OSError, ImportError) as error:
        parser.error(" ".join(str(error).split()))
    return code


if __name__ == "__main__":
    sys.exit(main())
