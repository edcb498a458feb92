"""The report: one self-contained HTML page and its Markdown twin, from the catalogue's marts.

Why the package: `cells` is what both forms share, `tables` and `plots` are what there is to see, `render` writes it.
"""

from tlm.report.render import render

__all__ = ["render"]
