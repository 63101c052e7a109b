"""What may not leave the machine."""

import numpy as np
import pytest

from projects.engine.tracking.scrub import Scrubber

SCRUB = Scrubber({'MY_API_KEY': 'planted-secret-1', 'HOME': '/home/alice', 'EMPTY_TOKEN': '', 'PATH': '/usr/bin:/bin'},
                 home='/data/people/alice')


@pytest.mark.parametrize('text, expected', [
    ('uses planted-secret-1 here', 'uses *** here'),
    ('/data/people/alice/data/village', '~/data/village'),
    ('/data/people/alice', '~'),
    ('/data/people/alice2/data', '/data/people/alice2/data'),
    ('/mnt/data/people/alice/x', '/mnt/data/people/alice/x'),
    ('/cluster/home/bob/x', '/cluster/home/user/x'),
    ('file:///home/bob/weights.pth, /Users/eve/x', 'file://~/weights.pth, ~/x'),
    ('https://bob:gh-token@example.org/a.git', 'https://***@example.org/a.git'),
    ('--api_key=0123456789abcdef --lr=1', '--api_key=*** --lr=1'),
    ('ghp_abcdefghijklmnopqrstuvwxyz012345', '***'),
    ('AKIAABCDEFGHIJKLMNOP', '***'),
    ('d84ed59c0ffee0000000000000000000000000ab', 'd84ed59c0ffee0000000000000000000000000ab'),  # a commit
    ('/usr/bin:/bin', '/usr/bin:/bin'),
])
def test_a_text(text, expected):
    assert SCRUB.text(text) == expected


def test_nested_values_become_plain_and_clean():
    config = {'data': [{'root': '/data/people/alice/x'}, ('a', 1)], 'hub_token': 'anything', 'num_tokens': 3,
              'token': None, 'key': 'iter', 'array': np.arange(2), 'share': np.float32(0.5), 'fn': Scrubber}
    assert SCRUB(config) == {
        'data': [{'root': '~/x'}, ['a', 1]], 'hub_token': '***', 'num_tokens': 3, 'token': None, 'key': 'iter',
        'array': [0, 1], 'share': 0.5, 'fn': str(Scrubber)}


def test_a_root_without_a_home_is_left_alone():
    assert Scrubber({}, home='/').text('/data/x') == '/data/x'
