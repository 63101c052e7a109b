"""Networks and batches for the tests of the roof-line room."""

import numpy as np
import torch
from mmseg.registry import MODELS
from mmseg.structures import SegDataSample

import projects.roofline.register  # noqa: F401
from projects.roofline.graph import RoofGraph
from projects.roofline.labels import cells_of, draw_maps, hard_negatives

LOSSES = dict(
    gauss=dict(type='FocalGaussianLoss'), qcc=dict(type='CalibrationLoss'), lhr=dict(type='LineMapLoss'),
    off=dict(type='JunctionOffsetLoss', loss_weight=0.25), lv=dict(type='LineVerificationLoss', loss_weight=2.0),
    sf=dict(type='OcclusionLoss', loss_weight=0.5))


def roofmapnet(**changes):
    """The published network; ``changes`` replace top-level arguments."""
    arguments = dict(
        type='RoofMapNet', backbone=dict(type='StackedHourglass'),
        map_head=dict(type='RoofMapHead', in_channels=256, num_stacks=2), line_head=dict(type='LineVerifier'),
        losses=LOSSES)
    return MODELS.build({**arguments, **changes})


def small_roofmapnet(types=1, **changes):
    """The same with 32 channels, for images whose sides are multiples of 16."""
    return roofmapnet(**{**dict(
        backbone=dict(type='StackedHourglass', channels=32, depth=2),
        map_head=dict(type='RoofMapHead', in_channels=32, num_stacks=2, num_types=types, hidden=16, calibration=16),
        line_head=dict(type='LineVerifier', in_channels=32, channels=16, hidden=32)), **changes})


def house(shift=0.0):
    """A gable roof (6 junctions, 7 lines, 2 faces) in 64 x 64 pixels, one line of it hidden from 0.25 to 0.5."""
    junctions = np.array([[8, 8], [56, 8], [56, 50], [8, 50], [8, 30], [56, 30]], float) + shift
    lines = [[0, 1], [1, 5], [5, 2], [2, 3], [3, 4], [4, 0], [4, 5]]
    occlusions = np.full((7, 2), np.nan)
    occlusions[0] = 0.25, 0.5
    return RoofGraph.make(junctions, lines, faces=[(0, 1, 5, 4), (4, 5, 2, 3)], occlusions=occlusions)


def sample(graph=None, size=64, types=1):
    """What PackRoofline makes of a graph; None is an image without lines."""
    graph = graph or RoofGraph.make(np.zeros((0, 2)), np.zeros((0, 2), int))
    cells = cells_of(graph, 4)
    kinds = np.arange(len(cells)) % types
    maps = draw_maps(cells, graph.lines, (size // 4, size // 4), kinds, types)
    negatives = hard_negatives(cells, graph.lines, maps.lmap)
    data = SegDataSample(metainfo=dict(ori_shape=(size, size), letterbox=(1.0, 0.0, 0.0), graph=graph, sample_id='a'))
    data.set_data(dict(
        jmap=torch.from_numpy(maps.jmap), joff=torch.from_numpy(maps.joff), lmap=torch.from_numpy(maps.lmap),
        junctions=torch.from_numpy(np.column_stack([cells, kinds]).astype(np.float32).reshape(-1, 3)),
        lines=torch.from_numpy(graph.lines), negatives=torch.from_numpy(np.asarray(negatives, np.int64)),
        occlusions=torch.from_numpy(graph.occlusions.astype(np.float32))))
    return data
