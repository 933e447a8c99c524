import importlib.metadata

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
