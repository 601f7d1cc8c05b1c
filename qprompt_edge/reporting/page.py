"""A whole page from pieces: one file that loads nothing and runs nothing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from qprompt_edge.reporting import words
from qprompt_edge.reporting.markup import element, facts, shown
from qprompt_edge.reporting.theme import page_styles

_POLICY = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"


@dataclass(frozen=True)
class Section:
    """A part of the page.

    Attributes:
        anchor: Its address within the page: small letters and hyphens.
        heading: As HTML.
        body: As HTML; a section without one is left out.
    """

    anchor: str
    heading: str
    body: str


def report_page(
    kind: str,
    title: str,
    lead: str,
    opening: str,
    sections: Sequence[Section],
    settings: Sequence[tuple[str, str]],
) -> str:
    """The page.

    Args:
        kind: What sort of report it is, as HTML.
        title: What it is about, as HTML.
        lead: A sentence below the title, as HTML.
        opening: What stands first: the verdict, as HTML.
        sections: What follows, each with a heading.
        settings: Keys of `words.NAMES`, and values as HTML, for the footer.

    Returns:
        HTML that is well-formed XML too. It refuses by its own policy to load anything.
    """
    kept = [section for section in sections if section.body]
    links = "".join(f'<li><a href="#{it.anchor}">{it.heading}</a></li>' for it in kept)
    body = "".join(
        f'<section id="{it.anchor}" aria-labelledby="{it.anchor}-heading">'
        f'<h2 id="{it.anchor}-heading">{it.heading}</h2>{it.body}</section>'
        for it in kept
    )
    named = [(words.NAMES[name], value) for name, value in settings]
    footer = f"<div><h2>{words.SETTINGS}</h2>{facts(named)}</div>"
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"/>'
        f'<meta http-equiv="Content-Security-Policy" content="{shown(_POLICY)}"/>'
        '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
        f'<meta name="color-scheme" content="light dark"/><title>{title} · {kind}</title>'
        f"<style>\n{page_styles()}</style></head>\n<body><header><p>{kind}</p><h1>{title}</h1><p>{lead}</p></header>\n"
        f"<main>{opening}{element('nav', f'<ul>{links}</ul>', aria_label=words.ON_THIS_PAGE)}\n{body}</main>\n"
        f"<footer>{footer}</footer></body></html>\n"
    )
