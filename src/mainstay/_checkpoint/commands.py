"""``python -m mainstay checkpoints``: what is in a store, for people."""

import argparse
import json
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args

import attrs

from mainstay._checkpoint.copying import copy_runs
from mainstay._checkpoint.document import Document, newest, opened, run_in_words, unseal
from mainstay._checkpoint.shape import (
    DamagedError,
    check_arguments,
    check_cursors,
    check_document,
    check_result,
    parsed,
)
from mainstay._checkpoint.steps import name_in
from mainstay._core.clock import wall_time
from mainstay._core.words import counted, printable
from mainstay.errors import CheckpointError, CorruptCheckpointError
from mainstay.stores import store_of
from mainstay.stores.base import Contents, Record, Result, RunId, Status, Store
from mainstay.stores.selection import pages


def add_to(subparsers: Any) -> None:
    """Add the command and its actions."""
    help_text = "look after the runs in a store"
    command = subparsers.add_parser("checkpoints", help=help_text, description=help_text)
    actions = command.add_subparsers(dest="action", required=True, metavar="ACTION")
    _add_copy(actions)
    for name, (run, help_text, takes_run) in _ACTIONS.items():
        action = actions.add_parser(name, help=help_text, description=help_text)
        action.add_argument("--store", help="its URL; without it $MAINSTAY_STORE")
        if name == "list":
            _add_filters(action)
        if takes_run:
            action.add_argument("name", help="the name of the run")
            action.add_argument("key", help="its key")
        action.set_defaults(run=run)


def _add_copy(actions: Any) -> None:
    help_text = "copy runs that nobody works on from one store to another"
    action = actions.add_parser("copy", help=help_text, description=help_text)
    action.add_argument("source", metavar="FROM", help="the URL of the store that has them")
    action.add_argument("target", metavar="TO", help="the URL of the store that gets them")
    action.add_argument("--name", help="only the runs of this name")
    action.set_defaults(run=_copy)


def _copy(options: argparse.Namespace) -> int:
    """Copy runs; exit code 1 if one was left alone."""
    source, target = _existing(options.source), store_of(options.target)
    if source.url == target.url:
        raise ValueError(f"FROM and TO must be two stores, not {source.url} twice")
    copied = left = 0
    for run, reason in copy_runs(source, target, options.name):
        if reason:
            left += 1
            _print(f"left {run_in_words(run)}: {reason}")
        else:
            copied += 1
    _print(f"{counted(copied, 'run')} copied, {left} left")
    return 1 if left else 0


def _add_filters(action: argparse.ArgumentParser) -> None:
    action.add_argument("--name", help="only the runs of this name")
    action.add_argument(
        "--state",
        action="append",
        choices=get_args(Status),
        help="only runs in this state; may be repeated",
    )
    action.add_argument("--json", action="store_true", help="print a list in JSON for programs")


@attrs.frozen
class _Listed:
    """A run as `list` shows it; `items` is None where what was saved cannot be read."""

    record: Record
    state: Status
    items: int | None


def _list(options: argparse.Namespace) -> int:
    """Print a line for each run, or a list in JSON."""
    runs = _chosen(_store(options), options.name, options.state)
    now = wall_time()
    if options.json:
        _print_json([_tree(run, now) for run in runs])
    else:
        _print_table([_HEADER, *(_cells(run, now) for run in runs)])
    return 0


def _chosen(store: Store, name: str | None, states: Sequence[Status] | None) -> list[_Listed]:
    """Return the runs of *name*, or all, that are in one of *states*, or in any."""
    return [
        _Listed(record, state, _items(store, record.run))
        for record, state in pages(store, name)
        if states is None or state in states
    ]


def _items(store: Store, run: RunId) -> int | None:
    """Return for how many items stands what was saved, or None if that cannot be read."""
    try:
        document, _ = newest(store.load(run), run)
    except CorruptCheckpointError:
        return None
    return document.items if document else 0


def _tree(run: _Listed, now: float) -> dict[str, object]:
    return _known(run.record, run.state) | {
        "items": run.items,
        "seconds since begun": round(max(0.0, now - run.record.created), 3),
        "seconds since changed": round(max(0.0, now - run.record.updated), 3),
    }


_HEADER = ("STATE", "ATTEMPT", "ITEMS", "AGE", "CHANGED", "NAME", "KEY", "LAST ERROR")


def _cells(run: _Listed, now: float) -> tuple[str, ...]:
    record = run.record
    return (
        run.state,
        str(record.attempt),
        "?" if run.items is None else str(run.items),
        _span(now - record.created),
        _span(now - record.updated),
        record.run.name,
        record.run.key,
        record.error
        if len(record.error) <= _LONGEST_ERROR
        else record.error[:_LONGEST_ERROR] + "…",
    )


_LONGEST_ERROR = 100
"""Characters of an error in a table; `show` has the whole."""


def _span(seconds: float) -> str:
    """Return a time in words, in the largest unit of which there are at least two."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if seconds >= 2 * length:
            return f"{int(seconds // length)}{unit}"
    return f"{max(0, int(seconds))}s"


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print columns, each as wide as its widest cell."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _print("  ".join(map(str.ljust, row, widths)).rstrip())


def _show(options: argparse.Namespace) -> int:
    """Print what is known of one run, as JSON."""
    store = _store(options)
    record, state = _found(store, options)
    contents = store.load(record.run)
    _print_json(
        _known(record, state)
        | {
            "saved": _described(contents),
            "steps": sorted(filter(None, map(_step_of, contents.results.values()))),
        }
    )
    return 0


def _known(record: Record, state: Status) -> dict[str, object]:
    """Return what the store knows of a run, for JSON."""
    return {
        "name": record.run.name,
        "key": record.run.key,
        "state": state,
        "attempt": record.attempt,
        "crashes": record.crashes,
        "owner": str(record.owner),
        "last attempt ended by": record.exit,
        "error": record.error,
        "begun": _when(record.created),
        "changed": _when(record.updated),
    }


def _forget(options: argparse.Namespace) -> int:
    """Remove one run."""
    store = _store(options)
    record, _ = _found(store, options)
    store.forget(record.run)
    _print(f"forgot {run_in_words(record.run)}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Check everything that is saved; exit code 1 if anything is damaged."""
    store = _store(options)
    for weakness in store.probe().problems:
        _print(f"{store.url}: {weakness}")
    runs = store.list()
    problems = [problem for record, _ in runs for problem in _problems(store, record)]
    for problem in problems:
        _print(problem)
    damaged = counted(len(problems), "damaged part")
    _print(f"{counted(len(runs), 'run')}, {damaged}")
    return 1 if problems else 0


_ACTIONS = {
    "list": (_list, "print a line for each run", False),
    "show": (_show, "print what is known of one run", True),
    "forget": (_forget, "remove one run", True),
    "verify": (_verify, "check all that is saved; exit code 1 if anything is damaged", False),
}


def _store(options: argparse.Namespace) -> Store:
    """Return the store that the options name."""
    return _existing(options.store)


def _existing(url: str | None) -> Store:
    """Return a store; a file that is not there is not made by looking at it."""
    store = store_of(url)
    path = Path(store.url.removeprefix("sqlite:///"))  # no URL any more: nothing in it is quoted
    if store.url.startswith("sqlite:///"):
        try:
            path.stat()
        except FileNotFoundError:
            raise ValueError(f"there is no store at {store.url}") from None
    return store


def _found(store: Store, options: argparse.Namespace) -> tuple[Record, Status]:
    run = RunId(options.name, options.key)
    for record, state in pages(store, options.name):
        if record.run == run:
            return record, state
    raise ValueError(f"there is no run {options.key!r} of {options.name} in {store.url}")


def _described(contents: Contents) -> object:
    if contents.latest is None:
        return None
    try:
        document: Document = opened(contents.latest)
    except DamagedError as error:
        return f"damaged: {error}"
    return {
        "items": document.items,
        "seconds of work": document.seconds,
        "version": document.code.version,
        "cursors": document.cursors,
        "bytes": len(contents.latest),
    }


def _problems(store: Store, record: Record) -> Iterator[str]:
    """Yield what is damaged of a run, in words."""
    of = run_in_words(record.run)
    try:
        contents = store.load(record.run)
    except CheckpointError as error:  # the other runs are to be looked at all the same
        yield f"{of}: {error}"
        return
    for result in contents.results.values():
        step = _step_of(result)
        check = check_result if step else check_cursors
        try:
            name_in(result.slot)
            check(parsed(unseal(result.value)))
        except DamagedError as error:
            yield f"{of}: {f'step {step!r}' if step else 'cursors of iterations'}: {error}"
    parts = (
        ("the last save", contents.latest, check_document),
        ("the save before", contents.previous, check_document),
        ("the arguments", record.arguments, check_arguments),
    )
    for place, sealed, check in parts:
        if sealed is not None:
            try:
                check(parsed(unseal(sealed)))
            except DamagedError as error:
                yield f"{of}: {place}: {error}"


def _step_of(result: Result) -> str:
    """Return the name of the step that a result is of, as far as that can be read.

    It is empty where the result holds cursors.
    """
    try:
        return name_in(result.slot)
    except DamagedError:
        return str(result.slot)


def _print_json(tree: object) -> None:
    text = printable(json.dumps(tree, indent=2, ensure_ascii=False), in_json=True)
    print(text)  # noqa: T201 - what the commands are for


def _print(line: str) -> None:
    print(printable(line))  # noqa: T201 - what the commands are for


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
