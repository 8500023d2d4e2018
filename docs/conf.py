"""How the documentation is built: ``tox -e docs``, with warnings as errors."""

from __future__ import annotations

project = "Pannier"
copyright = "The Pannier developers"
html_theme = "furo"
html_title = "Pannier"
extensions = ["myst_parser", "sphinx.ext.autodoc"]
source_suffix = {".md": "markdown"}
python_use_unqualified_type_names = True

# Every name of ours that a page refers to must have its place; those of others have none here.
nitpicky = True
nitpick_ignore_regex = [
    ("py:.*", r"(?!pannier\.).*"),
    ("py:.*", r"pannier\.[\w.]*\.[A-Z]"),  # a type variable
]

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_default_options = {"members": True, "show-inheritance": True}
