"""Who may read and write the files of a store."""

import os
import stat

import pytest

from mainstay import checkpoint_run
from mainstay.stores import SQLiteStore, store_of


@pytest.fixture(params=[0o022, 0o077, 0o000], ids=oct)
def umask(request):
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def modes(path):
    return {
        each.name: stat.S_IMODE(each.stat().st_mode)
        for each in path.parent.iterdir()
        if not each.is_symlink()
    }


def use(store):
    with checkpoint_run("key", store=store) as cp:
        for _ in cp.iterate("ab"):
            pass


def test_a_new_file_is_for_its_owner_alone(tmp_path, umask):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path)
    use(store)
    assert modes(path) == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
    store.close()
    use(store)
    assert modes(path) == {"runs.db": 0o600, "runs.db-wal": 0o600, "runs.db-shm": 0o600}
    store.close()


@pytest.mark.parametrize("mode", [0o660, 0o640, 0o644, 0o666, 0o600])
def test_a_new_file_has_the_mode_that_was_asked_for_whatever_the_umask(tmp_path, umask, mode):
    path = tmp_path / "runs.db"
    store = SQLiteStore(path, mode=mode)
    use(store)
    assert modes(path) == {"runs.db": mode, "runs.db-wal": mode, "runs.db-shm": mode}
    store.close()


def test_a_url_may_say_the_mode(tmp_path, umask):
    store = store_of(f"sqlite:///{tmp_path}/runs.db?mode=0660")
    use(store)
    assert store.url == f"sqlite:///{tmp_path}/runs.db"
    assert set(modes(tmp_path / "runs.db").values()) == {0o660}
    store.close()


@pytest.mark.parametrize("empty", [True, False])
def test_a_file_that_is_there_keeps_its_mode_and_what_is_beside_it_follows(tmp_path, umask, empty):
    path = tmp_path / "runs.db"
    if empty:
        path.touch()
    else:
        store = SQLiteStore(path)
        use(store)
        store.close()
    path.chmod(0o640)
    store = SQLiteStore(path, mode=0o660)
    use(store)
    assert modes(path) == {"runs.db": 0o640, "runs.db-wal": 0o640, "runs.db-shm": 0o640}
    store.close()


def test_a_file_behind_a_link_is_for_its_owner_alone_too(tmp_path, umask):
    (tmp_path / "link.db").symlink_to(tmp_path / "runs.db")
    store = SQLiteStore(tmp_path / "link.db")
    use(store)
    assert set(modes(tmp_path / "runs.db").values()) == {0o600}
    store.close()


@pytest.mark.parametrize("mode", [0, 0o440, 0o400, 0o060, 0o777, 0o700, 0o1600, 0o4600, -1, 10**30])
def test_a_mode_that_its_owner_cannot_use_or_that_is_none_is_refused(tmp_path, mode):
    with pytest.raises(ValueError, match="`mode` must be from 0o600 to 0o666") as refused:
        SQLiteStore(tmp_path / "runs.db", mode=mode)
    assert str(refused.value).endswith(oct(mode))


@pytest.mark.parametrize("mode", ["0660", None, 0o600 + 0.0, True])
def test_a_mode_is_a_number(tmp_path, mode):
    with pytest.raises(TypeError, match="`mode` must be an int") as refused:
        SQLiteStore(tmp_path / "runs.db", mode=mode)
    assert repr(mode) in str(refused.value)
