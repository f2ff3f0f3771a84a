"""The quickstart as a user runs it: in a process of its own, with real servers."""

import os
import re
import signal
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from urllib.request import ProxyHandler, build_opener

import pytest
from prometheus_client.parser import text_string_to_metric_families

pytestmark = pytest.mark.process

QUICKSTART = Path(__file__).parents[2] / "docs" / "examples" / "quickstart.py"
LONGEST = 100  # seconds; it takes some ten, but machines that run tests can be slow
ROW = re.compile(r"^(\w+) +(\d+) +(\d+) +(\d+) +(\d+) +([\d.]+) s$", re.MULTILINE)
COLUMNS = ("calls", "recovered", "gave up", "attempts", "waited")


@contextmanager
def quickstart(*arguments):
    """Run it as the leader of a process group, whose other members are its servers."""
    command = [sys.executable, "-u", QUICKSTART, *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def end_of(process):
    """Wait for its end; give the exit code, the rest of what it said, and its complaints.

    That takes until the last process has ended that holds the pipe for complaints: its servers do.
    """
    output, complaints = process.communicate(timeout=LONGEST)
    return process.returncode, output, complaints


def group_is_left(process):
    """Whether a process of its group is still there."""
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return False
    return True


def table_of(output):
    """The printed table: figures by component and column."""
    return {
        component: dict(zip(COLUMNS, map(float, figures), strict=True))
        for component, *figures in ROW.findall(output)
    }


def scraped(url):
    """The same figures from the endpoint, with the attempts counted in another way."""
    with build_opener(ProxyHandler({})).open(url, timeout=10) as answer:
        text = answer.read().decode()
    samples = [each for family in text_string_to_metric_families(text) for each in family.samples]

    def total(name, **labels):
        return sum(
            each.value
            for each in samples
            if each.name == f"mainstay_{name}" and labels.items() <= each.labels.items()
        )

    def attempts(component):
        if component == "reviews":  # losers of a hedged call are neither answers nor errors
            return total("calls_total", component=component) + total(
                "hedges_total", component=component
            )
        if component == "weights":  # of its copies some are late: the vote is over before they call
            return pytest.approx(total("member_attempts_total", component="scales"), rel=0.05)
        if component == "invoices":  # a run that failed is resumed by another call
            return total("calls_total", component=component)
        answered = sum(
            total("calls_total", component=component, outcome=outcome)
            for outcome in ("success", "recovered")
        )
        return answered + total("errors_total", component=component)

    def figures(component):
        return {
            "calls": total("calls_total", component=component),
            "recovered": total("calls_total", component=component, outcome="recovered"),
            "gave up": total("give_ups_total", component=component),
            "attempts": attempts(component),
            "waited": pytest.approx(total("wait_seconds_total", component=component), abs=0.06),
        }

    called = {each.labels["component"] for each in samples if each.name == "mainstay_calls_total"}
    return {each: figures(each) for each in called if total("calls_total", component=each)}


def test_it_ends_by_itself_and_shows_what_happened():
    began = time.monotonic()
    lines = []
    with quickstart() as process:
        for line in process.stdout:
            lines.append(line)
            if line.startswith("Metrics: "):
                break
        served = scraped(line.split()[1])  # nothing is called any more
        code, rest, complaints = end_of(process)
    output = "".join(lines) + rest
    assert (code, complaints) == (0, "")
    assert not group_is_left(process)
    assert time.monotonic() - began < LONGEST
    table = table_of(output)
    assert table == served
    shop = {"catalogue", "invoices", "photos", "prices"}
    shop |= {"recommendations", "reviews", "stock", "weights"}
    assert set(table) == shop
    assert table["prices"]["recovered"] > 0
    assert table["prices"]["waited"] > table["prices"]["recovered"]  # Retry-After says 1 second
    assert table["stock"]["recovered"] > 0
    assert table["recommendations"]["gave up"] > 0
    assert table["catalogue"]["recovered"] > 0
    assert table["catalogue"]["gave up"] == 0
    assert table["reviews"]["recovered"] > 0
    assert table["reviews"]["gave up"] == 0
    assert table["weights"]["attempts"] > 1.5 * table["weights"]["calls"]
    assert table["photos"]["gave up"] == 0
    assert "without a bulkhead it is dead" in output
    assert "with one it is up: it answered 320 calls" in output
    assert "The scales: first ejected, second active, third active." in output
    assert table["invoices"] == dict(zip(COLUMNS, (2, 1, 0, 2, 0), strict=True))
    recovered = sum(table[name]["recovered"] for name in ("catalogue", "prices", "stock"))
    assert f"  {recovered:.0f} calls would have failed: catalogue" in output
    assert re.search(r"^  \d+0 invoices would have been sent twice", output, re.MULTILINE)
    calls = sum(row["calls"] for row in table.values())
    assert f"All {calls:.0f} calls that the program counted itself are in the metrics" in output


def test_it_keeps_running_for_the_live_view_until_ctrl_c():
    with quickstart("--keep-running") as process:
        url = re.search(r"mainstay top (\S+)", process.stdout.readline())[1]
        for line in process.stdout:
            if line.startswith("All of it again"):
                break
        before = scraped(f"http://{url}/metrics")
        while scraped(f"http://{url}/metrics")["photos"]["calls"] == before["photos"]["calls"]:
            time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        code, _, complaints = end_of(process)
    assert (code, complaints) == (0, "")
    assert not group_is_left(process)


def test_killed_in_the_middle_it_leaves_no_server_behind():
    with quickstart() as process:
        process.stdout.readline()  # the servers run, and calls are under way
        process.kill()
        code, _, _ = end_of(process)
    assert code == -signal.SIGKILL
