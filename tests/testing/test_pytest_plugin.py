"""The fixtures that pytest offers where mainstay is installed."""

import pytest

pytest_plugins = ["pytester"]

TESTS = """
    import pytest
    from mainstay import default_metrics, retry
    from mainstay._core.context import block_context, process_contexts


    def test_clock(fake_clock, faults):
        assert retry(on=OSError, wait=20).call(faults([OSError(), "value"])) == "value"
        assert fake_clock.now() == 20


    def test_waits(no_waits, faults):
        assert retry(on=OSError, wait=20).call(faults([OSError(), "value"])) == "value"
        assert no_waits is None


    def test_metrics(recorded, no_waits, faults):
        retry(on=OSError, name="work", wait=20).call(faults([OSError(), "value"]))
        assert recorded.value("calls_total", component="work", outcome="recovered") == 1
        assert recorded.value("wait_seconds_total") == 20
        assert default_metrics() is recorded


    @pytest.mark.parametrize("again", range(2))
    def test_each_test_has_its_own(again, recorded, fake_clock):
        assert recorded.value("calls_total") == 0
        assert fake_clock.now() == 0
        retry(on=OSError, name="work").call(fake_clock.advance, 1)


    @pytest.mark.xfail(raises=ZeroDivisionError, strict=True)
    def test_fails(recorded, fake_clock, no_waits):
        1 / 0


    def test_nothing_is_left_behind():
        assert block_context() is None
        assert process_contexts == []
"""


QUICK = [f"-pno:{each}" for each in ("randomly", "hypothesispytest", "timeout", "langsmith_plugin")]


def test_the_fixtures_are_there_without_an_import_and_leave_nothing_behind(
    pytester: pytest.Pytester,
) -> None:
    pytester.makepyfile(TESTS)
    result = pytester.runpytest_inprocess("-W", "error", *QUICK)
    result.assert_outcomes(passed=6, xfailed=1)


def test_pytest_tells_what_each_fixture_is_for(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTEST_DISABLE_PLUGIN_AUTOLOAD", "1")
    result = pytester.runpytest_inprocess("--fixtures", "-p", "mainstay._pytest_plugin")
    told = [line for line in result.outlines if "_pytest_plugin.py" in line]
    assert sorted(line.partition(" ")[0] for line in told) == [
        "crash_at_every_save", "fake_clock", "faults", "no_waits", "recorded",
    ]  # fmt: skip
    result.stdout.no_fnmatch_line("*no docstring available*")
