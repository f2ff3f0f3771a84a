"""``python -m mainstay rules`` and ``dashboard``: what operators load into their servers."""

import argparse
import sys
from typing import Any

from mainstay.ops._dashboard.contents import dashboard
from mainstay.ops._rules import MIN_EVENTS, WINDOWS, rules


def add_to(subparsers: Any) -> None:
    """Add the commands."""
    help_text = "print recording and alerting rules for Prometheus"
    command = subparsers.add_parser("rules", help=help_text, description=help_text)
    _add_common(command)
    command.add_argument(
        "--window",
        action="append",
        metavar="DURATION",
        help="what availability and its kin are computed over; may be repeated "
        f"(default: {', '.join(WINDOWS)})",
    )
    command.add_argument(
        "--label",
        action="append",
        default=[],
        type=_label,
        metavar="NAME=VALUE",
        help="one more label for every rule; may be repeated",
    )
    command.add_argument(
        "--min-events",
        type=int,
        default=MIN_EVENTS,
        metavar="N",
        help="how many calls must fail before an alert on a share of them (default: %(default)s)",
    )
    command.add_argument(
        "--runbook-base",
        default="",
        metavar="URL",
        help="the address of the page that explains the alerts, for their runbook_url",
    )
    command.set_defaults(run=_rules)
    help_text = "print a dashboard for Grafana"
    command = subparsers.add_parser("dashboard", help=help_text, description=help_text)
    _add_common(command)
    command.set_defaults(run=_dashboard)


def _add_common(command: argparse.ArgumentParser) -> None:
    command.add_argument(
        "--slo",
        type=float,
        default=0.999,
        help="the share of calls that are to succeed (default: %(default)s)",
    )
    command.add_argument(
        "--selector",
        default="",
        metavar="CONDITIONS",
        help="conditions on all series, such as 'job=\"api\"'",
    )
    command.add_argument(
        "--namespace",
        default="mainstay",
        help="the prefix of the metrics (default: %(default)s)",
    )


def _label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise argparse.ArgumentTypeError(f"must be NAME=VALUE, not {text!r}")
    return name, value


def _rules(options: argparse.Namespace) -> int:
    """Print the rules."""
    sys.stdout.write(
        rules(
            slo=options.slo,
            selector=options.selector,
            namespace=options.namespace,
            windows=options.window or WINDOWS,
            labels=dict(options.label),
            min_events=options.min_events,
            runbook_base=options.runbook_base,
        )
    )
    return 0


def _dashboard(options: argparse.Namespace) -> int:
    """Print the dashboard."""
    sys.stdout.write(
        dashboard(slo=options.slo, selector=options.selector, namespace=options.namespace)
    )
    return 0
