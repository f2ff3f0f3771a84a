"""`crash_at_every_save`: what comes of a function if its process dies at each save in turn.

Each round begins with a new store. A child process runs the function and kills itself, with
SIGKILL, just before or just after it writes its n-th change; a second child runs it to its end.
The rounds end with the first one in which there is no n-th change any more. Children are forked,
so the function may be a closure; what it returns comes back pickled.
"""

import os
import pickle
import signal
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, Literal, TypeAlias

import attrs

When: TypeAlias = Literal["before", "after"]


@attrs.frozen(kw_only=True)
class Crash:
    """One round of `crash_at_every_save`: where the process died, and how the second run ended.

    Attributes:
        save: The number of the save at which the process died, from 1.
        when: "before" or "after": if the process died before or after that save was written.
        result: The result of the function when it ran again.
        error: The exception of the function when it ran again, or None; a `RuntimeError` if the
            process of the second run died.

    Example:
        >>> from mainstay.testing import Crash
        >>> crash = Crash(save=2, when="after", result=6, error=None)
        >>> crash.save, crash.when, crash.result
        (2, 'after', 6)
    """

    save: int
    when: When
    result: Any
    error: BaseException | None


def crash_at_every_save(fn: Callable[[str], Any]) -> list[Crash]:
    """Run *fn* in a child process that dies at each of its saves in turn, and then again.

    Args:
        fn: Takes the URL of a store, and runs the checkpointed function or block with it. It
            should do the same each time: the store is new in each round.

    Returns:
        What came of each round; two for each save: killed before it was written, and after.

    Raises:
        RuntimeError: If the function failed, or its process died, where nothing had been killed;
            or if its result cannot be pickled.

    Example:
        ::

            def test_import_survives_kill_9(crash_at_every_save):
                crashes = crash_at_every_save(
                    lambda store: checkpointed(store=store)(import_rows)("acme")
                )
                assert {crash.result for crash in crashes} == {42}
    """
    return [*_rounds(fn)]


def _rounds(fn: Callable[[str], Any]) -> Iterator[Crash]:
    save = 1
    while True:
        for when in ("before", "after"):
            with tempfile.TemporaryDirectory(prefix="mainstay-crash-") as directory:
                url = f"sqlite:///{Path(directory, 'runs.db')}"
                ours = Path(directory, "killed")
                _, failed = _in_child(partial(_until, fn, url, save, when, ours))
                if not ours.exists():
                    if failed is not None:
                        raise RuntimeError(f"nothing was killed, and still: {failed!r}") from failed
                    return
                result, error = _in_child(partial(fn, url))
            yield Crash(save=save, when=when, result=result, error=error)
        save += 1


def _until(fn: Callable[[str], Any], url: str, save: int, when: When, ours: Path) -> Any:
    """Run *fn* in this process, which dies at that save; the file *ours* tells that it did."""
    from mainstay._checkpoint.run import Run  # noqa: PLC0415 - few tests need checkpoints

    write, awrite = Run.write, Run.awrite
    made = 0

    def die() -> None:
        ours.touch()
        os.kill(os.getpid(), signal.SIGKILL)

    def begins() -> None:
        nonlocal made
        made += 1
        if made == save and when == "before":
            die()

    def ended() -> None:
        if made == save:
            die()

    def dying(run: Run, change: Any) -> None:
        begins()
        write(run, change)
        ended()

    async def adying(run: Run, change: Any) -> None:
        begins()
        await awrite(run, change)
        ended()

    # In a child of our own, which ends with it.
    Run.write = dying  # type: ignore[method-assign,assignment]
    Run.awrite = adying  # type: ignore[method-assign,assignment]
    return fn(url)


def _in_child(call: Callable[[], Any]) -> tuple[Any, BaseException | None]:
    """Make a call in a forked child; return what it returned or raised, or how its process died."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pipe.write(_outcome(call))
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        data = pipe.read()
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return None, RuntimeError(f"the child process died by signal {os.WTERMSIG(status)}")
    if not data:
        return None, RuntimeError("the child process ended without an answer")
    answer: tuple[Any, BaseException | None] = pickle.loads(data)  # noqa: S301 - our own child wrote it
    return answer


def _outcome(call: Callable[[], Any]) -> bytes:
    try:
        outcome: tuple[Any, BaseException | None] = (call(), None)
    except BaseException as error:  # noqa: BLE001 - handed to the parent, whatever it is
        outcome = (None, error)
    try:
        return pickle.dumps(outcome)
    except Exception as error:  # noqa: BLE001 - as above
        return pickle.dumps((None, RuntimeError(f"{outcome!r:.500} cannot be pickled: {error}")))
