"""Keys of runs: what a template may say, and what text a key or the name of a step may be."""

import contextlib
import logging

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mainstay import checkpoint_run, checkpointed
from mainstay.stores import MemoryStore, SQLiteStore
from support.checkpoints import OopsError

LONE = "data-\udcff.csv"  # what Python makes of a file's name that is no UTF-8


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("import-{tenant", "`key` 'import-{tenant' is not a format string: "),
        ("import-{tenant}}", "is not a format string: "),
        ("{tenant!z}", "is not a format string: it converts by 'z'"),
    ],
)
def test_a_template_that_is_none_is_refused_at_decoration(store, key, message):
    with pytest.raises(ValueError, match=message):
        checkpointed(store=store, key=key)(lambda cp, tenant: None)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("{tenant.name}", "'int' object has no attribute 'name'"),
        ("{tenant[day]}", "not subscriptable"),
        ("{tenant:%Q}", "Invalid format specifier|Unknown format code"),
        ("{tenant:{width}}", "'width'"),
    ],
)
def test_a_template_that_does_not_fit_the_arguments_is_told_by_name(runner, store, key, why):
    async def body(cp, tenant):
        raise AssertionError("never called")

    job = runner.job(body, store=store, key=key)
    with pytest.raises(ValueError, match=f"(?s)^`key` .* does not fit the arguments: .*({why})"):
        job(3)
    assert store.list() == []


@attrs.frozen
class Tenant:
    name: str


@pytest.mark.parametrize("name", ["ü💥", "a\nb", "a\x00b", " ", "{x}"])
def test_a_key_may_be_any_text(runner, url, name):
    async def body(cp, tenant):
        return cp.key

    job = runner.job(body, store=url, key="{tenant.name}-{tenant.name!r:>12}")
    assert job(Tenant(name)) == f"{name}-{name!r:>12}"
    assert job(Tenant(name)) == f"{name}-{name!r:>12}"


def test_text_that_no_store_can_keep_is_refused_before_anything_runs(runner, tmp_path):
    async def body(cp, path):
        raise AssertionError("never called")

    store = SQLiteStore(tmp_path / "runs.db")
    with pytest.raises(ValueError, match=r"`key` .* cannot be written as UTF-8; use ascii\(\)"):
        runner.job(body, store=store, key="{path}")(LONE)
    with pytest.raises(ValueError, match=r"`key` .* cannot be written as UTF-8"):
        checkpoint_run(LONE, store=store)


def test_a_step_with_a_name_that_no_store_can_keep_is_refused(runner, store):
    async def body(cp):
        await cp.step(LONE, lambda: 1)

    with pytest.raises(ValueError, match=r"`name` of a step .* cannot be written as UTF-8"):
        runner.job(body, store=store)()


@attrs.frozen
class Importer:
    tenant: str

    def rows(self, cp, day=1):
        return cp.key

    def all(self, cp):
        return cp.key


def test_a_template_may_name_the_instance(store):
    rows = checkpointed(store=store, key="{self.tenant}-{day}")(Importer.rows)
    assert [rows(Importer(tenant), day=2) for tenant in "ab"] == ["a-2", "b-2"]
    everything = checkpointed(store=store, key="all-{self.tenant}")(Importer.all)
    assert everything(Importer("a")) == "all-a"
    with pytest.raises(ValueError, match="names 'cls', which is not a parameter"):
        checkpointed(store=store, key="{cls.tenant}-{day}")(Importer.rows)


def test_without_a_template_the_instance_makes_no_other_run(store):
    rows = checkpointed(store=store)(Importer.rows)
    assert rows(Importer("a")) == rows(Importer("b"), 1) != rows(Importer("a"), 2)
    by_function = checkpointed(store=store, key=lambda day: f"day-{day}")(Importer.rows)
    assert by_function(Importer("a"), 3) == "day-3"


# Values that have the text between the fields in them.


def key_of(template, **values):
    names = ", ".join(values)
    fn = eval(f"lambda cp, {names}: cp.key")  # noqa: S307 - its parameters are what is tested
    return checkpointed(store=MemoryStore(), key=template).call(fn, **values)


TWO_FIELDS = {
    "{a}-{b}": [("a-b", "c"), ("a", "b-c")],
    "{a}--{b}": [("a-", "b"), ("a", "-b")],
    "{a}{b}": [("ab", "c"), ("a", "bc")],
    "{a}:{{{b}}}": [("a:{b", "c"), ("a", "b}:{c")],
    "x{a}/{b}/y": [("a/b", "c"), ("a", "b/c")],
    "{a!r}, {b}": [("a', 'b", "c"), ("a", "'b', c")],
    "{a:>3}-{b}": [("-b", "c"), ("", "b-c")],
}


@pytest.mark.parametrize(("template", "calls"), TWO_FIELDS.items())
def test_no_two_calls_have_one_key(template, calls):
    assert len({key_of(template, a=a, b=b) for a, b in calls}) == 2


@pytest.mark.parametrize(
    ("template", "values", "key"),
    [
        ("{a}-{b}", {"a": "acme", "b": "2024-05-01"}, "acme-2024-05-01"),
        ("{a}-{b}", {"a": "x_y.z", "b": ""}, "x_y.z-"),
        ("import-{a}", {"a": "a-b"}, "import-a-b"),
        ("{a}-{b}-{c}", {"a": 1, "b": 2, "c": "3-4"}, "1-2-3-4"),
        ("{a}-{b}", {"a": "~", "b": "c"}, "~-c"),
        ("{a}-{b}", {"a": "a-b", "b": "c-d"}, "~3~a-b-c-d"),
        ("{a}-{b}_{c}", {"a": "a_b", "b": "c-d", "c": "e"}, "a_b-c-d_e"),
        ("{a}", {"a": 1}, "1"),
        ("{a}", {"a": "1"}, "1"),
        ("{a!r}", {"a": "1"}, "'1'"),
    ],
)
def test_all_other_keys_are_what_they_were(template, values, key):
    assert key_of(template, **values) == key


TEXTS = st.text("~-3a", max_size=5)


@given(st.sampled_from(["{a}-{b}", "{a}--{b}-{c}", "{a}~{b}-{c}", "{a}{b}"]),
       st.tuples(TEXTS, TEXTS, TEXTS), st.tuples(TEXTS, TEXTS, TEXTS))  # fmt: skip
def test_calls_with_one_key_have_the_same_arguments(template, one, other):
    names = [name for name in "abc" if f"{{{name}}}" in template]
    keys = []
    for values in (one, other):
        given_values = dict(zip(names, values, strict=False))
        text = template.format(**given_values)
        if not text:
            return
        keys.append((key_of(template, **given_values), given_values))
    assert (keys[0][0] == keys[1][0]) == (keys[0][1] == keys[1][1])


def tenants(runner, store, **options):
    async def body(cp, tenant, day):
        done = cp.state([])
        async for _ in cp.iterate([1, 2]):
            done.append((tenant, day))
        return done[0]

    return runner.job(body, store=store, key="{tenant}-{day}", **options)


@pytest.mark.parametrize("first", [("a-b", "c"), ("a", "b-c")])
def test_nobody_gets_the_result_of_another_tenant(runner, store, caplog, first):
    job = tenants(runner, store)
    calls = [first, ("a-b", "c"), ("a", "b-c"), ("a-b", "c")]
    assert [job(*call) for call in calls] == calls
    assert "stored under" not in caplog.text


def begun_by_an_earlier_version(store, fail):
    """What a version left under its key that did not quote."""

    def work(cp):
        done = cp.state([])
        for row in cp.iterate([1, 2]):
            if row == 2 and fail:
                raise OopsError
            done.append(("a-b", "c"))
        return done[0]

    with contextlib.suppress(OopsError):
        checkpointed(store=store, name="job", key=lambda: "a-b-c").call(work)


@pytest.mark.parametrize("fail", [False, True])
def test_a_run_under_the_key_of_an_earlier_version_is_gone_on_with_and_named(
    runner, store, caplog, fail
):
    begun_by_an_earlier_version(store, fail)
    for _ in range(2):
        assert tenants(runner, store, on_code_change="ignore")("a-b", "c") == ("a-b", "c")
    assert [record.run.key for record, _ in store.list()] == ["a-b-c"]
    [_, record] = [each for each in caplog.records if "stored under" in each.message]
    assert record.levelno == logging.WARNING
    assert "'a-b-c'" in record.message
    assert "'~3~a-b-c'" in record.message


def test_a_run_that_is_begun_again_gets_the_key_of_today(runner, store):
    begun_by_an_earlier_version(store, fail=False)
    job = tenants(runner, store, on_complete="rerun")
    for _ in range(2):
        assert job("a-b", "c") == ("a-b", "c")
    assert sorted(record.run.key for record, _ in store.list()) == ["a-b-c", "~3~a-b-c"]
