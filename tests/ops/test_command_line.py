"""The commands ``rules`` and ``dashboard``, ``--version``: what is printed, and what is refused."""

import json
import subprocess
import sys
import tomllib
from importlib.metadata import EntryPoint

import pytest
import yaml

import mainstay
from mainstay import ops
from mainstay.__main__ import main
from mainstay._core.version import VERSION
from support.processes import python
from support.source import ROOT


@pytest.mark.process
def test_rules_prints_what_the_function_gives():
    assert python("-m", "mainstay", "rules") == ops.rules()


@pytest.mark.process
def test_dashboard_prints_what_the_function_gives():
    assert json.loads(python("-m", "mainstay", "dashboard")) == json.loads(ops.dashboard())


def test_rules_takes_every_parameter(capsys):
    arguments = [
        *("--slo", "0.99", "--selector", 'job="x"', "--namespace", "shop"),
        *("--window", "7d", "--window", "1h", "--label", "team=a=b"),
        *("--min-events", "3", "--runbook-base", "https://docs.example/alerts"),
    ]
    main(["rules", *arguments])
    printed = capsys.readouterr().out
    assert printed == ops.rules(
        slo=0.99,
        selector='job="x"',
        namespace="shop",
        windows=("7d", "1h"),
        labels={"team": "a=b"},
        min_events=3,
        runbook_base="https://docs.example/alerts",
    )
    assert yaml.safe_load(printed)["groups"][0]["name"] == "shop-calls"


def test_dashboard_takes_every_parameter(capsys):
    main(["dashboard", "--slo", "0.9", "--selector", 'env="x"', "--namespace", "shop"])
    assert capsys.readouterr().out == ops.dashboard(slo=0.9, selector='env="x"', namespace="shop")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: COMMAND"),
        (["bogus"], "invalid choice: 'bogus'"),
        (["rules", "--slo", "2"], "`slo` must be above 0 and below 1, such as 0.999, not 2.0"),
        (["rules", "--slo", "x"], "invalid float value: 'x'"),
        (["rules", "--selector", "job="], "`selector` must be conditions"),
        (["rules", "--namespace", "1a"], "`namespace` must consist of"),
        (["rules", "--window", "1y"], "`windows` must be a number"),
        (["rules", "--min-events", "0"], "`min_events` must be at least 1, not 0"),
        (["rules", "--min-events", "few"], "invalid int value: 'few'"),
        (["rules", "--runbook-base", "alerts.html"], "`runbook_base` must be the address"),
        (["rules", "--label", "team"], "must be NAME=VALUE, not 'team'"),
        (["dashboard", "--slo", "nan"], "`slo` must be above 0 and below 1"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(capsys, arguments, message):
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert message in printed.err
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("url", "module", "extra"),
    [
        ("postgresql://db/jobs", "psycopg", "postgres"),
        ("redis://db/0", "redis", "redis"),
        ("s3://bucket/jobs", "obstore", "s3"),
    ],
)
def test_an_extra_that_is_missing_is_one_line_and_exit_code_2(
    capsys, monkeypatch, url, module, extra
):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(SystemExit) as end:
        main(["checkpoints", "list", "--store", url])
    out, err = capsys.readouterr()
    assert (end.value.code, out, err.count("\n")) == (2, "", 1)
    assert f"pip install 'mainstay[{extra}]'" in err


@pytest.mark.process
def test_a_reader_that_goes_away_is_no_error():
    command = f"{sys.executable} -m mainstay rules | head -n 1"
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("groups:\n", "")


@pytest.mark.parametrize(
    ("program", "prog"),
    [("/usr/bin/mainstay", "mainstay"), ("/lib/mainstay/__main__.py", "python -m mainstay")],
)
def test_usage_names_the_command_that_was_given(capsys, monkeypatch, program, prog):
    monkeypatch.setattr(sys, "argv", [program])
    with pytest.raises(SystemExit):
        main([])
    assert capsys.readouterr().err.startswith(f"{prog}: ")


def test_version_is_told_by_the_command_and_by_the_package(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert capsys.readouterr().out == f"mainstay {mainstay.__version__}\n"
    assert mainstay.__version__ == VERSION


def test_the_console_script_is_the_command_line():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert EntryPoint("mainstay", settings["scripts"]["mainstay"], "console_scripts").load() is main
