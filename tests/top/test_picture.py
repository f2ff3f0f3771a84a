"""The picture in the docs shows what there is."""

import importlib.util
import sys
import xml.etree.ElementTree as ET

import pytest

from support.source import ROOT

PICTURE = (ROOT / "docs" / "_static" / "top.svg").read_text()


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("top", ROOT / "docs" / "_pictures" / "top.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(sys.version_info[:2] != (3, 11), reason="each Python reads code as it does")
def test_the_picture_is_not_older_than_what_it_shows(script):
    shown = f"<!-- shows {script.digest()} -->"
    assert shown in PICTURE, "take the picture again: python docs/_pictures/top.py"


def test_comments_and_docstrings_make_no_picture_old(script, monkeypatch, tmp_path):
    digests = set()
    for number, code in enumerate(['"""One."""\nx = 1', '"""Two."""\nx = 1  # as said', "x = 2"]):
        path = tmp_path / f"{number}.py"
        path.write_text(code)
        monkeypatch.setattr(script, "SHOWS", (path,))
        digests.add(script.digest())
    assert len(digests) == 2


def test_the_picture_is_an_image_with_text_that_needs_nothing_from_elsewhere():
    root = ET.fromstring(PICTURE)  # noqa: S314 - our own
    texts = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert any("degraded" in text or "failing" in text for text in texts)
    assert PICTURE.replace("http://www.w3.org/2000/svg", "").count("http") == 0
