"""The published network, from its published layout: strict load and equal outputs (shared/parity/roofmapnet.npz)."""

from pathlib import Path

import numpy as np
import pytest
import torch
from roof_networks import roofmapnet
from torch.nn import functional as F

from projects.engine.errors import UserError
from projects.roofline.checkpoints import convert_roofmapnet
from projects.roofline.models import line_verifier

PARITY = Path(__file__).resolve().parents[3] / 'shared/parity'
PACK = PARITY / 'roofmapnet.npz'
pytestmark = pytest.mark.skipif(not PACK.is_file(), reason='the parity pack is not beside this checkout')
TOLERANCE = 1e-3  # of the largest reference


@pytest.fixture(scope='module')
def pack():
    return np.load(PACK)


@pytest.fixture(scope='module')
def fill(load_module):
    return load_module(PARITY / 'fill.py')


@pytest.fixture(scope='module')
def published(pack, fill):
    return {key: torch.from_numpy(np.asarray(value)) for key, value in fill.weights(pack).items()}


@pytest.fixture(scope='module')
def network(published):
    model = roofmapnet().eval()
    model.load_state_dict(convert_roofmapnet(published), strict=True)
    return model


@pytest.fixture(scope='module')
def image(pack, fill):
    return torch.from_numpy(fill.image(int(pack['seed']), tuple(pack['shape'])))


def worst(found, reference):
    return float(np.abs(found - reference).max() / np.abs(reference).max())


def test_every_entry_has_its_place(published, network):
    """756 entries; two numbers of them, gaussalpha and gaussbeta, are parameters that no output depends on."""
    assert len(published) == 756 and len(network.state_dict()) == 754
    assert sum(parameter.numel() for parameter in network.parameters()) == 9_931_319 - 2


@pytest.mark.slow
def test_the_maps_match(network, image, pack):
    with torch.no_grad():
        maps = network(image)
    assert worst(maps['jmap'][0, 0].numpy(), pack['jmap']) < TOLERANCE
    assert worst(maps['lmap'][0].numpy(), pack['lmap']) < TOLERANCE
    assert worst(maps['joff'][0, 0].numpy(), pack['joff']) < TOLERANCE


def published_corners(lines_yx, image_index, points, size):
    """As projects.roofline.models.line_sampling.cell_corners, with the published weights beyond the border.

    The pack's weights hold random places along a line too (lambda_1 is one of its entries), up to two and a half times
    its length outside it, so most of its logits were made with points beyond the border, where the published weights
    are negative below 0 and cancel at the far end. Nothing but this rule is replaced here.
    """
    height, width = size
    where = line_verifier_points(lines_yx, points) - 0.5
    y, x = where.unbind(-1)
    row, column = y.floor().clamp(0, height - 1).int(), x.floor().clamp(0, width - 1).int()
    return row, column, y, x


def line_verifier_points(lines_yx, steps):
    return torch.lerp(lines_yx[..., :1, :], lines_yx[..., 1:, :], steps[:, None])


def published_samples(planes, lines_yx, points):
    """Values (L, C, P) of planes (C, h, w) along lines by the published rule, inside and beyond the border."""
    row, column, y, x = published_corners(lines_yx, None, points, planes.shape[-2:])
    below, right = (row + 1).clamp_max(planes.shape[-2] - 1), (column + 1).clamp_max(planes.shape[-1] - 1)
    values = (planes[:, row, column] * (below - y) * (right - x) + planes[:, below, column] * (y - row) * (right - x)
              + planes[:, row, right] * (below - y) * (x - column) + planes[:, below, right] * (y - row) * (x - column))
    return values.transpose(0, 1)


@pytest.mark.slow
def test_all_200_line_logits_match_with_the_published_rule_beyond_the_border(network, image, pack, monkeypatch):
    monkeypatch.setattr(line_verifier, 'sample_map', lambda lmap, lines, index, points:
                        published_samples(lmap, lines, points)[:, 0])
    monkeypatch.setattr(line_verifier, 'pooled_samples', lambda features, lines, index, points, pooled, mask:
                        F.max_pool1d(published_samples(features[0], lines, points) * mask[:, None], 8))
    logits = network.score_lines(image, torch.from_numpy(pack['lines_yx'])).numpy()
    assert len(logits) == 200 and worst(logits, pack['line_logits']) < TOLERANCE


@pytest.mark.slow
def test_our_sampler_gives_the_same_logits_where_no_point_leaves_the_map(network, image, pack):
    lines = torch.from_numpy(pack['lines_yx'])
    points = line_verifier_points(lines.flip(1), network.line_head.steps)
    inside = ((points >= 0.5) & (points <= 127.5)).flatten(1).all(1)
    assert inside.sum() >= 10
    logits = network.score_lines(image, lines[inside]).numpy()
    assert worst(logits, pack['line_logits'][inside.numpy()]) < TOLERANCE


def test_wrappers_are_opened_and_strangers_named(published):
    wrapped = {'model_state_dict': {f'module.{key}': value for key, value in published.items()}}
    assert convert_roofmapnet(wrapped).keys() == convert_roofmapnet(published).keys()
    with pytest.raises(UserError, match='unknown key backbone.conv1.weight'):
        convert_roofmapnet({'backbone.conv1.weight': torch.zeros(1)})
