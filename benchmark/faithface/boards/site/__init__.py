"""The site of a board: static pages, a pure function of its records and gallery. No server, no request to anywhere.

Place in the flow: ``cli`` calls :func:`write_site`. Below it ``board``, ``render``, ``claims`` and ``statistics``;
never a model or a plugin. Imports Jinja2, and matplotlib when a figure is drawn.

    extras   what a board keeps beside its records to look at: curves and pictures
    block    a table of a board as sections by metric family, ready for a template
    marks    dot plots and curves as SVG paths
    charts   what the figures show
    drawing  figures by matplotlib, as SVG that takes its colours from the page
    figures  which figures need not be drawn again
    check    whether the pages on disk are those that the records give
    cite     how to cite a row
    links    which page lies where
    pages    all pages of a board
    write    pages on disk
"""

from faithface.boards.site.extras import Extras, read_extras
from faithface.boards.site.pages import Progress, site_files
from faithface.boards.site.write import write_site

__all__ = ["Extras", "Progress", "read_extras", "site_files", "write_site"]
