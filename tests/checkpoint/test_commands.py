"""`python -m mainstay checkpoints`."""

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay.__main__ import main
from mainstay._checkpoint import commands
from mainstay.stores import SQLiteStore
from support.sqlite_files import connection_of


def command(capsys, *arguments):
    try:
        code = main(["checkpoints", *arguments])
    except SystemExit as end:
        code = end.code
    out, err = capsys.readouterr()
    return code, out, err


@pytest.fixture
def kept(url):
    def job(cp, fail):
        cp.step("fetch", int)
        for item in cp.iterate(range(5)):
            if fail and item == 3:
                raise ValueError

    policy = checkpointed(store=url, key="{fail}", name="job")
    policy.call(job, fail=False)
    with pytest.raises(ValueError):  # noqa: PT011 - the one above
        policy.call(job, fail=True)
    return url


def test_list_prints_a_header_and_a_line_for_each_run(capsys, kept, monkeypatch):
    monkeypatch.setattr(commands, "wall_time", lambda: 0.0)
    code, out, err = command(capsys, "list", "--store", kept)
    assert (code, err) == (0, "")
    header, *lines = out.splitlines()
    assert header == "STATE        ATTEMPT  ITEMS  AGE  CHANGED  NAME  KEY    LAST ERROR"
    assert lines == [
        "done         1        5      0s   0s       job   False",
        "interrupted  1        3      0s   0s       job   True   ValueError",
    ]


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(-5, "0s"), (119.9, "119s"), (120, "2m"), (7_199, "119m"), (7_200, "2h"), (172_799, "47h"),
     (172_800, "2d"), (1e9, "11574d")],
)  # fmt: skip
def test_list_says_how_long_ago_a_run_began_and_changed(capsys, kept, monkeypatch, seconds, shown):
    monkeypatch.setattr(commands, "wall_time", lambda: 2e9)
    store = SQLiteStore(kept.removeprefix("sqlite:///"))
    with connection_of(store) as db:
        db.execute("UPDATE run SET created = ?, updated = ?", (2e9 - seconds, 2e9 - 5))
    store.close()
    _, out, _ = command(capsys, "list", "--store", kept)
    assert [line.split()[3:5] for line in out.splitlines()[1:]] == [[shown, "5s"]] * 2
    with connection_of(store) as db:
        db.execute("UPDATE run SET updated = created")
    store.close()
    _, out, _ = command(capsys, "list", "--store", kept)
    assert [line.split()[3:5] for line in out.splitlines()[1:]] == [[shown, shown]] * 2


def test_list_shows_the_runs_of_a_name_and_of_states(capsys, kept):
    with checkpoint_run("key", name="other", store=kept):
        pass

    def listed(*filters):
        shown = json.loads(command(capsys, "list", "--store", kept, "--json", *filters)[1])
        _, out, _ = command(capsys, "list", "--store", kept, *filters)
        assert len(out.splitlines()) == 1 + len(shown)
        return [(each["name"], each["key"]) for each in shown]

    assert listed() == [("job", "False"), ("job", "True"), ("other", "key")]
    assert listed("--name", "job") == [("job", "False"), ("job", "True")]
    assert listed("--name", "missing") == []
    assert listed("--state", "done") == [("job", "False"), ("other", "key")]
    assert listed("--state", "done", "--name", "job") == [("job", "False")]
    assert listed("--state", "done", "--state", "interrupted") == listed()
    assert listed("--state", "poisoned") == []
    code, out, err = command(capsys, "list", "--store", kept, "--state", "lost")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "'running', 'interrupted', 'poisoned', 'done'" in err


def test_list_prints_json_for_programs(capsys, kept):
    code, out, err = command(capsys, "list", "--store", kept, "--json", "--state", "interrupted")
    assert (code, err) == (0, "")
    [shown] = json.loads(out)
    known = json.loads(command(capsys, "show", "job", "True", "--store", kept)[1])
    del known["saved"], known["steps"]
    assert 0 <= shown.pop("seconds since changed") <= shown.pop("seconds since begun") < 60
    assert shown == known | {"items": 3}
    assert (shown["state"], shown["error"]) == ("interrupted", "ValueError")


def test_list_tells_how_far_a_run_is_that_is_damaged_or_has_saved_nothing(capsys, kept):
    with pytest.raises(ValueError), checkpoint_run("none", store=kept):  # noqa: PT011 - this one
        raise ValueError

    def items():
        shown = json.loads(command(capsys, "list", "--store", kept, "--json")[1])
        _, out, _ = command(capsys, "list", "--store", kept)
        return [each["items"] for each in shown], [line.split()[2] for line in out.splitlines()[1:]]

    assert items() == ([5, 3, 0], ["5", "3", "0"])
    store = SQLiteStore(kept.removeprefix("sqlite:///"))
    with connection_of(store) as db:
        db.execute("UPDATE run SET latest = x'00', previous = x'00' WHERE key = 'True'")
    store.close()
    assert items() == ([5, None, 0], ["5", "?", "0"])


def test_a_long_error_is_cut_in_the_table_alone(capsys, url):
    with pytest.raises(ValueError, match="x"), checkpoint_run("key", store=url):
        raise ValueError("x" * 300)
    _, out, _ = command(capsys, "list", "--store", url)
    assert out.endswith(f"  ValueError: {'x' * 88}…\n")
    [shown] = json.loads(command(capsys, "list", "--store", url, "--json")[1])
    assert shown["error"] == f"ValueError: {'x' * 300}"


def test_a_key_of_several_lines_is_listed_in_one_and_tells_the_terminal_nothing(capsys, url):
    with checkpoint_run("a b\nü\x1b[31m", store=url):
        pass
    _, out, _ = command(capsys, "list", "--store", url)
    assert out.endswith("  run   a b\\nü\\x1b[31m\n")
    assert out.count("\n") == 2


def test_a_store_whose_path_has_a_percent_sign_is_found(capsys, tmp_path):
    url = f"sqlite:///{tmp_path}/100%2541.db"
    with checkpoint_run("key", store=url):
        pass
    assert (tmp_path / "100%41.db").exists()
    assert command(capsys, "list", "--store", url)[0] == 0


def test_show_prints_what_is_known_as_json(capsys, kept):
    code, out, _ = command(capsys, "show", "job", "True", "--store", kept)
    shown = json.loads(out)
    assert (code, shown["state"], shown["error"], shown["steps"]) == (
        0, "interrupted", "ValueError", ["fetch"],
    )  # fmt: skip
    assert shown["saved"]["items"] == 3


def test_forget_removes_a_run(capsys, kept):
    assert command(capsys, "forget", "job", "True", "--store", kept)[0] == 0
    assert command(capsys, "forget", "job", "True", "--store", kept) == (
        2, "", f"python -m mainstay: there is no run 'True' of job in {kept}\n",
    )  # fmt: skip


def test_verify_finds_what_is_damaged(capsys, kept):
    assert command(capsys, "verify", "--store", kept) == (0, "2 runs, 0 damaged parts\n", "")
    store = SQLiteStore(kept.removeprefix("sqlite:///"))
    with connection_of(store) as db:
        db.execute("UPDATE run SET latest = x'00' WHERE key = 'True'")
        db.execute("UPDATE result SET value = x'00'")
    store.close()
    code, out, _ = command(capsys, "verify", "--store", kept)
    assert code == 1
    assert "run 'True' of job: the last save: it does not begin like saved data of mainstay" in out
    assert "step 'fetch'" in out
    shown = json.loads(command(capsys, "show", "job", "True", "--store", kept)[1])
    assert shown["saved"].startswith("damaged")


def test_show_says_that_nothing_was_saved(capsys, url):
    with pytest.raises(ValueError), checkpoint_run("key", store=url):  # noqa: PT011 - this one
        raise ValueError
    assert json.loads(command(capsys, "show", "run", "key", "--store", url)[1])["saved"] is None


def test_bad_usage_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch):
    monkeypatch.delenv("MAINSTAY_STORE", raising=False)
    (tmp_path / "text.db").write_text("no database at all\n" * 100)
    for arguments in (
        [],
        ["destroy"],
        ["show", "--store", "memory://"],
        ["list"],
        ["list", "--store", "nowhere"],
        ["list", "--store", f"sqlite:///{tmp_path / 'missing.db'}"],
        ["list", "--store", f"sqlite:///{tmp_path / 'text.db'}"],
    ):
        code, out, err = command(capsys, *arguments)
        assert (code, out, err.count("\n")) == (2, "", 1), arguments
    assert not (tmp_path / "missing.db").exists()


@pytest.mark.process
def test_the_command_line_is_a_program(kept):
    done = subprocess.run(
        [sys.executable, "-m", "mainstay", "checkpoints", "verify"],
        env=os.environ | {"MAINSTAY_STORE": kept}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "2 runs, 0 damaged parts\n")


# What the system refuses is one line and exit code 2.


def ended(capsys, *arguments):
    with pytest.raises(SystemExit) as end:
        main(["checkpoints", *arguments])
    printed = capsys.readouterr()
    assert (printed.out, printed.err.count("\n")) == ("", 1)
    return end.value.code, printed.err


def test_a_name_that_no_file_can_have_is_one_line(capsys):
    code, said = ended(capsys, "list", "--store", f"sqlite:///{'x' * 300}")
    assert code == 2
    assert os.strerror(errno.ENAMETOOLONG) in said


def test_a_file_in_the_place_of_a_directory_is_one_line(capsys, tmp_path):
    (tmp_path / "file").write_text("")
    code, said = ended(capsys, "list", "--store", f"sqlite:///{tmp_path}/file/runs.db")
    assert code == 2
    assert os.strerror(errno.ENOTDIR) in said


def test_a_directory_that_may_not_be_looked_into_is_one_line(capsys, monkeypatch):
    def refused(_path):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/secret/runs.db")

    monkeypatch.setattr(Path, "stat", refused)  # as root, every directory may be looked into
    code, said = ended(capsys, "list", "--store", "sqlite:////secret/runs.db")
    assert code == 2
    assert os.strerror(errno.EACCES) in said


@pytest.mark.process
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no device that is full")
def test_output_that_cannot_be_written_is_one_line(url):
    with checkpoint_run("key", store=url):
        pass
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "mainstay", "checkpoints", "list", "--store", url],
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr.count("\n")) == (2, 1)
    assert os.strerror(errno.ENOSPC) in done.stderr


# What a terminal would obey, or show in another order, is escaped, whoever wrote it.

ODD = {
    "a new line": ("\n", "\\n"),
    "a carriage return": ("\r", "\\r"),
    "escape": ("\x1b[31m", "\\x1b[31m"),
    "the other escape": ("\x9b31m", "\\x9b31m"),
    "delete": ("\x7f", "\\x7f"),
    "right to left": ("\u202e", "\\u202e"),
    "an isolate": ("\u2067", "\\u2067"),
    "no width": ("\u200b", "\\u200b"),
    "a line of its own": ("\u2028", "\\u2028"),
    "a tag": ("\U000e0041", "\\U000e0041"),
}


@pytest.fixture(params=ODD.values(), ids=ODD)
def odd(request, url):
    """Characters, what they become, and a store with a damaged run that has them everywhere."""
    raw, escaped = request.param

    def work(cp):
        cp.step(f"step{raw}", int)
        raise ValueError(f"error{raw}")

    with pytest.raises(ValueError, match="error"):
        checkpointed(store=url, name=f"ü{raw}", key=lambda: f"key{raw}").call(work)
    store = SQLiteStore(url.removeprefix("sqlite:///"))
    with connection_of(store) as db:
        db.execute("UPDATE result SET value = x'00'")
    store.close()
    return raw, escaped, url


def test_no_command_says_anything_to_the_terminal(capsys, odd):
    raw, escaped, url = odd
    named = f"ü{raw}", f"key{raw}"
    for arguments in (
        ["list"],
        ["verify"],
        ["show", *named],
        ["forget", named[0], "missing"],
        ["forget", *named],
        ["list", "--store", f"sqlite:///{raw}/none.db"],
    ):
        store = [] if "--store" in arguments else ["--store", url]
        _, out, err = command(capsys, *arguments, *store)
        assert all(each.isprintable() for line in (out + err).split("\n") for each in line)
        if arguments[0] == "verify":
            assert f"run 'key{escaped}' of ü{escaped}: step 'step{escaped}'" in out
        elif arguments[0] == "forget" and "missing" not in arguments:
            assert out == f"forgot run 'key{escaped}' of ü{escaped}\n"
        elif arguments[0] == "show":
            shown = json.loads(out)
            assert (shown["name"], shown["key"], shown["steps"]) == (*named, [f"step{raw}"])
            assert "ü" in out
