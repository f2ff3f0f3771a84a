"""`HostCollector`: shares of a machine, whatever the machine says."""

from typing import NamedTuple

import psutil
import pytest
from prometheus_client import CollectorRegistry, generate_latest

from mainstay import HostCollector
from support.processes import python


class Times(NamedTuple):
    user: float
    system: float
    idle: float
    iowait: float
    guest: float
    guest_nice: float


class Memory(NamedTuple):
    total: float
    available: float


class Disk(NamedTuple):
    total: float
    used: float
    free: float


class Partition(NamedTuple):
    mountpoint: str


@pytest.fixture
def machine(monkeypatch):
    """Give a machine whose figures the test sets."""
    figures = {
        "cpu_times": Times(10.0, 5.0, 80.0, 5.0, 1.0, 0.0),
        "virtual_memory": Memory(1_000, 250),
        "disk_partitions": [Partition("/"), Partition("/data")],
    }
    for function in tuple(figures):
        monkeypatch.setattr(psutil, function, lambda function=function: figures[function])
    monkeypatch.setattr(psutil, "disk_usage", lambda path: Disk(110, 30, 70))
    return figures


def value(registry, name, **labels):
    return registry.get_sample_value(f"mainstay_host_{name}_usage_ratio", labels)


@pytest.fixture
def registry(machine):
    registry = CollectorRegistry()
    registry.register(HostCollector())
    return registry


def test_processor_time_is_counted_from_scrape_to_scrape(machine, registry):
    machine["cpu_times"] = Times(13.0, 6.0, 94.0, 7.0, 2.0, 0.0)
    assert value(registry, "cpu") == pytest.approx(4 / 20)
    machine["cpu_times"] = Times(23.0, 6.0, 94.0, 7.0, 2.0, 0.0)
    assert value(registry, "cpu") == 1.0


def test_no_time_between_two_scrapes_is_no_figure(registry):
    assert value(registry, "cpu") is None


def test_memory_that_is_available_is_not_in_use(registry):
    assert value(registry, "memory") == 0.75


def test_each_file_system_has_its_share(registry):
    assert value(registry, "disk", mountpoint="/") == 0.3
    assert value(registry, "disk", mountpoint="/data") == 0.3


def test_a_file_system_that_cannot_be_asked_is_left_out(monkeypatch, machine, registry):
    def usage(path):
        if path == "/data":
            raise PermissionError(path)
        return Disk(0, 0, 0) if path == "/empty" else Disk(10, 5, 5)

    machine["disk_partitions"].append(Partition("/empty"))
    monkeypatch.setattr(psutil, "disk_usage", usage)
    assert value(registry, "disk", mountpoint="/") == 0.5
    assert value(registry, "disk", mountpoint="/data") is None
    assert value(registry, "disk", mountpoint="/empty") is None


def test_a_name_that_cannot_be_encoded_breaks_no_scrape(machine, registry):
    machine["disk_partitions"].append(Partition("/mnt/\udcff"))
    assert b'mountpoint="/mnt/?"' in generate_latest(registry)


def test_the_real_machine_has_figures_between_0_and_1():
    registry = CollectorRegistry()
    registry.register(HostCollector(namespace="shop"))
    seen = {s.name: s.value for metric in registry.collect() for s in metric.samples}
    assert {"shop_host_memory_usage_ratio", "shop_host_disk_usage_ratio"} <= seen.keys()
    assert all(0 <= each <= 1 for each in seen.values())


def test_a_second_one_is_refused_by_the_registry(registry):
    with pytest.raises(ValueError, match="Duplicated timeseries"):
        registry.register(HostCollector())


@pytest.mark.process
def test_without_psutil_everything_can_be_imported_and_it_says_what_to_install():
    program = (
        "import inspect, sys; sys.modules['psutil'] = None\n"
        "from mainstay import *; import mainstay; inspect.getmembers(mainstay)\n"
        "try: HostCollector()\n"
        "except ImportError as error: print(error)"
    )
    assert "pip install 'mainstay[host]'" in python("-c", program)
