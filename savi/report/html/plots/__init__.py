"""Interactive plots, as the plain data and layout that plotly.js draws.

A colour is a variable of the page's style sheet, ``var(--series-1)``, so that a plot follows the
page from light to dark.
"""
