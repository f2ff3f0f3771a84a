"""What a URL may name, and what of it is refused when the store is made."""

import re
from datetime import timedelta

import pytest

from mainstay import checkpoint_run, checkpointed
from mainstay.stores import PostgresStore, RedisStore, S3Store, SQLiteStore, store_of

REFUSED = [
    "sqlite:///jobs.db?mode=ro",
    "sqlite:///jobs.db?mode=",
    "sqlite:///jobs.db?mode=0o660",
    "sqlite:///jobs.db?mode=66",
    "sqlite:///jobs.db?mode=066000",
    "sqlite:///jobs.db?mode=0689",
    "sqlite:///jobs.db?mode=0660&mode=0600",
    "sqlite:///jobs.db?MODE=0660",
    "sqlite:///jobs.db?cache=shared",
    "sqlite:///jobs.db?immutable=1",
    "sqlite:///jobs.db?",
    "sqlite:///?mode=0660",
    "sqlite:///jobs.db#runs",
    "sqlite:///jobs.db#",
    "sqlite:///jobs.db?mode=0660#runs",
    "sqlite:///jobs#1.db?mode=0660",
    "sqlite:///jobs\0.db",
    "sqlite:///jobs%00.db",
    "sqlite:///jobs.db%00",
    "sqlite:///jobs\ud800.db",
    "sqlite:///jobs\udcff.db",
    "sqlite:///jobs%ED%A0%80.db",
    "sqlite:///jobs%FF.db",
    "memory://jobs#runs",
    "memory://jobs?mode=0660",
    "memory://jobs\0",
    "memory://jobs\n",
    "sqlite:///jobs.db\n",
    "sqlite:///jobs.db\r\n",
    "sqlite:///jobs\x1b[31m.db",
    "memory://jobs\ud800",
    "SQLITE:///jobs.db",
    " sqlite:///jobs.db",
]


@pytest.mark.parametrize("url", REFUSED, ids=ascii)
@pytest.mark.parametrize(
    "use",
    [
        store_of,
        lambda url: checkpoint_run("key", store=url),
        lambda url: checkpointed(store=url),
    ],
    ids=["store_of", "checkpoint_run", "checkpointed"],
)
def test_a_url_is_refused_by_what_is_allowed(url, use):
    with pytest.raises(ValueError, match="`store` must be a URL such as") as refused:
        use(url)
    message = str(refused.value)
    assert repr(url) in message
    assert "?mode=0660" in message
    message.encode()


def test_a_url_of_the_environment_is_refused_like_any_other(monkeypatch):
    monkeypatch.setenv("MAINSTAY_STORE", "sqlite:///jobs.db?mode=ro")
    with pytest.raises(ValueError, match="`store` must be a URL such as"):
        store_of()


@pytest.mark.parametrize("mode", ["0777", "0440", "0000"])
def test_a_mode_out_of_range_is_refused_in_a_url(mode):
    with pytest.raises(ValueError, match="`mode` must be from 0o600 to 0o666"):
        store_of(f"sqlite:///jobs.db?mode={mode}")


@pytest.mark.parametrize(
    ("kind", "url", "wrong"),
    [
        (RedisStore, "redis:/db", "it begins otherwise"),
        (RedisStore, "redis://db/jobs", "the database behind the host is no number"),
        (RedisStore, "redis://db/0#1", "it has a #"),
        (RedisStore, "redis://db/0?db=1", "it has an option that is not known"),
        (RedisStore, "redis://db/0?durability=never", "durability= is neither"),
        (RedisStore, "rediss://db/0?ssl_keyfile=a", "ssl_certfile= is missing"),
        (RedisStore, "redis://a,b/0", "the host is missing or cannot be"),
        (S3Store, "s3:/bucket", "it begins otherwise"),
        (S3Store, "s3://bucket/a#b", "it has a #"),
        (S3Store, "s3://bucket/a?acl=b", "it has an option that is not known"),
        (S3Store, "s3://b/jobs", "the bucket is missing or cannot be"),
        (S3Store, "s3://bucket/a//b", "the prefix has another sign, or a part that is empty"),
        (S3Store, "s3://bucket/a?endpoint=host:9000", "endpoint= has no host"),
        (S3Store, "s3://bucket/a?region=eu_1", "region= cannot be"),
        (S3Store, "s3://key@bucket", "the key or the secret before the bucket is missing"),
        (PostgresStore, "postgresql:/db", "it begins otherwise"),
        (PostgresStore, "postgresql://db/jobs?ssl=on", "libpq does not know an option"),
        (PostgresStore, "postgresql://db:0/jobs", "a port is no number from 1 to 65535"),
    ],
)
def test_what_is_wrong_in_a_url_is_named_and_not_shown(kind, url, wrong):
    with pytest.raises(ValueError, match=f"`url` must be such as .*; here {re.escape(wrong)}") as e:
        kind(url)
    assert e.value.__cause__ is None
    assert e.value.__context__ is None


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (PostgresStore, "postgresql://db/jobs"),
        (RedisStore, "redis://db/0"),
        (S3Store, "s3://bucket/jobs"),
    ],
)
def test_a_limit_of_time_is_a_duration_as_everywhere(kind, url):
    """Known fault: a `timedelta` was refused."""
    assert kind(url, timeout=timedelta(milliseconds=1500))._timeout == 1.5
    with pytest.raises(ValueError, match="`timeout` must be finite and above 0 seconds"):
        kind(url, timeout=timedelta(0))


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///a%3Fb.db", "a?b.db"),
        ("sqlite:///a%23b.db", "a#b.db"),
        ("sqlite:///donn%C3%A9es.db", "données.db"),
        ("sqlite:///données.db", "données.db"),
        ("sqlite:///100%.db", "100%.db"),
        ("sqlite:////var/lib/a%20b.db?mode=660", "/var/lib/a b.db"),
    ],
)
def test_a_name_of_a_file_may_have_any_letter(url, path):
    assert repr(store_of(url)) == f"SQLiteStore({path!r})"


@pytest.mark.parametrize("path", ["a\0b.db", "\0", "a\ud800.db"], ids=ascii)
def test_a_path_that_no_url_could_name_is_refused(path):
    with pytest.raises(ValueError, match="`path` must be text without NUL") as refused:
        SQLiteStore(path)
    str(refused.value).encode()
