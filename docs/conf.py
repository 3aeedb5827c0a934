"""Sphinx settings of the documentation site, which `make docs` builds.

The source folder is the repository, so that links between pages work in a checkout and on the site.
"""

import re
from pathlib import Path
from typing import Any

from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.transforms.post_transforms import SphinxPostTransform

from ugs_jax import __version__

ROOT = Path(__file__).parents[1]

project = "ugs_jax"
author = "The ugs_jax authors"
version = release = __version__
root_doc = "docs/index"
include_patterns = ["README.md", "CHANGELOG.md", "CONTRIBUTING.md", "docs/**", "experiments/results/*.md"]
exclude_patterns = ["docs/_build"]
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.mathjax", "sphinx.ext.napoleon", "sphinx.ext.viewcode"]

nb_execution_mode = "off"  # the tests run every snippet and the notebook
myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 4

default_role = "literal"
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": False}
python_maximum_signature_line_length = 90
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_attr_annotations = False  # annotations such as "*batch 4" are no reStructuredText

html_theme = "pydata_sphinx_theme"
html_title = "ugs_jax"
html_show_sphinx = False
html_theme_options = {"navigation_depth": 2, "show_prev_next": False, "secondary_sidebar_items": ["page-toc"]}


class FoldersArePlainText(SphinxPostTransform):
    """Replace links to folders of the repository, which have no page, by their text."""

    default_priority = 8  # before MyST resolves links

    def run(self, **_: object) -> None:
        """Replace the links of one page."""
        page = ROOT / self.env.docname
        for link in list(self.document.findall(pending_xref)):
            if (page.parent / str(link["reftarget"])).is_dir():
                link.replace_self(link.children)


def escape(_app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]) -> None:
    """Escape `|` and `*` of a docstring in place. They are mathematics or shapes, except in code."""
    code = False
    for i, line in enumerate(lines):
        code = line.strip().startswith(">>>") or (code and bool(line.strip()))
        if not code:
            parts = re.split(r"(`[^`]*`)", line)
            lines[i] = "".join(part if part.startswith("`") else re.sub(r"[|*]", r"\\\g<0>", part) for part in parts)


def setup(app: Sphinx) -> None:
    """Register the functions above."""
    app.add_post_transform(FoldersArePlainText)
    app.connect("autodoc-process-docstring", escape, priority=400)  # before napoleon
