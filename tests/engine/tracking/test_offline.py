"""The file format of W&B."""

import pytest

from projects.engine.tracking.offline import BLOCK, CHUNK, HEADER, encode, read_transcript, records

FREE = BLOCK - len(HEADER)  # of the first block
SIZES = [0, 1, FREE - CHUNK.size - 1, FREE - CHUNK.size, FREE - 2 * CHUNK.size, FREE - CHUNK.size - 6, BLOCK, 3 * BLOCK]


@pytest.mark.parametrize('size', SIZES)
def test_records_around_the_borders_of_blocks_come_back(size):
    bodies = [bytes([1]) * size, b'between', bytes([2]) * size, b'end']
    data = encode(bodies)
    found = list(records(data))
    assert [body for body, _ in found] == bodies
    assert found[-1][1] == len(data)


def test_a_cut_file_gives_the_records_before_the_cut():
    bodies = [bytes([index]) * 900 for index in range(60)]
    data = encode(bodies)
    ends = [end for _, end in records(data)]
    for length in (len(HEADER), ends[0] - 1, ends[0], ends[30] + 3, len(data) - 1):
        found = [body for body, _ in records(data[:length])]
        assert found == bodies[:sum(end <= length for end in ends)]


def test_a_damaged_record_ends_it():
    data = bytearray(encode([b'one', b'two', b'three']))
    data[-7] ^= 1
    assert [body for body, _ in records(bytes(data))] == [b'one', b'two']
    assert list(records(b'something else')) == []


def test_what_wandb_writes_is_read_and_written_to_the_same_bytes(session, tmp_path):
    one = session()
    one.start({'lr': 0.1}, mode='offline')
    for iteration in range(1, 400):
        one.log({'train/loss': 1 / iteration, 'iter': iteration})
    one.finish()
    path = next((tmp_path / 'run' / 'wandb').glob('offline-run-*/run-abcd1234.wandb'))
    transcript = read_transcript(path)
    assert path.stat().st_size > BLOCK and not transcript.torn
    assert [row['iter'] for row in transcript.history] == list(range(1, 400))
    assert transcript.run.project == 'landcover' and transcript.run.run_group == 'chain'
    assert encode(body for body, _ in records(path.read_bytes())) == path.read_bytes()
