"""The URLs of stores on servers: which are refused, and that no secret in them is shown."""

import builtins

import pytest

from mainstay.stores import PostgresStore, RedisStore, S3Store, store_of
from support.server_stores import SECRET, SHOWN

SOUND = {PostgresStore: "postgresql://db/jobs", RedisStore: "redis://db/0", S3Store: "s3://bucket"}
CLIENTS = {
    PostgresStore: ("psycopg", "postgres"),
    RedisStore: ("redis", "redis"),
    S3Store: ("obstore", "s3"),
}
"""What each needs, and which extra brings it."""
WRONG = {
    PostgresStore: [
        f"postgresql://app:{SECRET}@db/jobs?unknown={SECRET}",
        f"postgresql://app:{SECRET}%zz@db/jobs",
        f"postgresql://app:{SECRET}@db/jobs%00",
        f"postgresql://app:{SECRET}@db/jobs ",
        f"postgresql://app:{SECRET}@db:0/jobs",
        f"postgresql://app:{SECRET}@db:65536/jobs",
        f"postgresql://app:{SECRET}@db:name/jobs",
        f"postgresql://app:{SECRET}@db1:5432,db2:x/jobs",
        f"postgresql://app:{SECRET}@db1,db2/jobs?port=1,2,3",
        f"mysql://app:{SECRET}@db/jobs",
        "postgresql-cluster://db",
        "",
    ],
    RedisStore: [
        f"redis://app:{SECRET}@db/0?unknown={SECRET}",
        f"redis://app:{SECRET}@db/0?ssl_keyfile=x",
        f"redis://app:{SECRET}@db/0?durability=never",
        f"redis://app:{SECRET}@db/0?durability",
        f"redis://app:{SECRET}@db/name",
        f"redis://app:{SECRET}@db:port/0",
        f"redis://app:{SECRET}@db:99999/0",
        f"redis://app:{SECRET}@db/0 ",
        f"redis://app:{SECRET}@/0",
        f"redis://app:{SECRET}@db/0#x",
        f"redis://[{SECRET}/0",
        f"redis://app:{SECRET}@db:0/0",
        f"redis://app:{SECRET}@db1,db2/0",
        f"redis://app:{SECRET}@db..local/0",
        f"redis://app:{SECRET}@{'d' * 64}/0",
        f"rediss://app:{SECRET}@db/0?ssl_keyfile=key.pem",
        "http://db",
        "redis-cluster://db",
        "",
    ],
    S3Store: [
        f"s3://app:{SECRET}@bucket/jobs?unknown={SECRET}",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=ftp://{SECRET}",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://app:{SECRET}@host",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://host:65536",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://host:name",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://host:0",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://[::1",
        f"s3://app:{SECRET}@bucket/jobs?endpoint=http://:9000",
        f"s3://app:{SECRET}@bucket/jobs?region={SECRET}/",
        f"s3://app:{SECRET}@bucket/jobs?region",
        f"s3://app:{SECRET}@bucket/../jobs",
        f"s3://app:{SECRET}@bucket/a//b",
        f"s3://app:{SECRET}@bucket/a b",
        f"s3://app:{SECRET}@bucket/%00",
        f"s3://app:{SECRET}@bucket/jobs#x",
        f"s3://app:{SECRET}@/jobs",
        f"s3://{SECRET}@bucket/jobs",
        f"s3://:{SECRET}@bucket/jobs",
        "s3://app:@bucket/jobs",
        "s3://b/jobs",
        "s3:///jobs",
        f"s3://app:{SECRET}@[bucket/jobs",
        "http://bucket/jobs",
        "s3:/bucket",
        "",
    ],
}

every_kind = pytest.mark.parametrize("kind", SOUND)


@pytest.mark.parametrize(
    ("kind", "url"), [(kind, url) for kind, urls in WRONG.items() for url in urls], ids=ascii
)
def test_a_url_that_is_wrong_is_refused_without_what_is_in_it(kind, url):
    scheme = SOUND[kind].partition("://")[0]
    with pytest.raises(ValueError, match=f"`url` must be such as {scheme}://") as error:
        kind(url)
    assert error.value.__cause__ is error.value.__context__ is None
    with pytest.raises(ValueError, match="must be") as found:
        store_of(url)
    for secret in SHOWN:
        assert secret not in f"{error.value} {found.value}"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgres://app:{SECRET}@db1:1,db2/my%20jobs?sslmode=disable&prepare=no&schema=a%22b",
         "postgresql://app@db1:1,db2/my%20jobs?schema=a%22b"),
        (f"redis://app:{SECRET}@db", "redis://app@db:6379/0"),
        (f"redis://:{SECRET}@db:1/3", "redis://db:1/3"),
        ("redis://a%40b@[::1]/0?durability=everysec",
         "redis://a%40b@[::1]:6379/0?durability=everysec"),
        (f"rediss://app:{SECRET}@db/0?ssl_ca_certs=/etc/ca.pem", "rediss://app@db:6379/0"),
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("s3://bucket/a/b/", "s3://bucket/a/b"),
        (f"s3://app%2B:{SECRET}@bucket/a", "s3://app%2B@bucket/a"),
        (f"s3://app:{SECRET}@bucket/a?region=eu-west-1&endpoint=https://h:9000/",
         "s3://app@bucket/a?endpoint=https://h:9000/&region=eu-west-1"),
        ("s3://bucket?endpoint=http%3A%2F%2F%5B%3A%3A1%5D%3A9000",
         "s3://bucket?endpoint=http://[::1]:9000"),
    ],
)  # fmt: skip
def test_a_url_is_shown_without_secrets_and_files(url, shown):
    store = store_of(url)
    assert store.url == shown
    assert repr(store) == f"{type(store).__name__}({shown!r})"
    for secret in SHOWN:
        assert secret not in "".join(map(repr, vars(store).values()))
    assert store_of(url) is store


@every_kind
def test_a_url_that_is_no_text_is_refused(kind):
    with pytest.raises(TypeError, match="`url` must be a str"):
        kind(SOUND[kind].encode())


@every_kind
@pytest.mark.parametrize(
    ("timeout", "error"),
    [(0, ValueError), (float("inf"), ValueError), (-1.0, ValueError), ("1", TypeError),
     (True, TypeError)],
)  # fmt: skip
def test_a_timeout_out_of_its_range_is_refused(kind, timeout, error):
    with pytest.raises(error, match="`timeout` must"):
        kind(SOUND[kind], timeout=timeout)


@every_kind
def test_without_the_client_the_extra_is_named(kind, monkeypatch):
    client, extra = CLIENTS[kind]
    imported = builtins.__import__

    def without(name, *args, **options):
        if name.partition(".")[0] == client:
            raise ImportError(name)
        return imported(name, *args, **options)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=rf"pip install 'mainstay\[{extra}\]'"):
        kind(SOUND[kind])
