"""What tests of programs that use mainstay need: time, metrics and failures under control.

`FakeClock` stands in for time, `no_waits` leaves waits out, `recorded` isolates and reads metrics,
`Faults` fails on demand. All but the last are blocks. They hold for the thread or task that
enters them, for what it calls and for the tasks that it starts, so that tests can run side by
side. With pytest they are there as fixtures without an import: `fake_clock`, `no_waits`,
`recorded`, `faults`. Two more have no other form: `reset_mainstay`, after which everything that
remembers calls is as if just made, and `crash_at_every_save`, which kills a checkpointed function
at each of its saves in turn.
"""

from mainstay.testing._clock import FakeClock, no_waits
from mainstay.testing._crashes import Crash
from mainstay.testing._faults import Faults
from mainstay.testing._recorded import RecordedMetrics, recorded

__all__ = ["Crash", "FakeClock", "Faults", "RecordedMetrics", "no_waits", "recorded"]
