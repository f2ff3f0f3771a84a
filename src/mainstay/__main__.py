"""The command line: ``python -m mainstay``.

Each command is a function that adds itself to the parser, with `run` set to what gives its output.
"""

import argparse
import signal
import sys
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from mainstay import ops

_AddParser: TypeAlias = Callable[..., argparse.ArgumentParser]


class _Parser(argparse.ArgumentParser):
    """A parser that says what is wrong in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}\n")


def _add_rules(add_parser: _AddParser) -> None:
    parser = add_parser("rules", help="print recording and alerting rules for Prometheus")
    _add_common(parser)
    parser.add_argument(
        "--window",
        action="append",
        metavar="DURATION",
        help="what availability and its kin are computed over, such as 30d; may be repeated",
    )
    parser.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="NAME=VALUE",
        help="one more label for every rule; may be repeated",
    )
    parser.set_defaults(run=_rules)


def _rules(options: argparse.Namespace) -> str:
    more = {"windows": options.window} if options.window else {}
    return ops.rules(
        slo=options.slo,
        selector=options.selector,
        namespace=options.namespace,
        labels=dict(options.label),
        **more,
    )


def _add_dashboard(add_parser: _AddParser) -> None:
    parser = add_parser("dashboard", help="print a dashboard for Grafana")
    _add_common(parser)
    parser.set_defaults(run=_dashboard)


def _dashboard(options: argparse.Namespace) -> str:
    return ops.dashboard(slo=options.slo, selector=options.selector, namespace=options.namespace)


def _add_common(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--slo",
        type=float,
        default=0.999,
        help="the share of calls that are to succeed (default: %(default)s)",
    )
    parser.add_argument(
        "--selector",
        default="",
        metavar="CONDITIONS",
        help="conditions on all series, such as 'job=\"api\"'",
    )
    parser.add_argument(
        "--namespace",
        default="mainstay",
        help="the prefix of the metrics (default: %(default)s)",
    )


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value


COMMANDS: tuple[Callable[[_AddParser], None], ...] = (_add_rules, _add_dashboard)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run one command; bad usage ends the process with exit code 2."""
    parser = _Parser(
        prog="python -m mainstay", description="Rules and dashboards for what mainstay records."
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND", parser_class=_Parser)
    for add in COMMANDS:
        add(commands.add_parser)
    options = parser.parse_args(arguments)
    try:
        output: str = options.run(options)
    except ValueError as error:
        parser.error(str(error))
    sys.stdout.write(output)


if __name__ == "__main__":
    if hasattr(signal, "SIGPIPE"):
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # end quietly under `| head`
    main()
