"""The command ``top``: a live view of endpoints."""

import argparse
import importlib.util
import math
from typing import Any

from mainstay._metrics.schema import check_namespace
from mainstay._top.endpoint import Endpoint

_SHORTEST, _LONGEST = 0.5, 3_600.0


def add_to(subparsers: Any) -> None:
    """Add the command."""
    help_text = "watch the metrics of running programs"
    command = subparsers.add_parser(
        "top", help=help_text, description=f"{help_text}; needs rich: pip install 'mainstay[top]'"
    )
    command.add_argument(
        "urls",
        nargs="+",
        type=_endpoint,
        metavar="URL",
        help="where metrics are, such as http://localhost:8000/metrics, or localhost:8000",
    )
    command.add_argument("--once", action="store_true", help="print one picture, and end")
    command.add_argument(
        "--every",
        type=_seconds,
        default=2.0,
        metavar="SECONDS",
        help="between two scrapes (default: %(default)g)",
    )
    command.add_argument(
        "--namespace",
        type=_namespace,
        default="mainstay",
        help="the prefix of the metrics (default: %(default)s)",
    )
    command.set_defaults(run=_top)


def _endpoint(text: str) -> Endpoint:
    try:
        return Endpoint(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _namespace(text: str) -> str:
    try:
        check_namespace(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _seconds(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = math.nan
    if not _SHORTEST <= seconds <= _LONGEST:
        raise argparse.ArgumentTypeError(
            f"must be seconds from {_SHORTEST:g} to {_LONGEST:g}, not {text!r}"
        )
    return seconds


def _top(options: argparse.Namespace) -> int:
    """Show the picture."""
    if importlib.util.find_spec("rich") is None:
        raise ValueError("top needs rich: pip install 'mainstay[top]'")
    if importlib.util.find_spec("termios") is None:
        raise ValueError("top needs a terminal as Linux and macOS have")
    from mainstay._top.show import show  # noqa: PLC0415 - rich is an extra

    each_once = {endpoint.address: endpoint for endpoint in options.urls}.values()
    show([*each_once], namespace=options.namespace, every=options.every, once=options.once)
    return 0
