"""The seam measure of tools/benchmarks/predict_large.py: it sees a seam, and sees none where windows are blended."""

import cv2
import numpy as np
import pytest
import rasterio

from projects.geo.prediction import predict_files

pytestmark = pytest.mark.filterwarnings('ignore::rasterio.errors.NotGeoreferencedWarning')
SIZE, WINDOW = 3000, 128


@pytest.fixture(scope='module')
def benchmark(repository, load_module):
    return load_module(repository / 'tools/benchmarks/predict_large.py')


@pytest.fixture(scope='module')
def ground(tmp_path_factory):
    """A raster of soft blobs about eight pixels across."""
    noise = np.random.default_rng(0).random((SIZE // 8, SIZE // 8)).astype(np.float32)
    grey = cv2.resize(noise, (SIZE, SIZE), interpolation=cv2.INTER_CUBIC)
    path = tmp_path_factory.mktemp('ground') / 'ground.tif'
    with rasterio.open(path, 'w', driver='GTiff', dtype='uint8', count=1, height=SIZE, width=SIZE, crs='EPSG:2154',
                       transform=rasterio.Affine(1, 0, 652000, 0, -1, 6862000)) as dataset:
        dataset.write(np.clip(grey * 255, 0, 255).astype(np.uint8), 1)
    return path


def network(windows, edge_error=0.0):
    """Decide on a grid of 4 pixels, like a segmentation head, and be biased towards the right and lower edges."""
    h = windows.shape[-1]
    bias = edge_error * np.maximum.outer(np.arange(h), np.arange(h)) / h
    scores = []
    for window in windows[:, 0]:
        coarse = np.clip((cv2.resize(window, (h // 4, h // 4), interpolation=cv2.INTER_AREA) - 127) / 150 + 0.5, 0, 1)
        p = cv2.resize(coarse, (h, h), interpolation=cv2.INTER_LINEAR)
        p = np.clip(0.1 + 0.8 * p + bias, 0, 1)
        scores.append([1 - p, p])
    return np.array(scores, dtype=np.float32)


def rates(benchmark, ground, out, model, overlap):
    [result] = predict_files(model, ground, out, classes=('low', 'high'), palette=[(0, 0, 0), (9, 9, 9)], bands=(1,),
                             window=WINDOW, overlap=overlap)
    across, elsewhere, classes = benchmark.change_rates(result.classes, WINDOW, overlap)
    assert classes == 2 and elsewhere > 0.01
    return across / elsewhere - 1


def test_blended_windows_have_no_seams(benchmark, ground, tmp_path):
    """Although this network's classes change more often between its cells than within them."""
    assert abs(rates(benchmark, ground, tmp_path, network, 32)) < 0.05


def test_why_steps_are_staggered(benchmark, ground, tmp_path, monkeypatch):
    """With steps divisible by 4 every border lies between two cells, and looks like a seam without being one."""
    monkeypatch.setattr('projects.geo.windows.GRID_STRIDE', 1)
    assert rates(benchmark, ground, tmp_path, network, 32) > 0.3


def test_a_biased_network_shows_seams_without_overlap_only(benchmark, ground, tmp_path):
    def biased(windows):
        return network(windows, edge_error=0.7)

    cut = rates(benchmark, ground, tmp_path / 'cut', biased, 0)
    blended = rates(benchmark, ground, tmp_path / 'blended', biased, 32)
    assert cut > 5
    # Not the 5 % of above: this bias erases one class towards the far edges, so that the share of changes differs
    # from place to place in a window, and is higher near its start, without any seam there.
    assert blended < 0.05 * cut


def test_rates_count_pairs_and_leave_out_nodata(benchmark, tmp_path):
    classes = np.zeros((6, 12), np.uint8)
    classes[:, 4:] = 1  # one vertical edge, on the border of windows of 4
    classes[:, 11] = 255
    with rasterio.open(tmp_path / 'c.tif', 'w', driver='GTiff', dtype='uint8', count=1, height=6, width=12) as dataset:
        dataset.write(classes, 1)
    # borders: columns 3|4 and 7|8 (2 x 6 pairs), rows 1|2 and 3|4 (2 x 11 pairs; the last window starts at row 2)
    across, elsewhere, present = benchmark.change_rates(tmp_path / 'c.tif', 4, 0)
    assert (across, elsewhere, present) == (6 / (12 + 22), 0, 2)
