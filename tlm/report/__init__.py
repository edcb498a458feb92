"""The report: one self-contained HTML page and its Markdown twin, from the catalogue's marts.

Why the package: `cells` is what both forms share, `tables` and `plots` are what there is to see, `render` writes it, and
`saved` is what others read of it, without what draws and computes.
"""
