"""A server of runs that loses answers, forgets its newest writes, and whose clock steps.

What it does is done by a `MemoryStore`. Beside it goes a log of what was written, kept by nothing
of that store, and the rules of `mainstay.stores.base` are checked against the log with each
request. What breaks a rule is noted in `wrongs`, in words.
"""

from collections import deque

import attrs

from mainstay._core.context import current_context
from mainstay.errors import LeaseLostError, StoreUnavailableError
from mainstay.stores import MemoryStore
from mainstay.stores.base import Acquired, Change, Contents, Finished, Held

TROUBLES = (
    "none",
    "refused",  # the request does not arrive
    "lost",  # the answer does not arrive
    "failover",  # what was written last is lost, and the request does not arrive
    "lost in a failover",  # it is done and lost, and the answer does not arrive
    "leap",  # the clock leaps by more than a lease, and the request does not arrive
    "overtaken",  # another worker comes first
)
LEAP = 31.0
ROUNDING = 1e-6


@attrs.frozen
class Write:
    """Something that was written.

    Attributes:
        kind: "acquire", "commit", "renew" or "release".
        grant: Whose it was.
        token: By which token.
        began: True for an acquisition by which the run begins from nothing.
        change: What a commit wrote; of a release only `drop`.
        expires: When the lease ends after it, by the server's clock.
    """

    kind: str
    grant: str
    token: int = 0
    began: bool = False
    change: object = None
    expires: float = 0.0


class ForgetfulServer(MemoryStore):
    """A store of one run that lives through all that may happen to a server.

    Attributes:
        log: What was written, in the history that counts.
        wrongs: The rules that were broken.
        troubles: What is to happen to the next requests, one after the other.
        meanwhile: What another worker does where a request is "overtaken".
        cuts: How often writes were forgotten.
        dead: The grants of owners that were found dead.
    """

    def __init__(self):
        super().__init__()
        self.log, self.wrongs, self.troubles = [], [], deque()
        self.meanwhile = lambda: None
        self.cuts = 0
        self.dead = set()
        self._offset = 0.0
        self._acknowledged = {}  # the number of the last save, by grant
        self._states = [self._copy()]

    # What happens to servers.

    def forget_writes(self, count):
        """Go back to what was there before so many writes, as a failover to a late copy does."""
        count = min(count, len(self.log))
        if count:
            self.cuts += 1
            del self.log[-count:], self._states[-count:]
            self._runs = self._copy(self._states[-1])

    def step_clock(self, seconds):
        """Set the clock: what was written before was written earlier, by the new clock."""
        self._offset += seconds
        for state in (*self._states, self._runs):
            for kept in state.values():
                record = kept.record
                kept.record = attrs.evolve(
                    record,
                    **{each: getattr(record, each) - seconds
                       for each in ("expires", "seen", "saved")},
                )  # fmt: skip

    def declare_dead(self, owner):
        """Take the owner of the run for dead, whether that is so or not."""
        grant = self.owner()
        for state in (*self._states, self._runs):
            for kept in state.values():
                if grant and kept.record.grant == grant:
                    kept.record = attrs.evolve(kept.record, owner=owner)
                    self.dead.add(grant)

    def _copy(self, state=None):
        return {
            run: attrs.evolve(kept, results=dict(kept.results))
            for run, kept in (self._runs if state is None else state).items()
        }

    # What the log says.

    def now(self):
        return current_context().clock.now() + self._offset

    def owner(self):
        """Give the grant of who has the run now; "" if nobody has."""
        for write in reversed(self.log):
            if write.kind == "release" or (write.kind == "commit" and write.change.finished):
                return ""
            if write.kind == "acquire":
                return write.grant
        return ""

    def left(self):
        """Give the seconds that the owner has the run for; below 0 if it is dead."""
        owner = self.owner()
        return self.log[-1].expires - self.now() if owner and owner not in self.dead else -1.0

    def finished(self):
        return any(write.kind == "commit" and write.change.finished for write in self.log)

    def expected(self):
        """Give what must be there."""
        latest, previous, results = None, None, {}
        for write in self.log:
            if write.began:
                latest, previous, results = None, None, {}
            if write.change is None:
                continue
            change = write.change
            if change.document is not None:
                previous = change.document if change.finished else latest
                latest = change.document
            results = {number: result for number, result in {**results, **change.put}.items()
                       if number not in change.drop}  # fmt: skip
        return Contents(latest, previous, results)

    def check_contents(self):
        for run in self._runs:
            self._rule(self.load(run) == self.expected(), "what is there is not what was written")

    def _rule(self, kept, otherwise):
        if not kept:
            self.wrongs.append(otherwise)

    # Requests.

    def _request(self, request):
        trouble = self.troubles.popleft() if self.troubles else "none"
        if trouble == "failover":
            self.forget_writes(2)
        if trouble == "leap":
            self.step_clock(LEAP)
        if trouble in ("refused", "failover", "leap"):
            raise self._unavailable("it was cut off before it got the request")
        if trouble == "overtaken":
            self.meanwhile()
        answer = request()
        self.check_contents()
        if trouble == "lost in a failover":
            self.forget_writes(1)
        if trouble in ("lost", "lost in a failover"):
            raise self._unavailable("it was cut off before it answered")
        return answer

    def _unavailable(self, problem):
        return StoreUnavailableError(self.url, problem, retryable=True)

    def _wrote(self, before, write):
        """Note a write, if anything was written."""
        if self._runs == before:
            return False
        self.log.append(write)
        self._states.append(self._copy())
        return True

    def acquire(self, run, request):
        return self._request(lambda: self._acquire(run, request))

    def _acquire(self, run, request):
        before, left, finished = self._copy(), self.left(), self.finished()
        known = self.owner() == request.grant
        answer = super().acquire(run, request)
        if isinstance(answer, Held):
            self._rule(left > -ROUNDING and not known, "a run that nobody has is said to be held")
        if isinstance(answer, Finished):
            self._rule(finished, "a run that goes on is said to be finished")
        if isinstance(answer, Acquired):
            self._rule(not finished, "a finished run is given to an owner")
            self._rule(known or left < ROUNDING, "a run is given away while its owner has it")
            record = answer.record
            self._rule(record.grant == request.grant, "an acquisition has another grant")
            expires = self.now() + request.lease
            write = Write("acquire", record.grant, record.token, answer.began, expires=expires)
            tokens = [each.token for each in self.log]
            if self._wrote(before, write):
                self._rule(not known, "an acquisition that is sent again is made again")
                self._rule(record.token > max(tokens, default=0), "a token is given again")
        if isinstance(answer, Acquired | Finished):
            self._rule(answer.contents == self.expected(), "an owner is not given all that is kept")
        return answer

    def commit(self, lease, change):
        self._request(lambda: self._commit(lease, change))
        self._acknowledged[lease.grant] = change.sequence

    def _commit(self, lease, change):
        before, owner = self._copy(), self.owner()
        numbers = [(each.grant, each.change.sequence) for each in self._commits()]
        last = self._acknowledged.get(lease.grant)
        if last is not None and (lease.grant, last) not in numbers:
            owner = "nobody who goes on from what was lost"
        this = lease.grant, change.sequence
        try:
            super().commit(lease, change)
        except LeaseLostError:
            self._rule(owner != lease.grant, "a save of the owner is refused")
            newest = [each.grant for each in self.log if each.kind == "acquire"][-1:]
            again = this in numbers and newest == [lease.grant]
            self._rule(not again, "a save that is sent again is refused")
            raise
        expires = self.now() + lease.seconds
        write = Write("commit", lease.grant, change=change, expires=expires)
        documents = [id(each.change.document) for each in self._commits()]
        if this not in numbers and self._wrote(before, write):
            self._rule(owner == lease.grant, "a save of one who lost the run is accepted")
            if change.document is not None:
                self._rule(id(change.document) not in documents, "a document is written twice")
        else:
            self._rule(self._runs == before, "a save that is sent again is made again")
        there = [(each.grant, each.change.sequence) for each in self._commits()]
        self._rule(this in there, "a save is acknowledged and not there")

    def _commits(self):
        return [each for each in self.log if each.kind == "commit"]

    def renew(self, leases):
        return self._request(lambda: [each for each in leases if not self._renew(each)])

    def _renew(self, lease):
        before, owner = self._copy(), self.owner()
        try:
            super().commit(lease, Change())
        except LeaseLostError:
            self._rule(owner != lease.grant, "the lease of the owner is not renewed")
            return False
        self._rule(owner == lease.grant, "the lease of one who lost the run is renewed")
        self._wrote(before, Write("renew", lease.grant, expires=self.now() + lease.seconds))
        return True

    def release(self, lease, how, error="", drop=()):
        self._request(lambda: self._release(lease, how, error, drop))

    def _release(self, lease, how, error, drop):
        before, owner = self._copy(), self.owner()
        super().release(lease, how, error, drop)
        write = Write("release", lease.grant, change=Change(drop=drop))
        if self._wrote(before, write):
            self._rule(owner == lease.grant, "a run is released by one who lost it")
        else:
            self._rule(owner != lease.grant, "a run is not released by its owner")
