"""What the tests of failover pools and circuit breakers share: members that fail, and callers."""

import asyncio
import contextlib
import contextvars
import time

from mainstay import Failback, FailoverPool, Member, failover
from support.callers import ASYNC, SYNC, Async, awaitable

LONGEST = 60.0  # real seconds that a test waits for what a thread or a process does
AT_ONCE = Failback("grace", grace=0.0)


class Lost(ConnectionError):
    """What makes members fail."""


def use(resource):
    """Work with a resource that is named after what it is: one that is bad fails."""
    if resource.startswith("bad"):
        raise Lost(resource)
    return resource


async def ause(resource):
    return use(resource)


class Servers:
    """Members whose resource is their name, and which fail as long as they are in `broken`."""

    def __init__(self):
        self.broken = {}
        self.calls = []

    def use(self, name, *args):
        self.calls.append(name)
        error = self.broken.get(name)
        if error is not None:
            raise error(name)
        return (name, *args)

    def pool(self, *names, **options):
        members = [Member(name, name) for name in names]
        return FailoverPool("db", members, **{"on": Lost, **options})

    def eject(self, pool, name):
        """Break a member, and call until the pool has ejected it."""
        self.broken[name] = Lost
        while state_of(pool, name) != "ejected":
            with contextlib.suppress(Lost, ExceptionGroup):
                pool.call(self.use)


class Site:
    """Resources that know whether they are open, opened and closed by the hooks of a pool."""

    def __init__(self):
        self.opened = []
        self.closed = []
        self.broken = set()

    def open(self, name):
        if f"open {name}" in self.broken:
            raise Lost(f"open {name}")
        resource = f"{name}{sum(each.startswith(name) for each in self.opened) + 1}"
        self.opened.append(resource)
        return resource

    def close(self, resource):
        if f"close {resource[0]}" in self.broken:
            raise Lost(f"close {resource}")
        self.closed.append(resource)

    def use(self, resource):
        if resource[0] in self.broken:
            raise Lost(resource)
        return resource

    def member(self, name, **options):
        return Member(name, open=lambda: self.open(name), close=self.close, **options)

    def amember(self, name, **options):
        async def open_():
            await asyncio.sleep(0)
            return self.open(name)

        async def close(resource):
            await asyncio.sleep(0)
            self.close(resource)

        return Member(name, open=open_, close=close, **options)


class Pools:
    """How pools are used; async ones on one event loop, which they belong to."""

    def __init__(self, loop=None):
        self.loop = loop
        self._calls = Async(loop.run_until_complete) if loop else SYNC

    def hook(self, fn):
        """Give a hook of this kind, so that a pool has it too."""
        return awaitable(fn) if self.loop else fn

    def member(self, site, name, **options):
        make = site.amember if self.loop else site.member
        return make(name, **options)

    def call(self, pool, fn, *args):
        return self._calls.decorated(failover(pool), fn, *args)

    def eject(self, pool, site, name):
        """Break a member, and call until the pool has ejected it."""
        site.broken.add(name)
        while state_of(pool, name) != "ejected":
            with contextlib.suppress(Lost, ExceptionGroup):
                self.call(pool, site.use)

    def enter(self, pool):
        if self.loop:
            self.loop.run_until_complete(pool.__aenter__())
        else:
            pool.__enter__()

    def close(self, pool):
        if self.loop:
            self.loop.run_until_complete(pool.close())
        else:
            pool.close()

    def until(self, condition):
        """Let what a pool does by itself go on until *condition* holds."""
        if not self.loop:
            wait_until(condition)
            return
        end = time.monotonic() + LONGEST
        while not condition():
            assert time.monotonic() < end, "it never happened"
            self.loop.run_until_complete(asyncio.sleep(0.0005))


class Elsewhere:
    """A block that is open in another context, as in another task."""

    def __init__(self, block):
        self._block = block
        self._context = contextvars.copy_context()
        self.given = self._context.run(block.__enter__)

    def end(self, error=None):
        self._context.run(self._block.__exit__, type(error) if error else None, error, None)


class PoolForms:
    """The forms of calling a pool in sync or async code."""

    def __init__(self, caller):
        self.caller = caller

    def decorated(self, pool, fn, *args):
        return self.caller.decorated(failover(pool), fn, *args)

    def called(self, pool, fn, *args):
        return self.caller.called(pool, fn, *args)

    def block(self, pool, fn, *args):
        return self.caller.attempts(pool, lambda resource: fn(resource, *args))


POOL_FORMS = {
    f"{caller.kind}-{form}": getattr(PoolForms(caller), form)
    for caller in (SYNC, ASYNC)
    for form in ("decorated", "called", "block")
}
BREAKER_FORMS = {
    f"{caller.kind}-{form}": getattr(caller, form)
    for caller in (SYNC, ASYNC)
    for form in ("decorated", "called", "guarded")
}


def state_of(pool, name):
    """Give the state of a member, as `status()` has it."""
    return next(each.state for each in pool.status().members if each.name == name)


def wait_until(condition):
    """Poll until *condition* holds."""
    end = time.monotonic() + LONGEST
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.001)
