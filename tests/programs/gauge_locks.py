"""Changes gauges in multiprocess mode where the lock of those who write them is held.

First a signal handler does, in the middle of a write to a gauge of prometheus_client by the thread
that it interrupts; then a child, forked while another thread was about to write. Prints that the
handler returned, how the child ended, and how many processes say that their circuit is open.
"""

import os
import signal
import threading
import warnings

from prometheus_client import CollectorRegistry, Gauge
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector

from mainstay import CircuitBreaker
from mainstay._metrics import multiprocess
from mainstay._metrics.writer import finish_all

warnings.simplefilter("ignore", DeprecationWarning)  # of forks while there are threads
write_value = MmapedDict.write_value
append = multiprocess._EntryFile.append


def in_the_middle_of_a_write(do) -> None:
    """Run *do* while this thread holds the lock, once."""

    def write(self, *args) -> None:
        MmapedDict.write_value = write_value
        do()
        write_value(self, *args)

    level = Gauge("level", "A gauge of the user's own.", multiprocess_mode="livesum")
    MmapedDict.write_value = write
    level.set(1.0)


def slow_write_by_the_writer(writing: threading.Event, go_on: threading.Event) -> None:
    def write(*args) -> int | None:
        if threading.current_thread().name == "mainstay-writer" and not writing.is_set():
            writing.set()
            go_on.wait()
        return append(*args)

    multiprocess._EntryFile.append = write  # which is called under a lock


def opened() -> int:
    registry = CollectorRegistry()
    MultiProcessCollector(registry)
    labels = {"component": "mail", "state": "open"}
    return int(registry.get_sample_value("mainstay_breaker_state", labels))


breaker = CircuitBreaker("mail", on=OSError)
finish_all()
signal.signal(signal.SIGUSR1, lambda *_: breaker.open())
in_the_middle_of_a_write(lambda: signal.raise_signal(signal.SIGUSR1))
print("handled", flush=True)
finish_all()

writing, go_on = threading.Event(), threading.Event()
slow_write_by_the_writer(writing, go_on)
new = CircuitBreaker("mail of a new kind", on=OSError)
writing.wait()
threading.Timer(0.2, go_on.set).start()
child = os.fork()
if not child:
    breaker.open()
    finish_all()
    os._exit(0 if opened() == 2 else 1)
_, status = os.waitpid(child, 0)
print("forked", os.waitstatus_to_exitcode(status), flush=True)
new.open()
finish_all()
print("open", opened())
