"""A report to keep: results as one HTML page that needs no network and no script.

Each part of the page is a function that returns a piece of HTML, so that another page can show the same
piece. The pieces have no inline styles and no scripts, since a content security policy may forbid both. Their
style sheet is `theme.piece_styles`.
"""
