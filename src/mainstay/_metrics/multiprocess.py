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
    name      <type>_<anything>.db, of gauges gauge_<mode>_<anything>.db

Relied on beyond that: values of equal keys are added up, also within one file, a key may end in
spaces, and the help of a metric is that of the first entry which is read. The keys of one row of
slots are padded to one length, so that its values lie at equal distances and a strided view over
them is the row. The help stands once in each file, in an entry at 0 before the first row.

A file takes the room that it needs: its mapping reaches beyond its end, and the file grows under it
before anything is written there. Its room on the disk is reserved, so a full disk is an error when
a row is made, and never a signal at a write. Until it is complete it has a name that no reader
looks for.

The name of a file ends in what identifies its process. So files that say what is the case in a
process that is provably gone (`gauge_live...`) are removed by every process that starts, and by
every one that writes a change (`remove_gone`).

`files_work` writes such files and reads them back through the public `MultiProcessCollector`,
once. If the answer is not what was written, `Forwarded` rows count through ordinary metrics of
prometheus_client instead: as exact, but several times slower, and with its locks, which a signal
handler can run into. Gauges of a process that is gone then stay until its `mark_process_dead`.
"""

import contextlib
import functools
import inspect
import itertools
import json
import mmap
import os
import re
import struct
import tempfile
import threading
import zlib
from collections.abc import Callable, Container, Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, TypeAlias, get_args

import attrs
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, values
from prometheus_client.multiprocess import MultiProcessCollector
from prometheus_client.utils import floatToGoString

from mainstay._core.clock import wall_time
from mainstay._core.events import logger_of
from mainstay._core.owner import Owner, is_dead, this_process
from mainstay._core.threads import get_or_create
from mainstay._metrics.cells import VARIABLE, Cell, Group, Slots, cell_in_memory
from mainstay._metrics.schema import Family, Mode

_FILE_SIZE = 1 << 18  # bytes that a file may grow to; a full one is followed by another one
_STEP = 4_096  # bytes that a file grows by: what a file system gives at least
_HEADER_SIZE = 8
_MODES = get_args(Mode)
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

    def key(self, namespace: str, text: str = "") -> bytes:
        """Encode what the reader finds the series by, with a help text."""
        metric = f"{namespace}_{self.family.name.removesuffix('_total')}"
        key = [metric, metric + self.suffix, self.labels, text]
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


def encoded(keys: Sequence[bytes]) -> tuple[bytes, int]:
    """Encode entries at 0 that are equally long; return them, and where in each its value is."""
    # The reader pads a key of n bytes by 1 to 8; n = 3 modulo 8 needs the least.
    length = (max(map(len, keys), default=0) + 4) // 8 * 8 + 3
    pack = struct.Struct(f"i{length + 1}sdd").pack
    entries = b"".join(pack(length, key.ljust(length + 1), 0.0, 0.0) for key in keys)
    return entries, 4 + length + 1


class _EntryFile:
    """One file of entries of one type, and how much of it is used.

    Attributes:
        described: The metrics whose help stands in it.
        free_from: The byte from which on it is free.
    """

    __slots__ = (
        "_bytes",
        "_doubles",
        "_path",
        "_room",
        "_size",
        "_used_on_disk",
        "described",
        "free_from",
    )

    def __init__(self, directory: str, kind: str, size: int) -> None:
        self.described: set[Family] = set()
        self._size = size
        self._room = min(_STEP, size)
        self.free_from = _HEADER_SIZE
        self._path, unfinished, descriptor = _create(directory, kind)
        self._bytes = _map(unfinished, descriptor, size)
        self._doubles = self._bytes.cast("d")
        self._used_on_disk = self._bytes[:_HEADER_SIZE].cast("i")
        self._used_on_disk[0] = _HEADER_SIZE
        unfinished.rename(self._path)

    def append(self, entries: bytes) -> int | None:
        """Add entries at the end and return their place; None if there is no room for them.

        The caller holds the lock. From the last comparison on there is no call, so a signal handler
        that appends as well cannot come in between, and the reader never sees half an entry.
        """
        size = len(entries)
        while self.free_from + size > self._room:
            if self.free_from + size > self._size:
                return None
            self._grow(self.free_from + size)
        start = self.free_from
        end = start + size
        self._bytes[start:end] = entries
        self.free_from = end
        self._used_on_disk[0] = end
        return start

    def _grow(self, size: int) -> None:
        room = min(-(-size // _STEP) * _STEP, self._size)
        descriptor = os.open(self._path, os.O_RDWR)
        try:
            _reserve(descriptor, self._room, room)
        finally:
            os.close(descriptor)
        self._room = max(self._room, room)

    def row(self, first: int, distance: int, count: int) -> Slots:
        """View *count* values, the first at byte *first*, one every *distance* bytes."""
        return self._doubles[first // 8 : (first + distance * count) // 8 : distance // 8]


_Place: TypeAlias = tuple[_EntryFile, int, int]
"""Where a row is: the file, the byte of its first value, and the bytes from one to the next."""


class Files:
    """Makes cells and gauges in the files of one process."""

    def __init__(self, directory: str, namespace: str) -> None:
        self._directory = directory
        self._namespace = namespace
        self._open: dict[str, _EntryFile] = {}
        self._gauges: dict[tuple[Family, tuple[str, ...]], tuple[Slots, Slots]] = {}
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
            self._warn(error)
            return cell_in_memory(group)

    def set_gauges(self, family: Family, numbers: Mapping[tuple[str, ...], float]) -> None:
        """Set series of a gauge; what is new or changes has files of gone processes removed."""
        changed = False
        for labels, number in numbers.items():
            try:
                slots, times = self._gauge(family, labels)
            except OSError as error:
                self._warn(error)
                return
            if slots[0] != number or not times[0]:
                slots[0], times[0] = number, wall_time()
                changed = True
        if changed:
            remove_gone(self._directory)

    def row(self, kind: str, entries: Sequence[FileEntry]) -> Slots:
        """Make the slots of *entries*, at 0, in a file of type *kind*."""
        if not entries:
            return []
        file, first, distance = self._place(kind, entries)
        return file.row(first, distance, len(entries))

    def _gauge(self, family: Family, labels: tuple[str, ...]) -> tuple[Slots, Slots]:
        """Return the value and the time of a series of a gauge, made at first use."""
        known = self._gauges.get((family, labels))
        if known is None:
            entry = FileEntry(family, "", dict(zip(family.labels, labels, strict=True)))
            file, first, distance = self._place(f"gauge_{family.mode}", [entry])
            both = file.row(first, distance, 1), file.row(first + 8, distance, 1)
            known = self._gauges.setdefault((family, labels), both)
        return known

    def _place(self, kind: str, entries: Sequence[FileEntry]) -> _Place:
        """Find room for a row of *entries* in a file of type *kind*."""
        row, value = encoded([entry.key(self._namespace) for entry in entries])
        with self._lock:
            file = self._open.get(kind)
            while True:
                texts = self._texts(entries, file.described if file else ())
                start = file.append(texts + row) if file else None
                if file is not None and start is not None:
                    file.described.update(entry.family for entry in entries)
                    return file, start + len(texts) + value, len(row) // len(entries)
                size = max(_FILE_SIZE, _HEADER_SIZE + len(self._texts(entries)) + len(row))
                file = self._open[kind] = _EntryFile(self._directory, kind, size)

    def _texts(self, entries: Sequence[FileEntry], known: Container[Family] = ()) -> bytes:
        """Encode the help of the metrics that are not *known* in a file."""
        new = {entry.family: entry for entry in entries if entry.family not in known}
        keys = [entry.key(self._namespace, family.help) for family, entry in new.items()]
        return b"".join(encoded([key])[0] for key in keys)

    def _warn(self, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger_of("metrics").error(
                "cannot write to %s=%s (%s); what new threads and new policies of this "
                "process record is lost",
                VARIABLE,
                self._directory,
                error,
            )


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
    owner = this_process()
    ending = f"{owner.pid}-{owner.started}-{_namespaces_of(owner)}"
    while True:
        path = Path(directory, f"{kind}_{_identifier()}m{next(_numbers)}-{ending}.db")
        unfinished = path.with_suffix(".new")
        with contextlib.suppress(FileExistsError):
            descriptor = os.open(unfinished, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o644)
            if not path.exists():  # nor can it be made by another interpreter from here on
                return path, unfinished, descriptor
            os.close(descriptor)
            unfinished.unlink()


def _identifier() -> str:
    """Return what prometheus_client calls this process in the names of files.

    That is its id, unless `values.ValueClass` was made by `MultiProcessValue` with another
    `process_identifier`, such as uwsgi's `worker_id`. It tells that parameter to nobody, but its
    own methods see it.
    """
    for _, method in inspect.getmembers(values.ValueClass, inspect.isfunction):
        given = inspect.getclosurevars(method).nonlocals.get("process_identifier")
        if callable(given):
            return str(given()).replace("/", "-")
    return str(os.getpid())


def _namespaces_of(owner: Owner) -> str:
    """Return what tells the namespaces and the boot of a process from others, in eight digits."""
    return f"{zlib.crc32(f'{owner.boot} {owner.namespace}'.encode()):08x}"


_OF_PROCESS = re.compile(r"(?:gauge_live.*\.db|.*\.new)")
_ENDING = re.compile(r"-([0-9]+)-([0-9]+)-([0-9a-f]{8})\.(?:db|new)$")


def remove_gone(directory: str) -> None:
    """Remove the files that processes of this namespace have left which were only for their time.

    Those are the gauges of what is the case in a process, and files that never were finished.
    """
    here = this_process()
    namespaces = _namespaces_of(here)
    dead: dict[Owner, bool] = {}
    with contextlib.suppress(OSError):  # as far as this process may see, and remove
        for name in filter(_OF_PROCESS.fullmatch, [each.name for each in os.scandir(directory)]):
            ending = _ENDING.search(name)
            if ending is None or ending[3] != namespaces:
                continue
            owner = attrs.evolve(here, pid=int(ending[1]), started=int(ending[2]))
            if owner not in dead:
                dead[owner] = owner != here and is_dead(owner)
            if dead[owner]:
                Path(directory, name).unlink(missing_ok=True)


def _map(path: Path, descriptor: int, size: int) -> memoryview:
    """Map a new file of one step into memory, up to *size*; on failure, take it away again."""
    try:
        os.truncate(descriptor, size)  # for a moment: nothing is mapped beyond the end of a file
        view = memoryview(mmap.mmap(descriptor, size))
        os.truncate(descriptor, 0)
        _reserve(descriptor, 0, _STEP)
    except OSError:
        path.unlink()
        raise
    else:
        return view
    finally:
        os.close(descriptor)


def _reserve(descriptor: int, start: int, end: int) -> None:
    """Make a file longer, by zeros; a full disk is an error here, and would be a SIGBUS later."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, start, end - start)
    elif os.fstat(descriptor).st_size < end:  # a signal handler may have been here
        os.truncate(descriptor, end)


@functools.cache
def files_work() -> bool:
    """True if the installed prometheus_client reads from our files what we wrote."""
    counted = Family("probe_total", "counter", "Help.", ("a",))
    counter = FileEntry(counted, "_total", {"a": "\n\u00e9"})
    histogram = Family("probe_seconds", "histogram", "", ())
    bounds = ("1.0", "+Inf")
    buckets = [FileEntry(histogram, "_bucket", {"le": bound}) for bound in bounds]
    with tempfile.TemporaryDirectory(prefix="mainstay-probe-") as directory:
        files = Files(directory, "probe")
        for number in (2.0, 3.0):  # as two threads would
            files.row("counter", [counter])[0] += 2.0
            row = files.row("histogram", [*buckets, FileEntry(histogram, "_sum", {})])
            for slot, value in enumerate((1.0, 3.0, 0.5)):
                row[slot] += value
            for mode in _MODES:
                files.set_gauges(Family(mode, "gauge", "", (), mode=mode), {(): number})
        seen = _read(directory)
    expected: dict[tuple[str, ...], float | str] = {
        ("probe_probe_total", "\n\u00e9"): 4.0,
        ("probe_probe_seconds_bucket", "1.0"): 2.0,
        ("probe_probe_seconds_bucket", "+Inf"): 8.0,
        ("probe_probe_seconds_count",): 8.0,
        ("probe_probe_seconds_sum",): 1.0,
        **{(f"probe_{mode}",): 3.0 for mode in _MODES},
        ("probe_probe", "help"): "Help.",
    }
    return seen == expected


def _read(directory: str) -> dict[tuple[str, ...], float | str]:
    """Read the samples and helps of a directory as Prometheus would; nothing if that fails."""
    registry = CollectorRegistry()
    MultiProcessCollector(registry, directory)  # type: ignore[no-untyped-call]  # it has no types
    seen: dict[tuple[str, ...], float | str] = {}
    try:
        for metric in registry.collect():
            if metric.documentation:
                seen[metric.name, "help"] = metric.documentation
            for sample in metric.samples:
                seen[sample.name, *sample.labels.values()] = sample.value
    except Exception:  # noqa: BLE001 - whatever a reader of another format raises
        return {}
    return seen


class Forwarded(list[float]):
    """Slots that pass on what is added to them. A slot reads as 0, so `+=` sets the addend."""

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
    _gauges: ClassVar[dict[str, Gauge]] = {}
    _histograms: ClassVar[dict[str, Histogram]] = {}

    def __init__(self, namespace: str, bounds: Callable[[Family], tuple[float, ...]]) -> None:
        self._namespace = namespace
        self._bounds = bounds

    def set_gauges(self, family: Family, numbers: Mapping[tuple[str, ...], float]) -> None:
        """Set series of a gauge."""
        gauge = self._gauge(family)
        for labels, number in numbers.items():
            gauge.labels(*labels).set(number)

    def cell(self, group: Group) -> Cell:
        """Make a cell whose slots pass on to the metrics of the same name."""
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

    def _gauge(self, family: Family) -> Gauge:
        name, mode = f"{self._namespace}_{family.name}", family.mode or "all"

        def make() -> Gauge:
            return Gauge(name, family.help, family.labels, registry=None, multiprocess_mode=mode)

        return get_or_create(self._gauges, name, make)

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
