"""What is assigned to splits on a command line."""

import pytest

from projects.engine.errors import UserError
from projects.engine.options import read_assignment


def test_names_of_each_split_add_up():
    assert read_assignment(None, ('train', 'val'), 'GROUP') is None
    assert read_assignment(['train=a,b', 'val=c', 'train=d'], ('train', 'val'), 'GROUP') == {
        'train': ['a', 'b', 'd'], 'val': ['c']}


@pytest.mark.parametrize('pair', ['trian=a', 'train', 'train='])
def test_another_form_is_refused(pair):
    with pytest.raises(UserError, match=rf"--assign: expected SPLIT=TILE\[,TILE\] with a split of .*, found '{pair}'"):
        read_assignment([pair], ('train', 'val'), 'TILE')
