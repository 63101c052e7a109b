"""A home directory is replaced as a whole, and nothing that only looks like it."""

import pytest

from projects.engine.private import home_pattern, without_home


@pytest.mark.parametrize('home, text, expected', [
    ('/root', '/root/data', '~/data'),
    ('/root', '/root', '~'),
    ('/root', "data_root='/root/x', other=\"/root\"", "data_root='~/x', other=\"~\""),
    ('/root', 'file:///root/x:/root:/y', 'file://~/x:~:/y'),
    ('/root', 'it lies in /root.', 'it lies in ~.'),
    ('/root', '/tmp/rootfs', '/tmp/rootfs'),
    ('/root', '/rootfs/x', '/rootfs/x'),
    ('/root', '/mnt/root/x', '/mnt/root/x'),
    ('/root', '../root/x', '../root/x'),
    ('/home/ann', '/home/anna/x', '/home/anna/x'),
    ('/home/ann', '/home/ann.old/x', '/home/ann.old/x'),
    ('/home/ann/', '/home/ann/x', '~/x'),
    ('/', '/data/x', '/data/x'),
])
def test_a_text(monkeypatch, home, text, expected):
    monkeypatch.setenv('HOME', home)
    assert without_home(text) == expected


def test_a_home_behind_a_link_is_found_under_both_names(tmp_path):
    (tmp_path / 'real').mkdir()
    (tmp_path / 'link').symlink_to(tmp_path / 'real')
    pattern = home_pattern(tmp_path / 'link')
    assert pattern.sub('~', f'{tmp_path}/link/a {tmp_path}/real/b {tmp_path}/reality') == f'~/a ~/b {tmp_path}/reality'
