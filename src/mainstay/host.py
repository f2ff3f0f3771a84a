"""`HostCollector`: the use of the machine's processors, memory and disks."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from typing import TYPE_CHECKING

from mainstay._metrics.exporting import ScrapeCollector, Values
from mainstay._metrics.schema import HOST_CPU, HOST_DISK, HOST_FAMILIES, HOST_MEMORY, Family

_HAS_PSUTIL = find_spec("psutil") is not None
if TYPE_CHECKING or _HAS_PSUTIL:
    import psutil

__all__ = ["HostCollector"]

_GUESTS = ("guest", "guest_nice")  # counted in "user" and "nice" as well
_IDLE = ("idle", "iowait")


class HostCollector(ScrapeCollector):
    """Exports the use of the machine's processors, memory and disks, as shares from 0 to 1.

    A collector of prometheus_client for programs that export their own metrics. It is only a
    summary; node_exporter exports much more. Needs psutil: ``pip install 'mainstay[host]'``.

    Register the collector only in one process that is scraped.

    Args:
        namespace: The prefix of the names: ASCII letters, digits and underscores, not a digit
            first.

    Raises:
        ImportError: If psutil is not installed.
        TypeError: If *namespace* is not a str.
        ValueError: If *namespace* is not a valid name for Prometheus.

    Metrics:
        `host_cpu_usage_ratio` (since the last scrape; absent from a first scrape that follows
        immediately), `host_memory_usage_ratio`, `host_disk_usage_ratio` by `mountpoint`: the root
        and each file system on a device.

    Example:
        >>> from mainstay import HostCollector
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> registry.register(HostCollector())
        >>> 0 < registry.get_sample_value("mainstay_host_memory_usage_ratio") < 1
        True
    """

    def __init__(self, *, namespace: str = "mainstay") -> None:
        super().__init__(namespace, HOST_FAMILIES)
        if not _HAS_PSUTIL:
            raise ImportError(
                "HostCollector needs psutil: install it with `pip install 'mainstay[host]'`"
            )
        self._cpu_before = _cpu_seconds()

    def _values(self) -> Iterator[tuple[Family, Values]]:
        yield HOST_CPU, self._cpu_usage()
        yield HOST_MEMORY, [((), _memory_usage())]
        yield HOST_DISK, _disk_usages()

    def _cpu_usage(self) -> Values:
        busy_before, total_before = self._cpu_before
        busy, total = self._cpu_before = _cpu_seconds()
        if total > total_before:
            yield (), min(1.0, max(0.0, (busy - busy_before) / (total - total_before)))


def _cpu_seconds() -> tuple[float, float]:
    """Return the seconds that all processors were busy, and busy or idle, since the boot."""
    times = psutil.cpu_times()._asdict()
    total = sum(seconds for name, seconds in times.items() if name not in _GUESTS)
    return total - sum(times.get(name, 0.0) for name in _IDLE), total


def _memory_usage() -> float:
    memory = psutil.virtual_memory()
    return 1 - memory.available / memory.total


def _disk_usages() -> Values:
    mounted = {os.sep, *(each.mountpoint for each in psutil.disk_partitions())}
    for mountpoint in sorted(mounted):
        try:
            disk = psutil.disk_usage(mountpoint)
        except OSError:  # gone since, or closed to this user
            continue
        if disk.used + disk.free:
            # A lone surrogate cannot be encoded, and would break every scrape.
            label = mountpoint.encode("utf-8", "replace").decode()
            yield (label,), disk.used / (disk.used + disk.free)
