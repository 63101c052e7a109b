"""The review without a browser: candidates and their paths, the session, pictures, and who is let in."""

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.engine.files import sha256_of
from projects.engine.lock import held
from projects.landcover.data.candidates import inside, read_candidates
from projects.landcover.data.decisions import read_decisions, read_rows
from projects.landcover.review.guard import Guard, check_access, is_loopback
from projects.landcover.review.pictures import BRIGHT, CLEAR, DARK, HATCH, Pictures, encode_classes
from projects.landcover.review.server import BUSY, address, listen, lock_of, serve
from projects.landcover.review.session import Session
from projects.landcover.review.testing import change, make_candidates
from projects.landcover.taxonomy import get_taxonomy

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
TOKEN = 'correct horse battery'


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return make_candidates(tmp_path, items=4)


def open_session(folder: Path) -> Session:
    return Session(read_candidates(folder), folder / 'decisions.csv', now=lambda: NOW)


def edit_item(folder: Path, **values: Any) -> None:
    change(folder / 'candidates.json', lambda content: content['items'][1].update(values))


# Candidates and their paths


def test_candidates_come_sorted_by_rank(folder: Path) -> None:
    change(folder / 'candidates.json', lambda content: content['items'].reverse())
    candidates = read_candidates(folder)
    assert [item.rank for item in candidates.items] == [1, 2, 3, 4]
    assert candidates.letters == ('a', 'b')
    assert candidates.items[0].mask.read() == (folder.parent / 'data/masks/tile_00.png').read_bytes()


@pytest.mark.parametrize('name', ['/etc/passwd', '../data/masks/tile_00.png', 'predictions/../../x', '~/x', '',
                                  'predictions\\x', 'a\0b'])
def test_names_that_are_absolute_or_climb_are_refused(folder: Path, name: str) -> None:
    with pytest.raises(UserError, match='refused'):
        inside(folder, name)
    edit_item(folder, predictions={'a': name, 'b': 'predictions/b/tile_01.png'})
    with pytest.raises(UserError, match=r'items\[1\] \(tile_01\).*refused'):
        read_candidates(folder)


def test_symlinks_out_are_refused_for_predictions_and_masks(folder: Path, tmp_path: Path) -> None:
    outside = tmp_path / 'secret.png'
    shutil.copy(folder / 'predictions/a/tile_01.png', outside)
    (folder / 'predictions/a/tile_01.png').unlink()
    (folder / 'predictions/a/tile_01.png').symlink_to(outside)
    with pytest.raises(UserError, match=r'refused: leads out of .*secret\.png'):
        read_candidates(folder)
    (folder / 'predictions/a/tile_01.png').unlink()
    shutil.copy(outside, folder / 'predictions/a/tile_01.png')
    read_candidates(folder)
    mask = tmp_path / 'data/masks/tile_01.png'
    shutil.move(mask, outside)
    mask.symlink_to(outside)
    with pytest.raises(UserError, match='refused: leads out'):
        read_candidates(folder)


def test_a_folder_that_is_a_symlink_out_is_refused_even_for_images(folder: Path, tmp_path: Path) -> None:
    shutil.move(tmp_path / 'data/images', tmp_path / 'elsewhere')
    (tmp_path / 'data/images').symlink_to(tmp_path / 'elsewhere')
    with pytest.raises(UserError, match='refused: leads out'):
        read_candidates(folder)


def test_an_image_may_be_a_link_but_only_to_the_bytes_of_the_manifest(folder: Path, tmp_path: Path) -> None:
    image, outside = tmp_path / 'data/images/tile_01.png', tmp_path / 'source.png'
    shutil.move(image, outside)
    image.symlink_to(outside)  # as combine.py makes them
    item = read_candidates(folder).items[1]
    assert item.image.read() == outside.read_bytes()
    image.unlink()
    image.symlink_to(tmp_path / 'data/masks/tile_01.png')
    with pytest.raises(UserError, match='has changed since the candidates were made'):
        item.image.read()


def test_a_prediction_swapped_for_a_link_after_the_start_is_not_shown(folder: Path, tmp_path: Path) -> None:
    item = read_candidates(folder).items[0]
    path = folder / 'predictions/a/tile_00.png'
    shutil.move(path, tmp_path / 'same.png')
    path.symlink_to(tmp_path / 'same.png')
    with pytest.raises(UserError, match='leads out'):
        item.predictions['a'].read()


@pytest.mark.parametrize(('values', 'message'), [
    ({'split': 'test'}, 'belongs to the test split'),
    ({'sample_id': 'nobody'}, 'not in the manifest'),
    ({'image': 'images/tile_00.png'}, r"image: expected 'images/tile_01.png' as in the manifest"),
    ({'mask': 'manifest.json'}, 'mask: expected'),
    ({'rank': '2'}, "rank and score: expected numbers, found '2'"),
    ({'score': [1]}, 'rank and score: expected numbers'),
    ({'predictions': {'a': 1, 'b': 2}}, 'predictions: expected texts'),
    ({'predictions': {'a': 'predictions/a/tile_01.png'}}, 'expected one for each of a, b'),
    ({'sample_id': 'tile_00', 'image': 'images/tile_00.png', 'mask': 'masks/tile_00.png'}, 'each once'),
])
def test_candidates_that_do_not_fit_the_manifest_are_refused(folder: Path, values: dict, message: str) -> None:
    edit_item(folder, **values)
    with pytest.raises(UserError, match=message):
        read_candidates(folder)


def test_what_a_filter_took_away_since_is_left_out(folder: Path, tmp_path: Path) -> None:
    def filtered(content: dict) -> None:
        content['filtered'] = [{'number': 1, 'items': [content['items'].pop(1)]}]

    change(tmp_path / 'data/manifest.json', filtered)
    (tmp_path / 'data/masks/tile_01.png').unlink()
    candidates = read_candidates(folder)
    assert [item.sample_id for item in candidates.items] == ['tile_00', 'tile_02', 'tile_03']
    assert candidates.filtered == ('tile_01',)
    change(folder / 'candidates.json', lambda content: content.update(items=content['items'][1:2]))
    with pytest.raises(UserError, match='all its samples were filtered away since: nothing to review'):
        serve(folder)


def test_a_sample_of_the_test_split_is_refused_whatever_the_candidates_say(folder: Path, tmp_path: Path) -> None:
    change(tmp_path / 'data/manifest.json', lambda content: content['items'][1].update(split='test'))
    with pytest.raises(UserError, match='belongs to the test split'):
        read_candidates(folder)


@pytest.mark.parametrize(('edit', 'message'), [
    (lambda content: content.update(version=2), 'version: expected 1, found 2'),
    (lambda content: content.pop('models'), r"keys \['models'\] are missing"),
    (lambda content: content['models'][0].update(letter='keep'), 'different letters'),
    (lambda content: content['items'].clear(), 'expected samples'),
])
def test_wrong_candidates_are_told(folder: Path, edit: Any, message: str) -> None:
    change(folder / 'candidates.json', edit)
    with pytest.raises(UserError, match=message):
        read_candidates(folder)


# The session


def test_the_order_is_shuffled_by_image_and_always_alike(tmp_path: Path) -> None:
    folder = make_candidates(tmp_path, items=16, size=32)
    orders = [open_session(folder).order(number) for number in range(16)]
    assert orders == [open_session(folder).order(number) for number in range(16)]
    assert 4 <= orders.count(('a', 'b')) <= 12 and set(orders) == {('a', 'b'), ('b', 'a')}


def test_a_decision_is_on_disk_with_the_true_letter(folder: Path) -> None:
    session = open_session(folder)
    choices = ['keep', '1', '2', 'skip']
    expected = ['keep', session.order(1)[0], session.order(2)[1], 'skip']
    following = [session.decide(number, choice, f'note {number}') for number, choice in enumerate(choices)]
    assert following == [1, 2, 3, None]
    rows = list(read_decisions(session.path).values())
    assert [row.decision for row in rows] == expected
    assert [row.order for row in rows] == [''.join(session.order(number)) for number in range(4)]
    assert {row.time for row in rows} == {'2026-01-02T03:04:05+00:00'} and rows[2].note == 'note 2'
    counts = session.counts()
    assert (counts.total, counts.decided, counts.kept, counts.replaced, counts.skipped) == (4, 4, 1, 2, 1)
    assert [session.shown(number) for number in range(4)] == choices


def test_a_new_session_goes_on_and_undoes_what_the_old_one_decided(folder: Path) -> None:
    first = open_session(folder)
    assert first.next_undecided() == 0
    first.decide(0, 'keep')
    first.decide(2, '1', 'roof')
    second = open_session(folder)
    assert second.next_undecided() == 1 and second.next_undecided(after=1) == 3 and second.shown(2) == '1'
    assert second.undo() == 2
    assert second.note(2) == 'roof' and second.next_undecided(after=1) == 2
    assert list(read_decisions(second.path)) == ['tile_00']
    assert second.undo() == 0 and second.undo() is None
    assert [row.decision == '' for row in read_rows(second.path)] == [False, False, True, True]
    assert open_session(folder).note(2) == 'roof'  # an undone decision keeps its note


def test_undo_takes_the_latest_decision_also_when_it_was_changed(folder: Path) -> None:
    session = open_session(folder)
    for number, choice in ((0, 'keep'), (1, 'keep'), (0, 'skip')):
        session.decide(number, choice)
    assert session.undo() == 0 and session.shown(0) is None and session.shown(1) == 'keep'


def test_notes_are_written_at_once_and_do_not_decide(folder: Path) -> None:
    session = open_session(folder)
    assert session.write_note(0, 'two\nlines') and not session.write_note(0, 'two lines')
    assert not session.write_note(1, '  ') and read_decisions(session.path) == {}
    assert open_session(folder).note(0) == 'two lines' and session.shown(0) is None
    session.decide(1, 'keep')
    session.write_note(1, 'yes')
    assert read_decisions(session.path)['tile_01'].decision == 'keep'


def test_no_decision_about_files_that_have_changed(folder: Path, tmp_path: Path) -> None:
    session = open_session(folder)
    mask = tmp_path / 'data/masks/tile_00.png'
    mask.write_bytes(mask.read_bytes() + b' ')
    for choice in ('keep', '1'):
        with pytest.raises(UserError, match='has changed since'):
            session.decide(0, choice)
    assert not session.path.exists()
    assert session.decide(0, 'skip') == 1


def test_a_decision_that_cannot_be_written_does_not_count(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    session = open_session(folder)

    def full(*_: Any) -> None:
        raise OSError(28, 'No space left on device')

    monkeypatch.setattr('projects.landcover.review.session.append_decision', full)
    with pytest.raises(OSError, match='No space'):
        session.decide(0, 'keep')
    assert session.shown(0) is None


@pytest.mark.parametrize('choice', ['a', '0', '3', '', 'K'])
def test_unknown_choices_are_refused(folder: Path, choice: str) -> None:
    with pytest.raises(UserError, match='expected keep, skip or 1 to 2'):
        open_session(folder).decide(0, choice)


def test_rows_of_other_samples_are_left_alone(folder: Path) -> None:
    (folder / 'decisions.csv').write_text('sample_id,decision\nstranger,keep\n')
    session = open_session(folder)
    assert session.foreign == ['stranger'] and session.counts().decided == 0 and session.undo() is None


# Pictures


def test_pictures_of_an_item(folder: Path) -> None:
    pictures = Pictures(read_candidates(folder))
    data, media = pictures.image(0)
    assert media == 'image/jpeg' and Image.open(io.BytesIO(data)).size == (48, 48)
    label = Image.open(io.BytesIO(pictures.classes(0)[0])).convert('RGB')
    palette = get_taxonomy('landcover6').palette
    assert label.getpixel((10, 10)) == palette[3] and label.getpixel((40, 40)) == palette[0]
    assert pictures.present(0) == [0, 3]
    assert pictures.share(0, 'a') == pytest.approx(2 * 16 / 48**2)
    assert pictures.share(0, 'b') == pytest.approx(4 * 16 / 48**2)


def test_the_difference_shows_the_prediction_where_it_differs_and_nothing_elsewhere(folder: Path) -> None:
    pictures = Pictures(read_candidates(folder))
    indices = np.array(Image.open(io.BytesIO(pictures.difference(0, 'a')[0])))
    assert (indices[8, 8:24] == 0).all() and (indices[24, 8:24] == 3).all()  # the square left row 8, came to row 24
    assert indices[16, 16] == CLEAR and indices[40, 40] == CLEAR
    assert indices[7, 10] == BRIGHT and indices[6, 10] == DARK
    rgba = Image.open(io.BytesIO(pictures.difference(0, 'a')[0])).convert('RGBA')
    assert rgba.getpixel((40, 40))[3] == 0 and rgba.getpixel((10, 24)) == (*get_taxonomy('landcover6').palette[3], 255)
    of_label = np.array(Image.open(io.BytesIO(pictures.difference(0)[0])))
    assert (of_label[8:10, 8:24] == 3).all() and (of_label[24:26, 8:24] == 0).all()  # where any of them differs


def test_ignored_pixels_are_hatched() -> None:
    indices = np.array(Image.open(io.BytesIO(encode_classes(np.full((8, 8), 255, np.uint8),
                                                            get_taxonomy('landcover6')))))
    assert set(np.unique(indices)) == set(HATCH)


def test_large_and_deep_images_are_reduced_and_stretched(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / 'data/images/tile_00.png'
    Image.fromarray((np.arange(2100 * 32) // 2).astype(np.uint16).reshape(32, 2100)).save(path)
    change(tmp_path / 'data/manifest.json', lambda content: content['items'][0].update(image_sha256=sha256_of(path)))
    picture = Image.open(io.BytesIO(Pictures(read_candidates(folder)).image(0)[0]))
    assert picture.size == (2048, 31)
    assert np.asarray(picture)[0].mean() < 20 and np.asarray(picture)[-1].mean() > 235


def test_a_raster_that_names_other_files_is_no_image(folder: Path, tmp_path: Path) -> None:
    path = tmp_path / 'data/images/tile_00.tif'
    path.write_text('<VRTDataset rasterXSize="48" rasterYSize="48"><VRTRasterBand dataType="Byte" band="1">'
                    f'<SimpleSource><SourceFilename>{tmp_path}/data/masks/tile_00.png</SourceFilename>'
                    '<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>')
    for file in (tmp_path / 'data/manifest.json', folder / 'candidates.json'):
        change(file, lambda content: content['items'][0].update(image='images/tile_00.tif'))
    change(tmp_path / 'data/manifest.json', lambda content: content['items'][0].update(image_sha256=sha256_of(path)))
    with pytest.raises(UserError, match='not a readable image'):
        Pictures(read_candidates(folder)).image(0)


def test_a_mask_with_foreign_labels_or_of_another_size_is_told(folder: Path) -> None:
    def replace(labels: np.ndarray) -> Pictures:
        path = folder / 'predictions/a/tile_01.png'
        Image.fromarray(labels).save(path)
        change(folder / 'candidates.json',
               lambda content: content['items'][1]['prediction_sha256'].update(a=sha256_of(path)))
        return Pictures(read_candidates(folder))

    with pytest.raises(UserError, match=r'labels outside taxonomy.*found 9'):
        replace(np.full((48, 48), 9, np.uint8)).classes(1, 'a')
    with pytest.raises(UserError, match='expected an index mask of 48 x 48, found 47 x 48'):
        replace(np.zeros((48, 47), np.uint8)).classes(1, 'a')


def test_pictures_are_found_by_number_and_kind_only(folder: Path) -> None:
    pytest.importorskip('nicegui')
    from projects.landcover.review.page import find_picture

    session = open_session(folder)
    pictures = Pictures(session.candidates)
    for number in range(4):
        for place, letter in enumerate(session.order(number), 1):
            assert find_picture(session, pictures, number, str(place)) == pictures.classes(number, letter)
            assert find_picture(session, pictures, number, f'{place}-difference') == pictures.difference(number, letter)
    assert find_picture(session, pictures, 0, 'label') == pictures.classes(0)
    for number, kind in ((0, 'a'), (0, '3'), (0, '..'), (0, 'image-difference'), (4, 'image'), (-1, 'image'),
                         (0, 'label-x'), (0, '')):
        with pytest.raises(UserError, match='no such picture|item -?[0-9]+: expected'):
            find_picture(session, pictures, number, kind)


# Who is let in


def ask(guard: Guard, path: str = '/', query: str = '', kind: str = 'http', **headers: str) -> tuple[int, dict, bool]:
    """Return status, headers and whether the application behind was reached."""
    reached: list[bool] = []
    sent: list[dict] = []

    async def receive() -> dict:
        return {'type': 'websocket.connect'}

    async def send(message: dict) -> None:
        sent.append(message)

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(True)
        await send({'type': 'http.response.start', 'status': 200, 'headers': []})

    guard.app = app
    headers = {'host': '127.0.0.1:8000', **headers}
    scope = {'type': kind, 'path': path, 'query_string': query.encode(),
             'headers': [(name.encode(), value.encode()) for name, value in headers.items()]}
    asyncio.run(guard(scope, receive, send))
    found = {name.decode(): value.decode() for name, value in sent[0].get('headers', [])}
    return sent[0].get('status', sent[0].get('code')), found, bool(reached)


@pytest.mark.parametrize('host', ['localhost', 'LOCALHOST:80', '127.0.0.1:1', '[::1]:8000', '127.9.9.9'])
def test_this_machine_is_let_in(host: str) -> None:
    status, headers, reached = ask(Guard(None, '127.0.0.1', None), host=host)
    assert status == 200 and reached
    assert "default-src 'self'" in headers['content-security-policy'] and headers['x-frame-options'] == 'DENY'


@pytest.mark.parametrize('kind', ['http', 'websocket'])
@pytest.mark.parametrize('headers', [
    {'host': 'evil.example'}, {'host': 'evil.example:8000'}, {'host': ''}, {'host': '127.0.0.1.evil.example'},
    {'host': '127.0.0.1@evil.example'}, {'host': '[::1'},
    {'origin': 'http://evil.example'}, {'origin': 'null'}, {'origin': 'http://127.0.0.1:9000'},
])
def test_foreign_names_and_foreign_pages_are_refused(kind: str, headers: dict[str, str]) -> None:
    status, _, reached = ask(Guard(None, '127.0.0.1', None), kind=kind, **headers)
    assert not reached and status == (403 if kind == 'http' else 1008)


def test_the_own_page_may_open_a_websocket() -> None:
    assert ask(Guard(None, '127.0.0.1', None), kind='websocket', origin='http://127.0.0.1:8000')[2]


@pytest.mark.parametrize('kind', ['http', 'websocket'])
@pytest.mark.parametrize(('query', 'cookie'), [('', ''), ('token=wrong', ''), ('token=', ''), ('', 'terrace_review=x'),
                                               ('tokens=' + TOKEN, ''), ('', 'broken; =;')])
def test_no_token_and_wrong_tokens_are_refused(kind: str, query: str, cookie: str) -> None:
    status, headers, reached = ask(Guard(None, '0.0.0.0', TOKEN), '/picture/0/image', query, kind, cookie=cookie)
    assert not reached and status == (401 if kind == 'http' else 1008) and 'set-cookie' not in headers


def test_the_token_becomes_a_cookie_and_leaves_the_address() -> None:
    guard = Guard(None, '0.0.0.0', TOKEN)
    status, headers, reached = ask(guard, '//evil.example', 'x=1&token=correct+horse+battery', host='box:1')
    assert (status, headers['location'], reached) == (303, '/evil.example?x=1', False)
    cookie = headers['set-cookie'].split(';')[0]
    assert 'HttpOnly' in headers['set-cookie'] and 'SameSite=Strict' in headers['set-cookie']
    assert TOKEN not in headers['set-cookie']
    for kind in ('http', 'websocket'):
        assert ask(guard, kind=kind, cookie=f'other=1; {cookie}', host='box:1')[2]
    assert not ask(guard, cookie=cookie, host='box:1', origin='http://evil.example')[2]
    assert not ask(Guard(None, '0.0.0.0', TOKEN + '!'), cookie=cookie)[2]


def test_a_network_needs_a_token_worth_the_name() -> None:
    for host in ('0.0.0.0', '::', '192.168.1.5', 'box.example'):
        assert not is_loopback(host)
        with pytest.raises(UserError, match='--token'):
            check_access(host, None)
    with pytest.raises(UserError, match='at least 16 characters, found 5'):
        check_access('127.0.0.1', 'guess')
    check_access('localhost', None)
    check_access('0.0.0.0', TOKEN)


def test_addresses() -> None:
    assert address('127.0.0.1', 80, None) == 'http://127.0.0.1:80/'
    assert address('::1', 5, 'a&b') == 'http://[::1]:5/?token=a%26b'


# Starting


def test_mistakes_are_told_before_anything_starts(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match='give a --token too'):
        serve(folder, host='0.0.0.0')
    with pytest.raises(UserError, match='not a candidates folder'):
        serve(tmp_path)
    with pytest.raises(UserError, match=r'expected a \.csv or \.json file'):
        serve(folder, folder / 'decisions.xlsx')
    with listen('127.0.0.1', 0) as taken, pytest.raises(UserError, match='--port .*in use'):
        listen('127.0.0.1', taken.getsockname()[1])
    with pytest.raises(UserError, match='--port: expected 0 to 65535, found 70000'):
        listen('127.0.0.1', 70000)


def test_one_server_for_a_decisions_file(folder: Path, repository: Path) -> None:
    pytest.importorskip('nicegui')
    with held(lock_of(folder / 'decisions.csv'), 'decisions.csv', BUSY):
        environment = {key: value for key, value in os.environ.items() if not key.startswith('PYTEST')}
        found = subprocess.run([sys.executable, repository / 'tools/landcover/review.py', folder], text=True,
                               capture_output=True, timeout=60, env=environment)
    assert found.returncode == 2 and f'process {os.getpid()} on ' in found.stderr
    assert 'is serving its review' in found.stderr
    assert found.stdout == '' and len(found.stderr.splitlines()) == 1
    assert json.loads((folder / 'candidates.json').read_text())['version'] == 1
