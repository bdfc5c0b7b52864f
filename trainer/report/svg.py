"""matplotlib figures as SVG that can stand in an HTML page: no prologue, no address, the page's font."""

from __future__ import annotations

import io
import re
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


def inline_svg(figure: Figure, *, name: str, alt: str) -> Markup:
    """The figure as an element; `name` keeps its inner ids apart from those of the page's other figures."""
    with rc_context({"svg.fonttype": "none", "svg.hashsalt": name}):
        buffer = io.StringIO()
        # Not figure.savefig: that draws everything twice.
        FigureCanvasSVG(figure).print_svg(buffer, metadata=_NO_TRACE)  # type: ignore[no-untyped-call]
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = _METADATA.sub("", text)
    head, body = text.split(">", 1)
    head = _SIZE.sub("", _ADDRESSES.sub("", head))
    body = body.replace("xlink:href", "href")
    body = _FONT.sub(r"font-size: \1px", body)
    # Only our own markup is marked safe; column and server names were escaped by matplotlib's XML writer.
    return Markup(f'{head} role="img" aria-label="{escape(alt)}">{_ids_apart(follow_theme(body), name)}')  # noqa: S704


def _ids_apart(svg: str, name: str) -> str:
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'href="#([^"]+)"', rf'href="#{name}-\1"', svg)
    return re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", svg)
