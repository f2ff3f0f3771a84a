"""The kinds of event loops that async code may run on."""

import asyncio
import sys

import pytest
import uvloop

from mainstay._core.context import block_context


def loop_factories():
    """Give what makes an event loop of each kind, as parameters of a fixture."""
    yield pytest.param(asyncio.new_event_loop, id="asyncio")
    yield pytest.param(uvloop.new_event_loop, id="uvloop")
    if sys.version_info >= (3, 12):

        def eager():
            loop = asyncio.new_event_loop()
            loop.set_task_factory(asyncio.eager_task_factory)
            return loop

        yield pytest.param(eager, id="eager")


def runner_on(loop_factory):
    """Return what runs a coroutine function on a loop of that kind.

    Its task must be left without a pending cancellation, and with nothing around it.
    """

    def run(main):
        async def checked():
            try:
                return await main()
            finally:
                assert asyncio.current_task().cancelling() == 0
                assert block_context() is None

        with asyncio.Runner(loop_factory=loop_factory) as runner:
            return runner.run(checked())

    return run
