"""One HTML file with a cloud in it, to be turned in any browser: no network, no library, no server."""

import base64
import html
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from projects.engine.files import write_text
from projects.lidar.view.cloud import Cloud, thinned
from projects.lidar.view.colouring import Colouring, choices, colour_by
from projects.lidar.view.script import SCRIPT
from projects.lidar.view.style import STYLE

MOST = 300_000  # points: about 4 MB of page, and fluent on a notebook
_MODES = 9  # colourings: the keys 1 to 9
_TITLES = {'class': ('Class', 'Class'), 'predicted': ('Predicted', 'Predicted class'),
           'error': ('Error', 'Prediction against truth'), 'colour': ('Colour', 'Colour of the points'),
           'height': ('Height', 'Height above ground'), 'ndvi': ('NDVI', 'NDVI'), 'nir': ('NIR', 'Near infrared')}
_FIRST = ('class', 'predicted', 'error', 'colour', 'height', 'confidence', 'entropy', 'scale disagreement', 'intensity',
          'verticality', 'planarity', 'linearity', 'ndvi', 'log_density')

_TEMPLATE = """<!DOCTYPE html>
<html lang="en" data-theme="light">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; script-src 'unsafe-inline'; \
style-src 'unsafe-inline'; img-src data:">
<title>{title}</title>
<style>{style}</style>
</head>
<body>
<canvas aria-label="Points in three dimensions. Drag to turn, use the wheel to zoom." tabindex="0"></canvas>
<div id="panel" class="card">
<header><div><h1>{heading}</h1><p>{shown}</p></div>\
<button id="theme" class="plain" title="Light or dark (d)" aria-label="Light or dark">◐</button></header>
<div class="modes" role="group" aria-label="Colour by"></div>
<div id="legend"></div>
<div class="sliders">
<label for="size">Points</label><input id="size" type="range" min="-2" max="2" step="0.1" value="0">
<label for="light">Shadows</label><input id="light" type="range" min="0" max="2" step="0.05" value="1"></div>
<div class="tools"><button id="reset" class="plain" title="r">Reset</button><button id="top" class="plain" title="t">\
From above</button><button id="save" class="plain">Save picture</button>
<details><summary>How to move</summary><p class="note">Drag turns, with <kbd>Shift</kbd> or the right button it moves; \
the wheel zooms. A click tells about a point, a double click goes there. In the legend a double click leaves one \
class. Keys: <kbd>1</kbd>–<kbd>9</kbd> colours, arrows, <kbd>+</kbd> <kbd>−</kbd>, <kbd>r</kbd> <kbd>t</kbd> \
<kbd>d</kbd>.</p></details></div>
</div>
<div id="north" class="card" aria-hidden="true"><svg viewBox="0 0 46 46" width="44" height="44">\
<path d="M23 7 L28 23 L18 23 Z" fill="#d1442f"/><path d="M23 39 L28 23 L18 23 Z" fill="currentColor" opacity=".35"/>\
</svg></div>
<div id="bar" class="card"><span></span><i></i></div>
<div id="point" class="card"></div>
<div id="failure" class="card" role="alert"></div>
<script type="application/json" id="scene">{scene}</script>
<script>{script}</script>
</body>
</html>
"""


def page_of(cloud: Cloud, by: Sequence[str] | None = None, limit: int = MOST) -> str:
    """Return a page.

    Args:
        cloud: What; positions are rounded to 1/65,535 of its extent (2 mm in a 150 m patch, 15 mm in a km tile).
        by: Colourings, the first one is shown; 'class' is always among them. Default: those that tell most.
        limit: Points at most; of a larger cloud a random part is shown.

    Raises:
        UserError: The cloud has no such colouring.
    """
    small = thinned(cloud, limit)
    by = [name for name in _FIRST if name in choices(small)][:_MODES] if by is None else list(dict.fromkeys(by))
    if 'class' not in by:
        by.append('class')  # its legend hides classes in every colouring
    colourings = [colour_by(small, name) for name in by]
    low, high = (np.asarray(edge, np.float64) for edge in (small.xyz.min(axis=0), small.xyz.max(axis=0)))
    high = np.maximum(high, low + 1e-3)
    place = np.round((small.xyz - low) / (high - low) * 65535).astype('<u2')
    scene: dict[str, Any] = dict(
        count=len(small), low=low.tolist(), high=high.tolist(), origin=small.origin.tolist(), file=_file_name(cloud),
        spacing=_spacing(small.xyz), modes=[_mode(colouring) for colouring in colourings],
        data={'xyz': _base64(place), **{colouring.by: _base64(colouring.code if colouring.rgb is None
                                                              else colouring.rgb) for colouring in colourings}})
    shown = f'{len(small):,} points' if len(small) >= cloud.total else f'{len(small):,} of {cloud.total:,} points'
    title = html.escape(cloud.title)
    return _TEMPLATE.format(title=title, heading=title.replace('_', '_<wbr>'), style=STYLE, script=SCRIPT, shown=shown,
                            scene=json.dumps(scene, ensure_ascii=False).replace('<', '\\u003c'))


def write_page(path: str | Path, cloud: Cloud, by: Sequence[str] | None = None, limit: int = MOST) -> None:
    """Write a page, see :func:`page_of`."""
    write_text(path, page_of(cloud, by, limit))


def _mode(colouring: Colouring) -> dict[str, Any]:
    name = colouring.by.replace('_', ' ')
    short, title = _TITLES.get(colouring.by, (name[:1].upper() + name[1:],) * 2)
    ramp = dict(low=colouring.low, high=colouring.high, unit=colouring.unit) if colouring.low is not None else {}
    table = {} if colouring.rgb is not None else dict(table=_base64(colouring.table))
    return dict(by=colouring.by, name=short, title=title, rgb=colouring.rgb is not None,
                legend=[(code, label.replace('_', ' '), count) for code, label, count in colouring.legend],
                **ramp, **table)


def _spacing(xyz: np.ndarray) -> float:
    """Return how far points lie apart on the ground, in metres: of the square metres that have any."""
    cells = np.floor(xyz[:, :2] / 2).astype(np.int64)
    used = len(np.unique(cells[:, 0] * 1_000_003 + cells[:, 1]))
    return float(np.sqrt(4 * used / max(len(xyz), 1)))


def _file_name(cloud: Cloud) -> str:
    return ''.join(letter if letter.isalnum() else '_' for letter in cloud.title)


def _base64(values: np.ndarray) -> str:
    return base64.b64encode(np.ascontiguousarray(values).tobytes()).decode()
