"""The loop: answers and keys come in, pictures go out."""

import contextlib
import os
import select
import signal
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator, Sequence

from rich.console import Console
from rich.live import Live
from rich.text import Text

from mainstay._core.clock import monotonic, wall_time
from mainstay._top.choice import Choice, keys_in
from mainstay._top.endpoint import TIMEOUT, Endpoint
from mainstay._top.model import Model
from mainstay._top.scraper import FIRST_WAIT, Scraper
from mainstay._top.screen import Screen, shown
from mainstay._top.target import Target
from mainstay._top.view import AnyRow

_SOON = 0.05
"""Seconds in which answers that come together are drawn together."""


def show(endpoints: Sequence[Endpoint], *, namespace: str, every: float, once: bool) -> None:
    """Show endpoints until the reader has had enough; once where nothing can be drawn over."""
    console = Console(highlight=False, soft_wrap=True)
    once = once or not console.is_terminal or console.is_dumb_terminal
    watch = Watched(endpoints, namespace=namespace, every=FIRST_WAIT if once else every)
    with contextlib.closing(watch):
        if once:
            _print_once(watch, console)
        else:
            with contextlib.suppress(KeyboardInterrupt):
                _Live(watch, console).run()


class Watched:
    """The endpoints, what was seen of them, and a bell for the loop.

    Args:
        endpoints: Whom to ask.
        namespace: The prefix of the metrics.
        every: Seconds between two scrapes.
    """

    def __init__(self, endpoints: Sequence[Endpoint], *, namespace: str, every: float) -> None:
        self.bell, self._ringer = os.pipe()
        os.set_blocking(self.bell, False)
        os.set_blocking(self._ringer, False)
        self.model = Model([Target(endpoint.name) for endpoint in endpoints], every=every)
        self._scraper = Scraper(endpoints, namespace=namespace, every=every, arrived=self.ring)

    def ring(self) -> None:
        """Wake the loop; a bell that rings already does, and one that is closed wakes nobody."""
        with contextlib.suppress(OSError):
            os.write(self._ringer, b".")

    def take(self) -> set[int]:
        """Record what has arrived; return which endpoints that was."""
        with contextlib.suppress(BlockingIOError):
            os.read(self.bell, 4_096)
        places = set()
        for answer in self._scraper.answers():
            target = self.model.targets[answer.place]
            if answer.samples is None:
                target.failed(answer.failure, at=answer.at)
            else:
                target.answered(answer.samples, at=answer.at, took=answer.took)
            places.add(answer.place)
        return places

    def close(self) -> None:
        """Ask no more. The pipe stays: a thread that still waits for an answer may ring."""
        self._scraper.close()


def _print_once(watch: Watched, console: Console) -> None:
    """Print one picture after two scrapes of all that answer in time."""
    seen = [0] * len(watch.model.targets)
    ends = monotonic() + FIRST_WAIT + 2 * TIMEOUT
    while min(seen) < 2 and (left := ends - monotonic()) > 0:  # noqa: PLR2004 - two scrapes
        select.select([watch.bell], [], [], left)
        for place in watch.take():
            seen[place] += 1 if watch.model.targets[place].is_up else 2
        watch.model.tick(monotonic())
    view = watch.model.view(monotonic(), wall_time())
    width = console.width if console.is_terminal else max(console.width, 80)
    screen = Screen(console, once=True)
    with console.capture() as picture:  # rich ends the program where nobody reads what it prints
        for line in screen.lines(view, Choice(), width, None, is_cut=console.is_terminal):
            line.rstrip()
            console.print(line, crop=False, end="\n")
    sys.stdout.write(picture.get())


class _Live:
    """The view that goes on.

    Args:
        watched: What is watched.
        console: Where it is drawn.
    """

    def __init__(self, watched: Watched, console: Console) -> None:
        self._watched = watched
        self._console = console
        self._screen = Screen(console)
        self._choice = Choice()
        now = monotonic()
        self._view = watched.model.view(now, wall_time())
        self._ticked = now
        self._arrived: set[int] = set()
        self._is_suspended = False

    def run(self) -> None:
        """Draw until a key ends it; leave the terminal to others from Ctrl-Z until `fg`."""
        while not self._choice.is_over:
            with _terminal(self._watched, self._suspend) as keyboard, self._live() as live:
                self._draw(live)
                while self._goes_on():
                    self._wait(keyboard, live)
            if self._is_suspended:
                self._is_suspended = False
                os.kill(os.getpid(), signal.SIGSTOP)

    def _goes_on(self) -> bool:
        return not (self._choice.is_over or self._is_suspended)

    def _suspend(self, *_: object) -> None:
        self._is_suspended = True
        self._watched.ring()

    def _live(self) -> Live:
        return Live(
            console=self._console, screen=True, auto_refresh=False, vertical_overflow="crop"
        )

    def _wait(self, keyboard: int | None, live: Live) -> None:
        """Wait for answers, keys, or the time for the next picture; then draw it."""
        inputs = [self._watched.bell, *([] if keyboard is None else [keyboard])]
        left = self._ticked + self._watched.model.every - monotonic()
        ready, _, _ = select.select(inputs, [], [], max(0.0, left))
        if keyboard is not None and keyboard in ready:
            self._press(os.read(keyboard, 1_024).decode(errors="ignore"))
        if self._watched.bell in ready:
            time.sleep(_SOON)
            self._arrived |= self._watched.take()
        self._look(monotonic())
        self._draw(live)

    def _look(self, now: float) -> None:
        """Make the next picture, once all have answered or it is time; the first one at once."""
        model = self._watched.model
        is_complete = len(self._arrived) == len(model.targets)
        if is_complete or now >= self._ticked + model.every:
            model.tick(now)
            self._ticked = now
            self._arrived.clear()
        elif not self._arrived or self._view.targets_up:
            return
        if not self._choice.is_paused:
            self._view = model.view(now, wall_time())

    def _press(self, text: str) -> None:
        if not text:
            raise KeyboardInterrupt  # the terminal is gone
        for key in keys_in(text):
            listed = dict.fromkeys(row.component for row in self._rows())
            self._choice = self._choice.after(key, [*listed])

    def _rows(self) -> list[AnyRow]:
        view = shown(self._view, Choice(order=self._choice.order, wanted=self._choice.wanted))
        return [*view.calls, *view.pools, *view.breakers, *view.copies, *view.runs]

    def _draw(self, live: Live) -> None:
        width, height = self._console.size
        lines = self._screen.lines(self._view, self._choice, width, height)
        live.update(Text("\n", end="").join(lines), refresh=True)


@contextlib.contextmanager
def _terminal(watch: Watched, suspend: Callable[..., None]) -> Iterator[int | None]:
    """Read keys as they are pressed, and draw again when the size changes, until the end.

    Yields:
        The file descriptor of the keyboard; None if there is none.
    """
    handlers = {
        signal.SIGWINCH: lambda *_: watch.ring(),
        signal.SIGTERM: _end,
        signal.SIGTSTP: suspend,
    }
    before_us = {number: signal.signal(number, each) for number, each in handlers.items()}
    try:
        if not sys.stdin.isatty():
            yield None
            return
        keyboard = sys.stdin.fileno()
        before = termios.tcgetattr(keyboard)
        tty.setcbreak(keyboard)
        try:
            yield keyboard
        finally:
            termios.tcsetattr(keyboard, termios.TCSADRAIN, before)
    finally:
        for number, handler in before_us.items():
            signal.signal(number, handler)


def _end(*_: object) -> None:
    raise KeyboardInterrupt
