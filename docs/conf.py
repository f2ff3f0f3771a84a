"""How the documentation is built: `sphinx-build -n -W --keep-going docs docs/_build`."""

import re
import sys
from importlib.metadata import version as version_of
from pathlib import Path

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

sys.path.append(str(Path(__file__).parent / "_extensions"))

project = "mainstay"
author = "The mainstay authors"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = version_of("mainstay")

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "attribute_types",
    "tour",
]
exclude_patterns = ["_build"]
templates_path = ["_templates"]
html_theme = "furo"
html_sidebars = {
    "**": [
        "sidebar/brand.html",
        "sidebar/versions.html",  # ours: `versions.py` writes what it lists
        "sidebar/search.html",
        "sidebar/scroll-start.html",
        "sidebar/navigation.html",
        "sidebar/scroll-end.html",
    ]
}
html_static_path = ["_static"]
html_css_files = ["tables.css"]
html_title = f"mainstay {release}"

default_role = "code"  # `name` in docstrings is code, as it is in Markdown
add_module_names = False
myst_enable_extensions = ["deflist"]
myst_heading_anchors = 3

# Types of other libraries have no page here, and of ours those that users never name.
nitpick_ignore_regex = [("py:class", r"(?!mainstay\.).*"), ("py:class", r"mainstay\.(.*\.)?_.*")]
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
maximum_signature_line_length = 80
autodoc_member_order = "bysource"
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
napoleon_custom_sections = ["Metrics", "Source"]


def name_defaults(*arguments: object) -> tuple[object, object]:
    """Show defaults by their names, not by their `repr`."""
    *_, signature, returns = arguments
    if isinstance(signature, str):
        signature = re.sub(r"<\S+CollectorRegistry object[^>]*>", "REGISTRY", signature)
        signature = re.sub(r"<object object at [^>]*>", "...", signature)
        signature = re.sub(r"<class '(\w+)'>", r"\1", signature)
        signature = re.sub(r"(\*+)(args|kwargs): ~typing\.~P\b", r"\1\2: P.\2", signature)
        signature = re.sub(r"~+([\w.]+\.)?([A-Z])\b(?!\.)", r"\2", signature)
    return signature, returns


def shorten_overloads(_app: Sphinx, page: nodes.document) -> None:
    """Show the types of overloads as those of other signatures, which Sphinx cannot parse."""
    for signature in page.findall(addnodes.desc_signature):
        for text in [text for text in signature.findall(nodes.Text) if "~" in text]:
            short = text.replace("~typing.~P", "P")
            short = re.sub(r"~?(?:\w+\.)*(\w+)", r"\1", short).replace("~", "")
            short = re.sub(r"(\*+)(args|kwargs): P\b", r"\1\2: P.\2", short)
            text.parent.replace(text, nodes.Text(short))


def setup(app: Sphinx) -> None:
    """Connect the hooks above."""
    app.connect("autodoc-process-signature", name_defaults)
    app.connect("doctree-read", shorten_overloads)
