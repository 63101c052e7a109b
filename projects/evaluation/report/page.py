"""The page and its pieces: text, bars, facts, pictures. Nothing is fetched and no script runs."""

import base64
import html
import io
import math
from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from PIL import Image

from projects.engine.errors import UserError
from projects.evaluation.plots import DARK, LIGHT, Theme, png_bytes
from projects.evaluation.report.style import STYLE
from projects.evaluation.tables import percent

Section = tuple[str, str, str]  # anchor, heading, HTML


def text(value: Any) -> str:
    """Escape a value for HTML, quotes too."""
    return html.escape(str(value), quote=True)


def together(words: str) -> str:
    """Keep numbers and their percent signs on one line."""
    return words.replace(' %', '\u00a0%')


def table(head: Sequence[str], rows: Sequence[str], kind: str = '') -> str:
    """Return a table that scrolls sideways where it must; ``head`` and ``rows`` are HTML of cells."""
    columns = ''.join(f'<th scope="col">{cell}</th>' if not cell.startswith('<th') else cell for cell in head)
    body = ''.join(f'<tr>{row}</tr>' for row in rows)
    return (f'<div class="scroll"><table{f" class={chr(34)}{kind}{chr(34)}" if kind else ""}><thead><tr>{columns}</tr>'
            f'</thead><tbody>{body}</tbody></table></div>')


def note(words: str) -> str:
    """Return a small paragraph of plain text."""
    return f'<p class="note">{text(words)}</p>'


def fact_list(facts: Sequence[tuple[str, str]]) -> str:
    """Return labelled values."""
    return '<dl>' + ''.join(f'<div><dt>{text(label)}</dt><dd>{text(value)}</dd></div>' for label, value in facts) \
        + '</dl>'


def bar(value: float) -> str:
    """Return a share 0..1 as a bar and a number; a dash for NaN."""
    if math.isnan(value):
        return '<span class="none">–</span>'
    width = 100 * min(max(value, 0), 1)
    return (f'<span class="track"><span style="width:{width:.1f}%"></span></span>'
            f'<span class="number">{percent(value)}</span>')


def change(difference: float, *, smaller_is_better: bool = False, decimals: int = 1) -> str:
    """Return a difference of shares in percentage points, signed and coloured by whether it is good."""
    if math.isnan(difference):
        return '<span class="none">–</span>'
    points = round(100 * difference, decimals)
    if points == 0:
        return f'<span class="none">±{0:.{decimals}f}</span>'
    good = (points < 0) == smaller_is_better
    return f'<span class="{"good" if good else "bad"}">{signed(difference, decimals)}</span>'


def signed(difference: float, decimals: int = 1) -> str:
    """Write a difference of shares in percentage points with a true minus sign."""
    points = round(100 * difference, decimals)
    return f'±{0:.{decimals}f}' if points == 0 else f'{points:+.{decimals}f}'.replace('-', '−')


def picture(uri: str, alt: str, caption: str = '', width: int | None = None) -> str:
    """Return a figure with a picture and a caption."""
    return _figure(f'<img src="{uri}" alt="{text(alt)}">', caption, width)


def drawing(draw: Callable[[Theme], Figure], alt: str, caption: str = '', width: int | None = None) -> str:
    """Return a figure with a drawing in the colours of the reader's screen, light or dark."""
    light, dark = (data_uri(png_bytes(draw(theme), 150, theme), 'png') for theme in (LIGHT, DARK))
    return _figure(_themed(light, dark, alt), caption, width)


def panels(draw: Callable[[Theme], dict[str, Figure]]) -> str:
    """Return drawings side by side, below each other on a narrow screen, each under its heading."""
    pairs = zip(*(_rendered(draw(theme), theme) for theme in (LIGHT, DARK)))
    return '<div class="panels">' + ''.join(
        f'<div><h3>{text(heading)}</h3>{_figure(_themed(light, dark, heading), "", None)}</div>'
        for (heading, light), (_, dark) in pairs) + '</div>'


def _rendered(figures: dict[str, Figure], theme: Theme) -> list[tuple[str, str]]:
    return [(heading, data_uri(png_bytes(figure, 150, theme), 'png')) for heading, figure in figures.items()]


def _themed(light: str, dark: str, alt: str) -> str:
    return (f'<picture><source srcset="{dark}" media="screen and (prefers-color-scheme: dark)">'
            f'<img class="drawing" src="{light}" alt="{text(alt)}"></picture>')


def _figure(inner: str, caption: str, width: int | None) -> str:
    style = f' style="max-width:{width}px"' if width else ''
    below = f'<figcaption>{text(caption)}</figcaption>' if caption else ''
    return f'<figure{style}>{inner}{below}</figure>'


def data_uri(data: bytes, kind: str) -> str:
    """Return a picture's bytes as a data URI."""
    return f'data:image/{kind};base64,{base64.b64encode(data).decode("ascii")}'


def embed_picture(path: str | Path, longest: int = 2200) -> str:
    """Return a picture file as a data URI: PNG as it is when small, else reduced and as JPEG."""
    path = Path(path)
    try:
        with Image.open(path) as opened:
            opened.load()
            if path.suffix.lower() == '.png' and path.stat().st_size < 300_000 and max(opened.size) <= longest:
                return data_uri(path.read_bytes(), 'png')
            opened.thumbnail((longest, longest))
            buffer = io.BytesIO()
            if opened.mode in ('RGBA', 'LA', 'P'):
                opened = opened.convert('RGBA')
                white = Image.new('RGBA', opened.size, 'white')
                opened = Image.alpha_composite(white, opened)
            opened.convert('RGB').save(buffer, 'JPEG', quality=86, subsampling=0, optimize=True)
    except (OSError, ValueError, SyntaxError) as error:  # SyntaxError: what Pillow raises on a broken PNG
        raise UserError(f'{path}: not readable as a picture ({error})') from error
    return data_uri(buffer.getvalue(), 'jpeg')


def page(kind: str, title: str, lead: str, sections: Sequence[Section]) -> str:
    """Return the whole page.

    Args:
        kind: what the page is, a few words above the title.
        title: the heading.
        lead: a line below it.
        sections: in their order; empty ones are left out.
    """
    sections = [section for section in sections if section[2]]
    links = ''.join(f'<a href="#{text(anchor)}">{text(heading)}</a>' for anchor, heading, _ in sections)
    body = ''.join(f'<section id="{text(anchor)}"><h2>{text(heading)}</h2>{content}</section>\n'
                   for anchor, heading, content in sections)
    made = datetime.now().strftime('%Y-%m-%d %H:%M')
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline'">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{text(title)}</title>
<link rel="icon" href="data:,">
<style>{STYLE}</style>
</head>
<body>
<header><p class="kind">{text(kind)}</p><h1>{text(title)}</h1><p class="lead">{text(lead)}</p></header>
<nav>{links}</nav>
<main>
{body}</main>
<footer>Made by Terrace on {made}.</footer>
</body>
</html>
"""
