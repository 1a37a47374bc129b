"""How Sphinx builds the handbook; `make docs` assembles its sources first (make_site.py)."""

from __future__ import annotations

import inspect
import re
import sys
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx.addnodes import pending_xref
from sphinx.application import Sphinx
from sphinx.util.nodes import make_refnode

import prefsim
from prefsim.papers.sabotage import resolve

# What writes the pages lies beside this file.
sys.path.insert(0, str(Path(__file__).resolve().parent))
import make_papers
import make_reference

project = "prefsim"
author = "The prefsim developers"
project_copyright = "the prefsim developers, MIT licence"
version = release = prefsim.__version__

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx-mathjax-offline",  # formulas are typeset without a network
    "sphinx.ext.viewcode",
    "numpydoc",
    "sphinx_design",
    "sphinx_copybutton",
    "sphinx_gallery.gen_gallery",
]
source_suffix = {".rst": "restructuredtext", ".md": "myst-nb", ".ipynb": "myst-nb"}
myst_enable_extensions = ["dollarmath", "colon_fence", "deflist"]
myst_heading_anchors = 3

# The notebooks are run once and kept beside the pages; what they print is what they print here.
nb_execution_mode = "cache"
nb_execution_timeout = 600
nb_execution_raise_on_error = True
nb_merge_streams = True

# What the gallery keeps beside its pages is no page.
exclude_patterns = [f"gallery/*.{kind}" for kind in ("ipynb", "py", "zip", "json", "md5")]
sphinx_gallery_conf = {
    "examples_dirs": str(Path(__file__).resolve().parents[1] / "examples" / "gallery"),
    "gallery_dirs": "gallery",
    "filename_pattern": "plot_",
    "show_memory": False,
    "min_reported_time": 3600,
    "write_computation_times": False,
    "download_all_examples": False,
}

html_theme = "furo"
html_title = "prefsim"
html_static_path = ["_static"]
html_css_files = ["handbook.css"]
html_js_files = ["sortable.js"]
html_show_sourcelink = False
html_theme_options = {"navigation_with_keys": True}

autodoc_member_order = "bysource"
# Annotations are strings in the source, and are shown as they are written there.
autodoc_preserve_defaults = True
autodoc_typehints = "none"
numpydoc_show_class_members = False
numpydoc_xref_param_type = False
add_module_names = False
copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True


IMPLEMENTED = make_papers.implemented()


def say_who_uses_it(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Add the papers that a function implements to its text."""
    papers = IMPLEMENTED.get(make_reference.documented_as(value))
    if papers:
        said = ", ".join(f":doc:`{slug} </papers/{family}/{slug}>`" for family, slug in papers)
        lines += ["", f"**Papers:** {said}", ""]


def plain_heads(
    app: Sphinx, what: str, name: str, value: Any, options: Any, lines: list[str]
) -> None:
    """Make the sections of a module's text plain lines: the page has sections of its own."""
    if what == "module":
        for k in reversed(range(1, len(lines))):
            if re.fullmatch(r"-{3,}", lines[k]):
                lines[k - 1 : k + 1] = [f"**{lines[k - 1].strip()}**", ""]


def leave_out_fields(
    app: Sphinx, what: str, name: str, value: Any, skip: bool, options: Any
) -> bool | None:
    """Leave out the fields of named tuples: the text of the class says what they are."""
    said = inspect.getdoc(value) or ""
    return True if said.startswith("Alias for field number") else None


def find_where_it_is_written(
    app: Sphinx, env: Any, node: pending_xref, contnode: nodes.Element
) -> nodes.Element | None:
    """Lead a name of a room's face, or of this module, to the module that it is written in."""
    if node.get("refdomain") != "py":
        return None
    target = node["reftarget"].lstrip("~.")
    module = node.get("py:module") or ""
    domain = env.get_domain("py")
    room = module.rpartition(".")[0]
    for dotted in (target, *(f"{place}.{target}" for place in (module, room) if place)):
        try:
            value = resolve(dotted)
        except (ValueError, AttributeError, ImportError):
            continue
        found = domain.objects.get(make_reference.documented_as(value))
        if inspect.ismodule(value):
            found = domain.modules.get(value.__name__)
        if found:
            return make_refnode(app.builder, node["refdoc"], found.docname, found.node_id, contnode)
    return None


def setup(app: Sphinx) -> None:
    """Connect what is above."""
    # Before numpydoc, and after it: it takes a text apart into its sections.
    app.connect("autodoc-process-docstring", plain_heads, priority=100)
    app.connect("autodoc-process-docstring", say_who_uses_it, priority=900)
    app.connect("autodoc-skip-member", leave_out_fields)
    app.connect("missing-reference", find_where_it_is_written)
