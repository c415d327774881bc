"""How Sphinx reads these pages: `python -m sphinx -W -b html docs docs/_build`, from the root.

Nothing is fetched, neither here nor by the pages: formulas become MathML, fonts are the reader's.
"""

import pathlib
import re
import sys

from docutils import nodes
from docutils.utils.math.latex2mathml import tex2mathml

ROOT = pathlib.Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import jaxfdsl  # noqa: E402

project = "jaxfdsl"
author = "the jaxfdsl authors"
version = release = jaxfdsl.__version__
language = "en"
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.autosummary"]
exclude_patterns = ["_build", "gallery"]  # families.md shows its pictures
source_suffix = {".md": "markdown"}

myst_enable_extensions = ["dollarmath"]
myst_heading_anchors = 3  # GitHub's, so that a link to a heading works there and here

autosummary_generate = False
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
autodoc_mock_imports = ["torch"]  # of jaxfdsl.torch
suppress_warnings = ["misc.highlighting_failure"]  # a notebook's `!` and `%` are no Python
smartquotes = False
python_maximum_signature_line_length = 88

html_theme = "furo"
html_title = f"jaxfdsl {release}"
html_math_renderer = "mathml"
html_copy_source = False
html_show_copyright = False

# Files of the repository that are pages here as well.
PAGES = {
    "../CHANGELOG.md": "included/changelog.md",
    "../CONTRIBUTING.md": "included/contributing.md",
    "../RESULTS.md": "included/results.md",
    "../configs/README.md": "included/recipe_costs.md",
}


def link_to_pages(app, docname, source):
    """Links to files that are pages here lead to the pages."""
    for file, page in PAGES.items():
        source[0] = source[0].replace(f"]({file}", f"]({page}")


def plain_text(app, what, name, obj, options, lines):
    """Docstrings here are plain text with `code` in backticks: all else that reStructuredText would
    take for markup is escaped, and what is indented stays as it is typed.
    """
    made: list[str] = []
    indented = False
    for paragraph in re.split(r"\n(?:[ \t]*\n)+", "\n".join(lines).strip("\n")):
        for line in escaped(paragraph).split("\n"):
            if indented != (indented := line.startswith("    ")):
                made += ["", "::", ""] if indented else [""]
            made.append(line if indented else line.strip())
        made.append("")
    lines[:] = made


def escaped(paragraph: str) -> str:
    """A paragraph without markup but code, in double backticks; indented ones are left alone."""
    if all(line.startswith("    ") for line in paragraph.split("\n")):
        return paragraph
    parts = re.split(r"`([^`]+)`", paragraph)
    text = [re.sub(r"([\\*|_]|^-)", r"\\\1", part) for part in parts[::2]]
    made = text[0]
    for code, after in zip(parts[1::2], text[1:], strict=True):
        before = "" if not made or made[-1].isspace() else "\\ "
        between = "" if not after or after[0].isspace() else "\\ "
        made += f"{before}``{' '.join(code.split())}``{between}{after}"
    return made


def short_types(app, what, name, obj, options, signature, returned):
    """`Array` for the name of the class that JAX has inside."""
    return tuple(
        text and text.replace("jaxlib._jax.Array", "Array") for text in (signature, returned)
    )


def skip_fields(app, what, name, obj, skip, options):
    """NamedTuples call each field an alias for its number."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def inline_formula(self, node):
    self.body.append(tex2mathml(node.astext()))
    raise nodes.SkipNode


def block_formula(self, node):
    formula = tex2mathml(node.astext(), as_block=True)
    self.body.append(f'<div class="math" style="overflow-x: auto">{formula}</div>')
    raise nodes.SkipNode


def setup(app):
    app.add_html_math_renderer("mathml", (inline_formula, None), (block_formula, None))
    app.connect("source-read", link_to_pages)
    app.connect("autodoc-process-docstring", plain_text)
    app.connect("autodoc-process-signature", short_types)
    app.connect("autodoc-skip-member", skip_fields)
