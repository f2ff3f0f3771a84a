"""Keys of runs: what a template may say, and what text a key or the name of a step may be."""

import attrs
import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay.stores import SQLiteStore

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
