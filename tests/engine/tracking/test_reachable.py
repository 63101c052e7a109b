"""Offline, online or not at all, and in how many seconds that is known."""

import socket
import time

import pytest

from projects.engine.tracking.reachable import SECONDS, answers, base_url, choose_mode, has_key

KEY = 'a' * 40


def test_without_a_key_it_is_offline_and_nothing_is_asked(alone):
    assert choose_mode({}) == ('offline', None)
    mode, warning = choose_mode({'WANDB_MODE': 'online'})
    assert mode == 'offline' and 'no key' in warning


@pytest.mark.parametrize('environment, mode', [
    ({'WANDB_MODE': 'disabled', 'WANDB_API_KEY': KEY}, 'disabled'), ({'WANDB_DISABLED': 'true'}, 'disabled'),
    ({'WANDB_MODE': 'offline', 'WANDB_API_KEY': KEY}, 'offline'), ({'WANDB_MODE': 'dryrun'}, 'offline')])
def test_what_is_asked_for_is_obeyed(alone, environment, mode):
    assert choose_mode(environment) == (mode, None)


def test_an_unknown_mode_is_said_and_taken_as_offline(alone):
    assert choose_mode({'WANDB_MODE': 'onlin', 'WANDB_API_KEY': KEY}) == (
        'offline', "WANDB_MODE: expected online, offline or disabled, found 'onlin'")


def test_a_key_in_the_netrc_file_counts_for_its_server_alone(alone):
    (alone / '.netrc').write_text(f'machine wandb.example.org login user password {KEY}\n')
    assert has_key({'WANDB_BASE_URL': 'https://wandb.example.org'})
    assert not has_key({})
    (alone / '.config' / 'wandb').mkdir(parents=True)
    (alone / '.config' / 'wandb' / 'settings').write_text('[default]\nbase_url = https://wandb.example.org\n')
    assert base_url({}) == 'https://wandb.example.org' and has_key({})


def test_a_server_that_speaks_is_reached(stand_in):
    assert choose_mode({'WANDB_BASE_URL': stand_in.url, 'WANDB_API_KEY': KEY}) == ('online', None)
    assert KEY not in ''.join(stand_in.received)


def test_a_closed_port_is_known_at_once_and_silence_after_three_seconds(alone, black_hole):
    with socket.socket() as unused:
        unused.bind(('127.0.0.1', 0))
        start = time.monotonic()
        assert not answers(f'http://127.0.0.1:{unused.getsockname()[1]}')
        assert time.monotonic() - start < 1
    start = time.monotonic()
    assert choose_mode({'WANDB_BASE_URL': black_hole, 'WANDB_API_KEY': KEY}) == (
        'offline', '127.0.0.1 does not answer within 3 s')
    assert time.monotonic() - start < SECONDS + 1
    assert not answers('no address')
