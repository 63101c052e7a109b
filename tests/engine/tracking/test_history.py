"""Rows from scalars.json."""

from projects.engine.tracking.history import key_of, logged_rows, training_row, validation_row


def test_a_line_gets_tracked_names():
    assert training_row({'loss': 1.0, 'lr/backbone': 0.1, 'iter': 3, 'epoch': 2, 'step': 3}) == {
        'train/loss': 1.0, 'train/lr/backbone': 0.1, 'iter': 3, 'epoch': 2}
    assert validation_row({'mIoU': 0.5, 'IoU/Forest Land': 0.1, 'step': 4}, 4) == {
        'iter': 4, 'val/mIoU': 0.5, 'val/IoU/Forest Land': 0.1}


def test_what_identifies_a_row():
    assert key_of({'iter': 3, 'train/loss': 1}) == ('train', 3)
    assert key_of({'iter': 4, 'val/mIoU': 1}) == ('val', 4)
    assert key_of({'iter': 4, 'epoch': 2, 'val/mIoU': 1}) == ('val', 4)
    assert key_of({'iter': 4, 'picture': {}}) is None
    assert key_of({'train/loss': 1}) is None


def test_a_resume_and_a_torn_line(scalars, tmp_path):
    scalars('20260101_000000', [{'loss': 1.0, 'iter': 1, 'step': 1}, {'loss': 2.0, 'iter': 2, 'step': 2},
                                {'mIoU': 0.1, 'step': 2}, {'loss': 3.0, 'iter': 3, 'step': 3}],
            tail='{"loss": 4.0, "it')
    scalars('20260101_000001', [{'loss': 3.5, 'iter': 3, 'step': 3}, {'loss': 4.0, 'iter': 4, 'step': 4},
                                {'mIoU': float('nan'), 'step': 4}])
    rows = logged_rows(tmp_path / 'run')
    assert list(rows) == [('train', 1), ('train', 2), ('val', 2), ('train', 3), ('train', 4), ('val', 4)]
    assert rows['train', 3] == {'train/loss': 3.5, 'iter': 3}
    assert rows['val', 2] == {'val/mIoU': 0.1, 'iter': 2}


def test_validations_of_a_run_that_counts_epochs_are_at_their_iterations(scalars, tmp_path):
    """Three iterations an epoch: the epochs of the training lines are no place for a validation."""
    scalars('20260101_000000', [{'loss': 1.0, 'epoch': 1, 'iter': 3, 'step': 3}, {'mIoU': 0.1, 'step': 3},
                                {'loss': 2.0, 'epoch': 2, 'iter': 6, 'step': 6}, {'mIoU': 0.2, 'step': 6}])
    scalars('20260101_000001', [{'loss': 3.0, 'epoch': 3, 'iter': 9, 'step': 9}, {'mIoU': 0.3, 'step': 9}])
    rows = logged_rows(tmp_path / 'run')
    assert list(rows) == [(kind, iteration) for iteration in (3, 6, 9) for kind in ('train', 'val')]
    assert rows['train', 6] == {'iter': 6, 'epoch': 2, 'train/loss': 2.0}
    assert rows['val', 9] == {'iter': 9, 'val/mIoU': 0.3}
