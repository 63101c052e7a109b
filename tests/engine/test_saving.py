"""What --resume takes: the newest checkpoint that opens."""

import pytest
import torch

from projects.engine.errors import UserError
from projects.engine.saving import checkpoints_of, newest_that_opens


def save(path):
    torch.save({'state_dict': {'weight': torch.ones(3)}, 'meta': {}}, path)


def test_by_number_not_by_name_or_pointer(tmp_path):
    for name in ('iter_900.pth', 'iter_1000.pth', 'best_mIoU_iter_2000.pth', 'other.pth'):
        save(tmp_path / name)
    (tmp_path / 'last_checkpoint').write_text('/gone/iter_5000.pth')
    assert [path.name for path in checkpoints_of(tmp_path)] == ['iter_1000.pth', 'iter_900.pth']
    assert newest_that_opens(tmp_path).name == 'iter_1000.pth'


def test_a_truncated_newest_is_skipped_and_kept_aside_and_none_is_an_error(tmp_path):
    assert newest_that_opens(tmp_path) is None and newest_that_opens(tmp_path / 'nowhere') is None
    save(tmp_path / 'iter_1.pth')
    save(tmp_path / 'iter_2.pth')
    (tmp_path / 'iter_2.pth').write_bytes((tmp_path / 'iter_2.pth').read_bytes()[:99])
    assert newest_that_opens(tmp_path).name == 'iter_1.pth'
    assert {path.name for path in tmp_path.iterdir()} == {'iter_1.pth', 'iter_2.pth.damaged'}
    (tmp_path / 'iter_1.pth').write_bytes(b'')
    with pytest.raises(UserError, match='none of its 1 checkpoints can be read'):
        newest_that_opens(tmp_path)
    assert (tmp_path / 'iter_1.pth').exists()
