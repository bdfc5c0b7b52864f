"""matplotlib figures as SVG that can stand in an HTML page: no prologue, no address, the page's font."""

from __future__ import annotations

import io
import re
import warnings
from typing import TYPE_CHECKING

from markupsafe import Markup, escape
from matplotlib import rc_context
from matplotlib.backends.backend_svg import FigureCanvasSVG

from trainer.report.theme import follow_theme

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_NO_TRACE = dict.fromkeys(("Date", "Creator", "Format", "Type"))
_ADDRESSES = re.compile(r'\sxmlns(:\w+)?="[^"]*"')
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_SIZE = re.compile(r'\s(?:width|height)="[\d.]+pt"')
_FONT = re.compile(r"font: ([\d.]+)px [^;\"]*")
_TAG = re.compile(r"<[^>]*>")


def inline_svg(figure: Figure, *, name: str, alt: str) -> Markup:
    """The figure as an element; `name` keeps its inner ids apart from those of the page's other figures."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}), warnings.catch_warnings():
        # The browser has the letters that matplotlib's own font lacks.
        warnings.filterwarnings("ignore", "Glyph", UserWarning)
        buffer = io.StringIO()
        # Not figure.savefig: that draws everything twice.
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_TRACE)  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = _METADATA.sub("", text)
    head, body = text.split(">", 1)
    head = _SIZE.sub("", _ADDRESSES.sub("", head))
    # Tags only: what looks like a colour or an id in a server's name stays as it is.
    body = _TAG.sub(lambda tag: _tag_of_page(tag.group(), name), body)
    # Only our own markup is marked safe; column and server names were escaped by matplotlib's XML writer.
    return Markup(f'{head} role="img" aria-label="{escape(alt)}">{body}')  # noqa: S704


def _tag_of_page(tag: str, name: str) -> str:
    """A tag in the page's colours and font, its ids and references named after the figure."""
    tag = tag.replace("xlink:href", "href")
    tag = _FONT.sub(r"font-size: \1px", tag)
    tag = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', tag)
    tag = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', tag)
    return follow_theme(re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", tag))
