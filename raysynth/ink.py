"""How figures of matplotlib become inline SVG in the colours of a page."""

import io
import re
from typing import Any

from markupsafe import Markup, escape
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure

from raysynth.printable import printable

_LABEL = 22  # letters of a category's name

# Colours that stand for the page's own, which differ between light, dark and print.
COLOURS = {"#010203": "var(--ink)", "#020304": "var(--real)", "#030405": "var(--synthetic)"}
INK, REAL, SYNTHETIC = COLOURS
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "raysynth",
    "text.parse_math": False,
    "axes.unicode_minus": False,
    "font.size": 8,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
}


def label(value: object) -> str:
    """A value as the name of a bar or a tick, cut where it is long."""
    if value is None:
        return "(missing)"
    text = str(value).lower() if isinstance(value, bool) else str(value)
    text = printable(text)
    return text if len(text) <= _LABEL else text[: _LABEL - 1] + "…"


def plain(axes: Axes) -> None:
    """Take away what is not needed to read the axes."""
    axes.patch.set_visible(False)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.tick_params(length=0)
    axes.locator_params(axis="x", nbins=5)


def svg(figure: Figure, said: str) -> Markup:
    """The figure as an inline SVG element in the page's colours, without a link to anything.

    `said` is what it shows, in words.
    """
    figure.patch.set_visible(False)
    buffer = io.StringIO()
    unnamed = dict.fromkeys(("Creator", "Date", "Format", "Type"))
    canvas: Any = FigureCanvasSVG(figure)
    canvas.print_svg(buffer, metadata=unnamed)
    root, body = buffer.getvalue().partition("<svg")[2].split(">", 1)
    box = re.search(r'viewBox="[-0-9. ]+"', root)
    assert box is not None, "matplotlib wrote an SVG without a viewBox"
    body = re.sub(
        r"<!--.*?-->|<metadata>.*?</metadata>|<style.*?</style>", "", body, flags=re.DOTALL
    )
    body = re.sub(r'<g id="[^"]*"', "<g", body)
    for stand_in, colour in COLOURS.items():
        body = body.replace(stand_in, colour)
    return Markup(f'<svg {box[0]} role="img" aria-label="{escape(printable(said))}">{body}')
