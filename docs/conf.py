"""The documentation site, from the pages in this folder, the docstrings and the commands: `make docs`."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx

import slim

sys.path.insert(0, str(Path(__file__).parent))
import draw_reference

project = "SLIM"
author = "The SLIM founders"
copyright = "The SLIM founders. MIT licence"
version = release = slim.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
    "sphinx_design",
]
exclude_patterns = ["_build", "**.ipynb_checkpoints"]
suppress_warnings = ["ref.python"]  # a word in backticks may name an attribute of several records
smartquotes_action = "qe"  # two hyphens begin an option
default_role = "py:obj"

myst_enable_extensions = ["colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # they take minutes, and the tests run them

autosummary_generate = False
autodoc_default_options = {"members": True, "show-inheritance": True}
autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented_params"
napoleon_google_docstring = False
napoleon_use_ivar = True

html_math_renderer = "mathml"
html_theme = "furo"
html_title = f"SLIM {release}"
html_theme_options = {"navigation_with_keys": True}
html_copy_source = False
html_show_sphinx = False

DOCS = Path(__file__).parent
html_extra_path = [path.name for path in DOCS.glob("*.html")]
"""Whole pages, such as a report, which are copied as they are."""
OUTSIDE = {name: f"{Path(name).stem.lower()}.md" for name in ("SECURITY.md", "CONTRIBUTING.md", "CHANGELOG.md")}
"""Pages above this folder, and the pages of the site that include them."""
PLACES = {"index": "*.md", "tutorials": "tutorials/*.ipynb"}
"""Pages with a list that is filled in, and the files that belong there unless the page names them already."""


def fill_in(app: Sphinx, page: str, source: list[str]) -> None:
    """List pages that are named nowhere, and lead links to where the site has what they mean."""
    if page in PLACES:
        found = sorted(path.relative_to(DOCS).with_suffix("").as_posix() for path in DOCS.glob(PLACES[page]))
        named = {page, *source[0].splitlines()}
        source[0] = source[0].replace("<!-- all others -->", "\n".join(name for name in found if name not in named))
    for outside, inside in OUTSIDE.items():
        source[0] = source[0].replace(f"](../{outside}", f"]({inside}")
    # As a link of Markdown, an HTML file would be offered for download.
    source[0] = re.sub(r"\[([^\]]+)\]\(([\w-]+\.html)\)", r'<a href="\2">\1</a>', source[0])


def inline_formula(writer: Any, node: nodes.math) -> None:
    """Write a formula as MathML, which browsers show without a script from elsewhere."""
    writer.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def displayed_formula(writer: Any, node: nodes.math_block) -> None:
    """Write a formula in a line of its own, which scrolls by itself where it is too wide."""
    writer.body.append(f'<div style="overflow-x: auto">{tex2mathml(node.astext(), as_block=True)}</div>')
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Connect what is done before and while pages are read, and how formulas are written."""
    app.connect("builder-inited", lambda app: draw_reference.write())
    app.connect("source-read", fill_in)
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
