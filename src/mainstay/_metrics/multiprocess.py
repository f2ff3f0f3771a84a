"""Multiprocess mode: the same cells, in files that prometheus_client's collector reads.

With `PROMETHEUS_MULTIPROC_DIR` set, worker processes count in files of that directory and one
reader adds them up: `prometheus_client.multiprocess.MultiProcessCollector`. The metrics of
prometheus_client take a process-wide lock and ask for the process id at each of several writes
per call. Here a call adds to numbers in a memory-mapped file directly: nothing has to be flushed,
so a recorded call survives SIGKILL, and nothing has to be locked, since every thread has slots of
its own (see `cells`).

The format of the files, shared by prometheus_client 0.19 and newer, in native byte order:

    file      int32 bytes used, the first eight included; 4 bytes unused; entries
    entry     int32 length of the key; key; spaces up to a multiple of 8, at least one;
              double value; double timestamp
    key       JSON: [metric, sample, {label: value}, help]
    name      <type>_<anything>.db

Relied on beyond that: values of equal keys are added up, also within one file, and a key may end
in spaces. The keys of one row of slots are padded to one length, so that its values lie at equal
distances and a strided view over them is the row.

`files_work` writes such files and reads them back through the public `MultiProcessCollector`,
once. If the answer is not what was written, `Forwarded` rows count through ordinary metrics of
prometheus_client instead: as exact, but several times slower, and with its locks, which a signal
handler can run into.
"""

import contextlib
import functools
import itertools
import json
import logging
import mmap
import os
import struct
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from mainstay._core.threads import get_or_create
from mainstay._metrics.cells import VARIABLE, Cell, Group, Slots, cell_in_memory
from mainstay._metrics.schema import Family

_log = logging.getLogger("mainstay.metrics")

_FILE_SIZE = 1 << 18  # bytes; a full file is followed by another one
_HEADER_SIZE = 8
_numbers = itertools.count()  # of the files of this process


@attrs.frozen
class FileEntry:
    """One series in a file.

    Attributes:
        family: The metric it belongs to.
        suffix: What the name of the sample adds to the metric's.
        labels: Its labels.
    """

    family: Family
    suffix: str
    labels: dict[str, str]

    def key(self, namespace: str) -> bytes:
        """Encode what the reader finds the series by."""
        metric = f"{namespace}_{self.family.name.removesuffix('_total')}"
        key = [metric, metric + self.suffix, self.labels, self.family.help]
        return json.dumps(key, sort_keys=True).encode()


def histogram_entries(group: Group) -> list[FileEntry]:
    """List the series of a group's histogram part, in the order of its slots."""
    family = group.layout.histogram
    if family is None:
        return []
    labels = dict(zip(family.labels, group.labels, strict=False))
    bounds = map(floatToGoString, (*group.bounds, float("inf")))
    buckets = [FileEntry(family, "_bucket", {**labels, "le": bound}) for bound in bounds]
    return [*buckets, FileEntry(family, "_sum", labels)]


def counter_entries(group: Group) -> list[FileEntry]:
    """List the series of a group's counter part, in the order of its slots."""
    return [
        FileEntry(family, "_total", dict(zip(family.labels, values, strict=True)))
        for family, values in group.counter_series()
    ]


class _File:
    """One file of entries of one type, and how much of it is used."""

    __slots__ = ("_bytes", "_doubles", "_used_on_disk", "free_from", "size")

    def __init__(self, directory: str, kind: str, size: int) -> None:
        self.size = size
        self.free_from = _HEADER_SIZE
        path, unfinished, descriptor = _create(directory, kind)
        self._bytes = _map(unfinished, descriptor, size)
        self._doubles = self._bytes.cast("d")
        self._used_on_disk = self._bytes[:_HEADER_SIZE].cast("i")
        self._used_on_disk[0] = _HEADER_SIZE
        unfinished.rename(path)

    def append(self, entries: bytes) -> int | None:
        """Add entries at the end and return their place; None if there is no room for them.

        The caller holds the lock. From the second line on there is no call, so a signal handler
        that appends as well cannot come in between, and the reader never sees half an entry.
        """
        size = len(entries)
        start = self.free_from
        end = start + size
        if end > self.size:
            return None
        self._bytes[start:end] = entries
        self.free_from = end
        self._used_on_disk[0] = end
        return start

    def row(self, first: int, distance: int, count: int) -> Slots:
        """View *count* values, the first at byte *first*, one every *distance* bytes."""
        return self._doubles[first // 8 : (first + distance * count) // 8 : distance // 8]


class Files:
    """Makes cells in the files of one process."""

    def __init__(self, directory: str, namespace: str) -> None:
        self._directory = directory
        self._namespace = namespace
        self._open: dict[str, _File] = {}
        self._lock = threading.RLock()  # a signal handler may come back in on the same thread
        self._warned = False

    def cell(self, group: Group) -> Cell:
        """Make a cell in files; in memory, and not exported, if the disk has no room."""
        try:
            return (
                self.row("histogram", histogram_entries(group)),
                self.row("counter", counter_entries(group)),
            )
        except OSError as error:
            if not self._warned:
                self._warned = True
                _log.error(
                    "cannot write to %s=%s (%s); what new threads and new policies of this "
                    "process record is lost",
                    VARIABLE,
                    self._directory,
                    error,
                )
            return cell_in_memory(group)

    def set_gauge(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge that has the same value in all processes."""
        entry = FileEntry(family, "", dict(zip(family.labels, labels, strict=True)))
        with contextlib.suppress(OSError):  # a full disk; the first cell says so in the log
            self.row("gauge_max", [entry])[0] = value

    def row(self, kind: str, entries: Sequence[FileEntry]) -> Slots:
        """Make the slots of *entries*, at 0, in a file of type *kind*."""
        if not entries:
            return []
        keys = [entry.key(self._namespace) for entry in entries]
        # The reader pads a key of n bytes by 1 to 8; n = 3 modulo 8 needs the least.
        length = (max(map(len, keys)) + 4) // 8 * 8 + 3
        pack = struct.Struct(f"i{length + 1}sdd").pack
        encoded = b"".join(pack(length, key.ljust(length + 1), 0.0, 0.0) for key in keys)
        with self._lock:
            file = self._open.get(kind)
            start = None if file is None else file.append(encoded)
            while file is None or start is None:
                size = max(_FILE_SIZE, len(encoded) + _HEADER_SIZE)
                file = self._open[kind] = _File(self._directory, kind, size)
                start = file.append(encoded)
        return file.row(start + 4 + length + 1, len(encoded) // len(keys), len(keys))


def check_directory(directory: str) -> None:
    """Raise unless *directory* is one.

    Raises:
        ValueError: If it is none.
    """
    if not Path(directory).is_dir():
        raise ValueError(
            f"{VARIABLE} must name a directory, not {directory!r}; "
            f"make it, empty, before the program starts"
        )


def _create(directory: str, kind: str) -> tuple[Path, Path, int]:
    """Create a file that no other metric and no earlier process of the same id has.

    Returns:
        Its path when it is finished; its path until then, which the reader passes over; its
        descriptor.
    """
    while True:
        path = Path(directory, f"{kind}_{os.getpid()}m{next(_numbers)}.db")
        unfinished = path.with_suffix(".new")
        if path.exists():
            continue
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            return path, unfinished, descriptor


def _map(path: Path, descriptor: int, size: int) -> memoryview:
    """Fill a new file with zeros and map it into memory; on failure, take it away again.

    Its size is reserved on the disk: a full one is an error here, and would be a SIGBUS later.
    """
    try:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(descriptor, 0, size)
        else:
            os.truncate(descriptor, size)
        return memoryview(mmap.mmap(descriptor, size))
    except OSError:
        path.unlink()
        raise
    finally:
        os.close(descriptor)


@functools.cache
def files_work() -> bool:
    """True if the installed prometheus_client reads from our files what we wrote."""
    counter = FileEntry(Family("probe_total", "counter", "", ("a",)), "_total", {"a": "\n\u00e9"})
    histogram = Family("probe_seconds", "histogram", "", ())
    bounds = ("1.0", "+Inf")
    buckets = [FileEntry(histogram, "_bucket", {"le": bound}) for bound in bounds]
    with tempfile.TemporaryDirectory(prefix="mainstay-probe-") as directory:
        files = Files(directory, "probe")
        for _ in range(2):  # as two threads would
            files.row("counter", [counter])[0] += 2.0
            row = files.row("histogram", [*buckets, FileEntry(histogram, "_sum", {})])
            for slot, value in enumerate((1.0, 3.0, 0.5)):
                row[slot] += value
        seen = _read(directory)
    return seen == {
        ("probe_probe_total", "\n\u00e9"): 4.0,
        ("probe_probe_seconds_bucket", "1.0"): 2.0,
        ("probe_probe_seconds_bucket", "+Inf"): 8.0,
        ("probe_probe_seconds_count",): 8.0,
        ("probe_probe_seconds_sum",): 1.0,
    }


def _read(directory: str) -> dict[tuple[str, ...], float]:
    """Read the samples of a directory as Prometheus would; nothing if that fails."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # it has no types
    try:
        samples = [sample for metric in registry.collect() for sample in metric.samples]
    except Exception:  # noqa: BLE001 - whatever a reader of another format raises
        return {}
    return {(sample.name, *sample.labels.values()): sample.value for sample in samples}


class Forwarded(list[float]):
    """Slots that hand on what is added to them. Reading one gives 0, so `+=` sets the addend."""

    def __init__(self, forward: Sequence[Callable[[float], object]]) -> None:
        super().__init__([0.0] * len(forward))
        self._forward = forward

    def __getitem__(self, index: Any, /) -> Any:
        return 0.0

    def __setitem__(self, index: Any, value: Any, /) -> None:
        super().__setitem__(index, super().__getitem__(index) + value)
        self._forward[index](value)


class Forwarding:
    """Makes cells that count through ordinary metrics of prometheus_client.

    There is one metric of a name in a process: two would overwrite each other's values.
    """

    _counters: ClassVar[dict[str, Counter]] = {}
    _histograms: ClassVar[dict[str, Histogram]] = {}

    def __init__(self, namespace: str, bounds: Callable[[Family], tuple[float, ...]]) -> None:
        self._namespace = namespace
        self._bounds = bounds

    def set_gauge(self, family: Family, labels: tuple[str, ...], value: float) -> None:
        """Set a gauge that has the same value in all processes."""
        name = f"{self._namespace}_{family.name}"
        gauge = Gauge(name, family.help, family.labels, registry=None, multiprocess_mode="max")
        gauge.labels(*labels).set(value)

    def cell(self, group: Group) -> Cell:
        """Make a cell whose slots hand on to the metrics of the same name."""
        counters = [
            self._counter(each).labels(*labels).inc for each, labels in group.counter_series()
        ]
        family = group.layout.histogram
        if family is None:
            return [], Forwarded(counters)
        observe = self._histogram(family).labels(*group.labels[: len(family.labels)]).observe
        # Of the slots of a histogram, the sum gets the observed values themselves.
        buckets = [_ignore] * (group.histogram_size() - 1)
        return Forwarded([*buckets, observe]), Forwarded(counters)

    def _counter(self, family: Family) -> Counter:
        name = f"{self._namespace}_{family.name}"

        def make() -> Counter:
            return Counter(name, family.help, family.labels, registry=None)

        return get_or_create(self._counters, name, make)

    def _histogram(self, family: Family) -> Histogram:
        name, bounds = f"{self._namespace}_{family.name}", self._bounds(family)

        def make() -> Histogram:
            return Histogram(name, family.help, family.labels, registry=None, buckets=bounds)

        return get_or_create(self._histograms, name, make)


def _ignore(_amount: float) -> None:
    """Ignore what is added to a slot that has no use for it."""


def cell_maker(
    directory: str, namespace: str, bounds: Callable[[Family], tuple[float, ...]]
) -> Files | Forwarding:
    """Return what makes the cells of this process."""
    try:
        works = files_work()
    except OSError:  # no room to try it; the first cell will say so in the log
        works = True
    return Files(directory, namespace) if works else Forwarding(namespace, bounds)
