"""`mainstay top` as a reader has it: printed once, or live in a terminal of some size."""

import codecs
import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from pathlib import Path

import pytest

from mainstay.__main__ import main
from mainstay._top import commands, show
from support.endpoints import answers, eventually, trouble
from support.processes import LOOPBACK, environment, free_port

SIZES = {"narrow": (40, 12), "usual": (80, 24), "wide": (160, 50)}
LEAVE = "\x1b[?1049l"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: URL"),
        (["ftp://host"], "URL must be one of HTTP, such as localhost:8000 or https://shop.example"),
        (["http://me:secret@host:0"], "/metrics, not 'http://...@host:0'"),
        (["host", "--every", "0"], "must be seconds from 0.5 to 3600, not '0'"),
        (["host", "--every", "nan"], "must be seconds from 0.5 to 3600, not 'nan'"),
        (["host", "--every", "soon"], "must be seconds from 0.5 to 3600, not 'soon'"),
        (["host", "--namespace", "1a"], "`namespace` must consist of"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(["top", *arguments])
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert message in printed.err
    assert printed.err.count("\n") == 1


def test_without_rich_it_says_which_extra_brings_it(capsys, monkeypatch):
    monkeypatch.setattr(commands.importlib.util, "find_spec", lambda _: None)
    with pytest.raises(SystemExit) as ended:
        main(["top", "localhost:8000"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(": top needs rich: pip install 'mainstay[top]'\n")


def test_ctrl_c_ends_a_command_without_a_traceback(monkeypatch, capsys):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(show, "show", interrupted)
    assert main(["top", "localhost:8000", "--once"]) == 130
    assert capsys.readouterr() == ("", "")


@pytest.fixture(scope="module")
def target():
    with trouble() as url:
        yield url


@pytest.fixture(scope="module")
def server():
    with answers() as url:
        yield url


def once(*arguments, **variables):
    """Print one picture into a pipe; give its lines."""
    command = [sys.executable, "-m", "mainstay", "top", "--once", *arguments]
    done = subprocess.run(
        command,
        env=environment(variables),
        capture_output=True,
        timeout=60,
        check=True,
        encoding=variables.get("PYTHONIOENCODING", "utf-8"),
    )
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.mark.process
def test_once_prints_everything_that_there_is_and_ends(target):
    lines = once(target, COLUMNS="120", NO_COLOR="")
    text = "\n".join(lines)
    assert "payments breaker open" in lines[0]
    assert "search eu-1 out, 2 of 3 serve" in lines[1]
    assert "\x1b" not in text
    titles = [line.strip().split("  ")[0] for line in lines if line.startswith("  ")]
    assert [title.split(" ")[0] for title in titles if title] == [
        "CALLS",
        "POOLS",
        "BREAKERS",
        "BULKHEADS",
        "HEDGES,",
        "RUNS",
    ]
    assert re.search(r"^● prices +retry +\d+ ─+ ", text, re.MULTILINE)
    assert re.search(r"^▲ search +✗ eu-1 ejected", text, re.MULTILINE)
    assert re.search(r"^● orders-db +● primary [\d.]+/s +◌ replica cold$", text, re.MULTILINE)
    assert re.search(r"^✗ payments +open .*refuses [\d.]+/s +1 outage since", text, re.MULTILINE)
    assert re.search(r"^● photos +\d of 2 run", text, re.MULTILINE)
    assert re.search(r"^● reviews +hedges [\d.]+ % after 30 ms", text, re.MULTILINE)
    assert re.search(
        r"^● nightly-import +\d+ items +[\d.]+ % [\d.]+/s  \w+ left  saved \ds ago",
        text,
        re.MULTILINE,
    )


@pytest.mark.process
def test_a_reader_who_has_seen_enough_is_no_error(target):
    command = [sys.executable, "-m", "mainstay", "top", target]
    with subprocess.Popen(
        command, env=environment({}), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as top:
        top.stdout.close()
        assert (top.stderr.read(), top.wait(timeout=20)) == (b"", 0)


@pytest.mark.process
def test_once_in_ascii(target):
    lines = once(target, PYTHONIOENCODING="ascii")
    assert all(line.isascii() for line in lines)
    assert any(line.startswith("x payments") for line in lines)


@pytest.mark.process
def test_targets_that_fail_are_said_and_the_others_go_on(server):
    bad = ["page", "others", "redirect", "long", "no-http"]
    nobody = f"{LOOPBACK}:{free_port()}"
    lines = once(f"{server}/metrics", nobody, *(f"{server}/{path}" for path in bad))
    text = "\n".join(lines)
    assert lines[0].startswith(" 6 failing ")
    assert re.search(r"^● shop +\d", text, re.MULTILINE)
    assert "answers with something else than metrics" in text
    assert "nobody listens there" in text
    assert "redirects to http://...@elsewhere.example/metrics: give that URL" in text
    assert "answers with more than 32 MiB" in text


@pytest.mark.process
def test_an_endpoint_that_is_named_twice_counts_once():
    nobody = f"{LOOPBACK}:{free_port()}"
    lines = once(nobody, f"http://{nobody}/metrics")
    assert lines[0].startswith(f" 1 failing   {nobody} nobody listens there")
    assert sum("nobody listens there" in line for line in lines[1:]) == 1


@pytest.mark.process
def test_the_same_component_of_several_processes_is_added_up(server):
    lines = once(f"{server}/metrics", f"{server}/gzip")
    assert len([line for line in lines if line.startswith("● shop")]) == 1


class Terminal:
    """`mainstay top` in a pseudo-terminal."""

    def __init__(self, width, height, *arguments, **variables):
        self.process, self._side = self._start(width, height, arguments, variables)
        self.written = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")()

    def _start(self, width, height, arguments, variables):
        mine, its = pty.openpty()
        self._side = mine
        self.resize(width, height)
        env = {"TERM": "xterm-256color", "COLORTERM": "truecolor", **variables}
        process = subprocess.Popen(
            [sys.executable, "-m", "mainstay", "top", *arguments],
            stdin=its,
            stdout=its,
            stderr=its,
            env=environment(env),
            start_new_session=True,
        )
        self.before = termios.tcgetattr(its)
        self._its = its
        return process, mine

    def resize(self, width, height):
        fcntl.ioctl(self._side, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def press(self, keys):
        os.write(self._side, keys.encode())

    def read(self):
        """Give all that was written so far."""
        with contextlib.suppress(OSError):  # it has ended
            while select.select([self._side], [], [], 0.02)[0]:
                self.written += self._decoder.decode(os.read(self._side, 65_536))
        return self.written

    def picture(self):
        """Give the lines of the last picture, without colours."""
        last = self.read().rsplit("\x1b[H", 1)[-1]
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", last).replace("\r", "").split("\n")

    def wait_for(self, *texts):
        """Wait for a picture that has all of the texts; give it."""
        eventually(lambda: all(text in "\n".join(self.picture()) for text in texts))
        return self.picture()

    def close(self):
        """End it if need be; give its exit code, and True if the terminal is as it was."""
        if self.process.poll() is None:
            self.process.kill()
        code = self.process.wait(timeout=20)
        self.read()
        is_as_before = termios.tcgetattr(self._its) == self.before
        os.close(self._its)
        os.close(self._side)
        return code, is_as_before


@contextlib.contextmanager
def terminal(width, height, *arguments, **variables):
    opened = Terminal(width, height, *arguments, **variables)
    try:
        yield opened
    except BaseException:
        opened.close()
        raise
    if opened.process.returncode is None:
        opened.press("q")
        opened.process.wait(timeout=20)
    code, is_as_before = opened.close()
    assert (code, is_as_before) == (0, True)
    assert LEAVE in opened.written


@pytest.mark.process
@pytest.mark.parametrize(("width", "height"), SIZES.values(), ids=SIZES)
def test_a_live_view_fills_its_terminal_with_what_is_wrong_first(target, width, height):
    with terminal(width, height, target) as top:
        lines = top.wait_for("2 failing", "payments", "recommend", " quit")
        assert len(lines) == height
        assert {len(line) for line in lines} == {width}
        assert lines[0].startswith(" 2 failing")
        assert any(line.startswith("✗ payments") for line in lines)
        assert "48;2;240;96;77" in top.written  # filled red, in true colour


@pytest.mark.process
def test_keys_sort_filter_pause_explain_and_go_back(target):
    with terminal(120, 45, target) as top:
        top.wait_for("prices", "sort: worst")
        top.press("s")
        top.wait_for("sort: name")
        top.press("/price\r")
        lines = top.wait_for("/price")
        assert not any("checkout" in line for line in lines)
        top.press("\r")
        top.wait_for("IN THE LAST SECONDS", "p50")
        top.press("\x1b")
        top.wait_for("one component")
        top.press("\x1b")
        top.wait_for("checkout")
        top.press("?")
        top.wait_for("worst first, by name, by rate")
        top.press("?p")
        top.wait_for("paused")


@pytest.mark.process
def test_another_size_is_another_picture_at_once(target):
    with terminal(80, 24, target, "--every", "600") as top:
        top.wait_for("payments")
        top.resize(120, 40)
        os.kill(top.process.pid, signal.SIGWINCH)
        eventually(lambda: len(top.picture()) == 40)


@pytest.mark.process
def test_without_colour_there_is_none(target):
    with terminal(80, 24, target, NO_COLOR="1") as top:
        top.wait_for("payments")
        assert not re.search(r"\x1b\[[\d;]*(?:3|4)\d[;m]", top.written)


@pytest.mark.process
def test_a_terminal_that_cannot_be_drawn_over_gets_one_picture(target):
    top = Terminal(80, 24, target, TERM="dumb")
    top.process.wait(timeout=20)
    lines = top.picture()
    assert top.close() == (0, True)
    assert "failing" in lines[0]
    assert max(map(len, lines)) <= 80  # rich asks such a terminal for no size
    assert "\x1b" not in top.written


@pytest.mark.process
def test_ctrl_z_leaves_the_terminal_to_others_until_it_goes_on(target):
    with terminal(80, 24, target) as top:
        top.wait_for("payments")
        os.kill(top.process.pid, signal.SIGTSTP)  # as a terminal that controls it does
        stat = Path(f"/proc/{top.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(") ")[2].startswith("T"))
        assert LEAVE in top.read()[-40:]
        assert termios.tcgetattr(top._its) == top.before
        top.written = ""
        os.kill(top.process.pid, signal.SIGCONT)
        top.wait_for("payments", "sort: worst")


@pytest.mark.process
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_and_leaves_the_terminal_as_it_was(target, number):
    with terminal(80, 24, target) as top:
        top.wait_for("payments")
        os.kill(top.process.pid, number)
        top.process.wait(timeout=20)


@pytest.mark.process
def test_a_target_that_goes_down_is_red_and_its_figures_stay():
    with trouble() as first, terminal(120, 50, first, "--every", "0.5") as top:
        top.wait_for("prices", "search")
        down = free_port()
        assert str(down) != first.rpartition(":")[2]
    with trouble() as first:
        opened = Terminal(120, 50, first, "--every", "0.5")
        opened.wait_for("prices")
    lines = opened.wait_for("nobody listens there", "ago")
    assert lines[0].startswith(f" 1 failing   {first}")
    assert any(line.startswith("● prices") and line.rstrip().endswith("ago") for line in lines)
    opened.press("q")
    opened.process.wait(timeout=20)
    assert opened.close() == (0, True)


@pytest.mark.process
def test_a_slow_scrape_lowers_the_rate_and_says_so(server):
    with terminal(120, 24, f"{server}/slow", "--every", "0.5") as top:
        top.wait_for("every 1.", "(scrapes take 0.")


@pytest.mark.process
def test_the_first_picture_comes_within_moments(target):
    started = time.monotonic()
    with terminal(80, 24, target) as top:
        top.wait_for("payments")
        assert time.monotonic() - started < 20  # the benchmark has the figure
