"""The settings of the documentation's site, for Sphinx: `nox -s docs` builds it.

Owns which files are pages, and how the site looks. `pages.py` makes pages of these files.
Never knows a page: each is a Markdown file that a forge shows as it is.
"""

from __future__ import annotations

import sys
from importlib.metadata import version as version_of
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

project = "Trivet"
author = "The Trivet developers"
version = release = version_of("trivet")

extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "pages"]

# The root of the repository is the site's, so that the links of the files hold here, too.
root_doc = "README"
include_patterns = [
    "*.md",
    "docs/**.md",
    "plugins/README.md",
    "contrib/trivet_contrib/*/README.md",
]
exclude_patterns = [".*", "**/.*", "build", "dist", "runtime", "tests"]

myst_heading_anchors = 4
default_role = "py:obj"
highlight_language = "text"

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
napoleon_numpy_docstring = False
napoleon_custom_sections = [("Args of the class statement", "params_style")]
python_use_unqualified_type_names = True

html_theme = "furo"
html_title = "Trivet"
html_copy_source = False
html_show_sphinx = False
