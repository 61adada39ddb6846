"""The report as one HTML page that needs nothing beside it: no script, no style sheet, figures embedded."""

from __future__ import annotations

import base64
import html
import re
from pathlib import Path

STYLE = """
body { font: 16px/1.5 system-ui, sans-serif; max-width: 72rem; margin: 2rem auto; padding: 0 1rem; color: #1a1a1a; }
h1, h2, h3 { line-height: 1.2; } h2 { margin-top: 2.5rem; border-bottom: 1px solid #ccc; }
.table { overflow-x: auto; }
table { border-collapse: collapse; font-size: 14px; font-variant-numeric: tabular-nums; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #e3e3e3; } th { border-bottom: 2px solid #999; }
img { max-width: 100%; height: auto; } code { background: #f3f3f3; padding: 0 .2em; }
"""
IMAGE = re.compile(r'<img src="([^"]+\.svg)"')


def html_page(title: str, markdown: str, folder: Path) -> str:
    """``markdown`` as a page; images (SVG files below ``folder``) become part of it."""
    from markdown_it import MarkdownIt

    body = MarkdownIt("commonmark", {"html": False}).enable("table").render(markdown)
    body = IMAGE.sub(lambda found: f'<img src="{_embedded(folder / html.unescape(found[1]))}"', body)
    body = body.replace("<table>", '<div class="table"><table>').replace("</table>", "</table></div>")
    return (
        f'<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>{html.escape(title)}</title>\n'
        f'<meta name="viewport" content="width=device-width, initial-scale=1">\n<style>{STYLE}</style>\n</head>\n'
        f"<body>\n{body}</body>\n</html>\n"
    )


def _embedded(figure: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(figure.read_bytes()).decode()
