"""`HostCollector`: how much of the machine is in use."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from prometheus_client import Metric
from prometheus_client.registry import Collector

from mainstay._metrics.collector import empty_metric
from mainstay._metrics.schema import (
    HOST_CPU,
    HOST_DISK,
    HOST_FAMILIES,
    HOST_MEMORY,
    Family,
    check_namespace,
)

if TYPE_CHECKING:
    import psutil
else:
    try:
        import psutil
    except ImportError:  # it is an extra, and only making a `HostCollector` needs it
        psutil = None

__all__ = ["HostCollector"]

_GUESTS = ("guest", "guest_nice")  # counted in "user" and "nice" as well
_IDLE = ("idle", "iowait")


class HostCollector(Collector):
    """How much of the machine's processors, memory and disks is in use, as shares from 0 to 1.

    A collector of prometheus_client for programs that export their own metrics, and nothing but a
    summary: where node_exporter runs, it knows more. It needs psutil, which ``mainstay[host]``
    brings.

    Register it once, in one process: the one that is scraped.

    Args:
        namespace: The prefix of the names: ASCII letters, digits and underscores, not a digit
            first.

    Raises:
        ImportError: If psutil is not installed.
        TypeError: If *namespace* is no string.
        ValueError: If *namespace* is not a name that Prometheus takes.

    Metrics:
        `host_cpu_usage_ratio` (since the scrape before; absent at the first one if that follows
        at once), `host_memory_usage_ratio`, `host_disk_usage_ratio` by `mountpoint`: the root and
        each file system on a device.

    Example:
        >>> from mainstay import HostCollector
        >>> from prometheus_client import CollectorRegistry
        >>> registry = CollectorRegistry()
        >>> registry.register(HostCollector())
        >>> 0 < registry.get_sample_value("mainstay_host_memory_usage_ratio") < 1
        True
    """

    def __init__(self, *, namespace: str = "mainstay") -> None:
        if psutil is None:
            raise ImportError(
                "HostCollector needs psutil: install it with `pip install 'mainstay[host]'`"
            )
        check_namespace(namespace)
        self._namespace = namespace
        self._cpu_before = _cpu_seconds()

    def describe(self) -> Iterable[Metric]:
        """Give the families without samples, so that a registry can refuse a name twice."""
        return [empty_metric(self._namespace, family) for family in HOST_FAMILIES]

    def collect(self) -> Iterator[Metric]:
        """Give the families with their present values; called by the registry at each scrape."""
        yield self._metric(HOST_CPU, self._cpu_usage())
        yield self._metric(HOST_MEMORY, [((), _memory_usage())])
        yield self._metric(HOST_DISK, _disk_usages())

    def _metric(self, family: Family, values: Iterable[tuple[tuple[str, ...], float]]) -> Metric:
        metric = empty_metric(self._namespace, family)
        for labels, value in values:
            metric.add_sample(metric.name, dict(zip(family.labels, labels, strict=True)), value)
        return metric

    def _cpu_usage(self) -> Iterator[tuple[tuple[str, ...], float]]:
        busy_before, total_before = self._cpu_before
        busy, total = self._cpu_before = _cpu_seconds()
        if total > total_before:
            yield (), min(1.0, max(0.0, (busy - busy_before) / (total - total_before)))


def _cpu_seconds() -> tuple[float, float]:
    """Give the seconds that all processors were busy, and busy or not, since the machine booted."""
    times = psutil.cpu_times()._asdict()
    total = sum(seconds for name, seconds in times.items() if name not in _GUESTS)
    return total - sum(times.get(name, 0.0) for name in _IDLE), total


def _memory_usage() -> float:
    memory = psutil.virtual_memory()
    return 1 - memory.available / memory.total


def _disk_usages() -> Iterator[tuple[tuple[str, ...], float]]:
    mounted = {os.sep, *(each.mountpoint for each in psutil.disk_partitions())}
    for mountpoint in sorted(mounted):
        try:
            disk = psutil.disk_usage(mountpoint)
        except OSError:  # gone since, or none of this user's business
            continue
        if disk.used + disk.free:
            # A lone surrogate cannot be encoded, and would break every scrape.
            label = mountpoint.encode("utf-8", "replace").decode()
            yield (label,), disk.used / (disk.used + disk.free)
