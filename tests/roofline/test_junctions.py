"""Junctions from maps: where, which type, how many, and none in an empty image."""

import pytest
import torch

from projects.roofline.models.junctions import find_junctions


def test_a_junction_is_its_cell_its_offset_and_half_a_cell():
    jmap, joff = torch.zeros(2, 1, 6, 8), torch.zeros(2, 1, 2, 6, 8)
    jmap[0, 0, 2, 5], joff[0, 0, :, 2, 5] = 0.9, torch.tensor([-0.25, 0.375])
    jmap[0, 0, 5, 0] = 0.5
    jmap[1, 0, 0, 7], joff[1, 0, :, 0, 7] = 0.7, torch.tensor([-0.5, 0.5])
    found = find_junctions(jmap, joff, limit=4)
    assert found.valid.tolist() == [[True, True, False, False], [True, False, False, False]]
    torch.testing.assert_close(found.yx[found.valid], torch.tensor([[2.25, 5.875], [5.5, 0.5], [0.0, 8.0]]))
    torch.testing.assert_close(found.score[found.valid], torch.tensor([0.9, 0.5, 0.7]))


def test_only_peaks_above_the_threshold_are_junctions_and_equal_neighbours_both_stay():
    jmap = torch.zeros(1, 1, 5, 9)
    jmap[0, 0, 2, 1:4] = torch.tensor([0.5, 0.6, 0.5])  # one peak
    jmap[0, 0, 2, 6:8] = 1.0  # two junctions of a drawn map
    jmap[0, 0, 0, 4], jmap[0, 0, 4, 4] = 0.008, 0.0081
    found = find_junctions(jmap, torch.zeros(1, 1, 2, 5, 9), limit=300)
    cells = {(int(y), int(x)) for y, x in found.yx[found.valid]}
    assert cells == {(2, 2), (2, 6), (2, 7), (4, 4)}
    assert (found.score[0].diff() <= 0).all()
    assert found.score.shape == (1, 45)  # no more than there are cells


def test_a_cell_is_one_junction_of_its_most_probable_type_and_has_that_types_offset():
    jmap, joff = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 2, 4, 4)
    jmap[0, :, 1, 2] = torch.tensor([0.3, 0.2, 0.8])
    joff[0, 2, :, 1, 2] = torch.tensor([0.1, -0.2])
    found = find_junctions(jmap, joff)
    assert int(found.valid.sum()) == 1
    assert int(found.type[0, 0]) == 2
    torch.testing.assert_close(found.yx[0, 0], torch.tensor([1.6, 2.3]))


def test_the_best_of_each_image_are_kept():
    jmap = torch.zeros(2, 1, 8, 8)
    jmap[0, 0, ::2, ::2] = torch.arange(1, 17).view(4, 4) / 20
    jmap[1, 0, 2, ::4] = 0.5
    found = find_junctions(jmap, torch.zeros(2, 1, 2, 8, 8), limit=5)
    torch.testing.assert_close(found.score[0], torch.tensor([0.8, 0.75, 0.7, 0.65, 0.6]))
    assert found.valid.sum(1).tolist() == [5, 2]


@pytest.mark.parametrize('dtype', [torch.bfloat16, torch.float16])
def test_coordinates_keep_single_precision(dtype: torch.dtype):
    jmap, joff = torch.zeros(1, 1, 128, 128, dtype=dtype), torch.zeros(1, 1, 2, 128, 128, dtype=dtype)
    jmap[0, 0, 120, 100], joff[0, 0, 0, 120, 100] = 1, 0.25
    found = find_junctions(jmap, joff, limit=1)
    assert found.yx.dtype == torch.float32
    assert found.yx[0, 0].tolist() == [120.75, 100.5]


def test_an_empty_image_has_no_junctions():
    found = find_junctions(torch.zeros(2, 1, 8, 8), torch.zeros(2, 1, 2, 8, 8))
    assert not found.valid.any()
