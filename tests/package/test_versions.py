"""The documentation of several versions side by side."""

import importlib.util
import json

import pytest

from support.source import ROOT


@pytest.fixture(scope="module")
def versions():
    path = ROOT / "docs" / "versions.py"
    spec = importlib.util.spec_from_file_location("versions", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_newest_version_comes_first_and_what_is_no_number_last(versions):
    names = ["dev", "0.9.0", "0.10.0", "0.10", "1.0.0"]
    assert versions.in_order(names) == ["1.0.0", "0.10.0", "0.10", "0.9.0", "dev"]


def test_a_site_lists_what_was_built_and_leads_to_the_newest(versions, tmp_path):
    for name in ("0.9.0", "0.10.0", "dev"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "index.html").write_text("")
    (tmp_path / "no-version").mkdir()
    assert versions.list_versions(tmp_path) == ["0.10.0", "0.9.0", "dev"]
    assert json.loads((tmp_path / "versions.json").read_text()) == ["0.10.0", "0.9.0", "dev"]
    assert 'url=0.10.0/"' in (tmp_path / "index.html").read_text()


def test_every_page_has_a_place_for_the_selector():
    sidebar = (ROOT / "docs" / "_templates" / "sidebar" / "versions.html").read_text()
    assert "versions.json" in sidebar
    assert '"sidebar/versions.html"' in (ROOT / "docs" / "conf.py").read_text()


def test_names_that_leave_the_site_are_refused(versions, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["versions.py", "site", "--name", "../elsewhere"])
    with pytest.raises(SystemExit):
        versions.main()
    assert "must be letters, digits and dots, not '../elsewhere'" in capsys.readouterr().err
