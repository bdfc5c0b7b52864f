"""Colours of the report. Figures are drawn in the light ones; in the page each becomes a CSS variable."""

from __future__ import annotations

# name -> (light, dark). The light values differ from one another, for they are told apart in the SVG text.
COLORS = {
    "ink": ("#1b1f24", "#e6e8eb"),
    "quiet": ("#6b737c", "#9aa3ad"),
    "line": ("#d9dde2", "#343a42"),
    "paper": ("#fefefe", "#15181c"),
    "panel": ("#f5f6f8", "#1d2126"),
    "model": ("#2563eb", "#6ea0ff"),
    "model-raw": ("#8a5cd6", "#b795f2"),
    "last-value": ("#c2610c", "#f0964a"),
    "seasonal-naive": ("#0b8a6a", "#3fc79f"),
    "good": ("#1a7f37", "#4cc26b"),
    "bad": ("#c0262d", "#ff7b72"),
}


def light(name: str) -> str:
    """The colour to draw with."""
    return COLORS[name][0]


def variables(*, dark: bool) -> str:
    """CSS declarations of all colours."""
    return "".join(f"--{name}:{pair[1 if dark else 0]};" for name, pair in COLORS.items())


def follow_theme(svg: str) -> str:
    """An SVG whose colours are the page's variables."""
    for name, (drawn, _) in COLORS.items():
        svg = svg.replace(drawn, f"var(--{name})")
    return svg
