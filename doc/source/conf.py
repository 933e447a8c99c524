import importlib.metadata
import re

project = 'volumedrivers'
copyright = 'the volumedrivers developers'
release = importlib.metadata.version('volumedrivers')
extensions = ['sphinx.ext.autodoc', 'oslo_config.sphinxext']
autodoc_member_order = 'bysource'
html_theme = 'alabaster'
html_theme_options = {
    'description': 'The volume half of a libvirt virt driver',
    'fixed_sidebar': True,
    'page_width': '1000px',
}
html_static_path = ['_static']
nitpicky = False


def _several_errors(app, what, name, obj, options, lines):
    """Let one ``:raises`` name several errors, as the docstrings do."""
    text = re.sub(
        r'^:raises\s+([A-Z]\w*(?:,\s+[A-Z]\w*)*):?',
        lambda found: f':raises {" ".join(found[1].split())}:',
        '\n'.join(lines),
        flags=re.MULTILINE,
    )
    lines[:] = text.split('\n')


def setup(app):
    app.connect('autodoc-process-docstring', _several_errors)
