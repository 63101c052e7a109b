"""The review page in a real browser, keyboard only: ten labels, a killed server, and no request to anybody else."""

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from projects.landcover.data.candidates import read_candidates
from projects.landcover.data.decisions import read_decisions, read_rows
from projects.landcover.review.session import Session
from projects.landcover.review.testing import make_candidates

playwright = pytest.importorskip('playwright.sync_api', reason='playwright is not installed')
pytest.importorskip('nicegui', reason='nicegui is not installed')
CHROMIUM = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome', 'chrome'))), None)
TOKEN = 'a-token-for-the-test'
WAIT = 20_000  # milliseconds; a busy machine is slow

pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason='no Chromium or Chrome on this machine')]


class Server:
    """The tool in a process of its own."""

    def __init__(self, repository: Path, folder: Path, *more: str) -> None:
        environment = {key: value for key, value in os.environ.items() if not key.startswith('PYTEST')}
        self.process = subprocess.Popen([sys.executable, repository / 'tools/landcover/review.py', folder, *more],
                                        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=folder.parent,
                                        env=environment)
        line = self.process.stdout.readline()
        found = re.search(r'at (http://127\.0\.0\.1:(\d+)/\S*)', line)
        assert found, line + self.process.stderr.read()
        self.address, self.port = found[1], found[2]

    def end(self, number: int) -> tuple[int, str, str]:
        """Send a signal; return status, output and errors."""
        self.process.send_signal(number)
        out, errors = self.process.communicate(timeout=30)
        return self.process.returncode, out, errors


@contextmanager
def serving(repository: Path, folder: Path, *more: str) -> Iterator[Server]:
    server = Server(repository, folder, *more)
    try:
        yield server
    finally:
        if server.process.poll() is None:
            server.process.kill()
            server.process.communicate()


@pytest.fixture(scope='module')
def browser() -> Iterator[Any]:
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=['--no-sandbox', '--disable-gpu'])
        yield browser
        browser.close()


class Reviewer:
    """A person at a keyboard, who also listens to what the page says and asks for."""

    def __init__(self, context: Any) -> None:
        self.page = context.new_page()
        self.complaints: list[str] = []
        self.addresses: set[str] = set()
        self.page.on('console', lambda message: self.complaints.append(message.text)
                     if message.type in ('error', 'warning') else None)
        self.page.on('pageerror', lambda error: self.complaints.append(str(error)))
        self.page.on('request', lambda request: self.addresses.add(request.url))
        self.page.on('websocket', lambda socket: self.addresses.add(socket.url))

    def open(self, address: str, title: str) -> None:
        self.page.goto(address)
        self.wait(title)

    def wait(self, title: str) -> None:
        """Wait until an image is really there: the heading names it and its pictures are decoded."""
        self.page.wait_for_function('title => document.title === `Label review: ${title}`', arg=title, timeout=WAIT)

    def press(self, key: str, title: str) -> None:
        self.page.keyboard.press(key)
        self.wait(title)

    def text(self, selector: str) -> str:
        return self.page.inner_text(selector)


def hosts(addresses: set[str]) -> set[str]:
    return {re.match(r'(?:https?|wss?)://([^/]+)', address)[1] for address in addresses if not address.startswith(
        ('data:', 'blob:'))}


def test_ten_labels_by_keyboard_through_a_killed_server(browser: Any, repository: Path, tmp_path: Path) -> None:
    folder = make_candidates(tmp_path, items=10)
    path = folder / 'decisions.csv'
    order = [Session(read_candidates(folder), path).order(number) for number in range(10)]
    assert len({*order}) == 2  # else the blinding would not be seen
    tiles = [f'tile_{number:02d}' for number in range(10)]

    def decided() -> dict[str, str]:
        return {key: row.decision for key, row in read_decisions(path).items()}

    context = browser.new_context(viewport={'width': 1280, 'height': 800})
    with serving(repository, folder) as server:
        person = Reviewer(context)
        person.open(server.address, tiles[0])
        expected: dict[str, str] = {}
        for number, key in enumerate(['k', '1', '2', 's']):
            person.press(key, tiles[number + 1])
            expected[tiles[number]] = {'k': 'keep', 's': 'skip'}.get(key) or order[number][int(key) - 1]
            assert decided() == expected
        assert person.text('.count') == '4 of 10' and person.text('.counts') == '1 kept · 2 replaced · 1 skipped'

        person.press('u', tiles[3])
        del expected[tiles[3]]
        assert decided() == expected and read_rows(path)[-1].decision == ''
        person.press('z', tiles[2])
        person.press('1', tiles[3])
        expected[tiles[2]] = order[2][0]
        assert decided() == expected

        # Keys in the note are text; Enter leaves it, and the note is on disk although nothing is decided.
        person.page.keyboard.press('n')
        person.page.keyboard.type('skip? 12 kusz')
        person.page.keyboard.press('Enter')
        person.page.wait_for_function('document.activeElement.tagName !== "TEXTAREA"')
        person.page.wait_for_function('document.querySelector(".status").textContent === "note saved"', timeout=WAIT)
        assert read_rows(path)[-1].note == 'skip? 12 kusz' and decided() == expected
        person.press('ArrowRight', tiles[4])
        person.press('ArrowLeft', tiles[3])
        assert person.page.input_value('textarea') == 'skip? 12 kusz'
        person.press('K', tiles[4])
        expected[tiles[3]] = 'keep'
        assert decided() == expected and read_decisions(path)[tiles[3]].note == 'skip? 12 kusz'

        # What is only looked at changes no file.
        size = path.stat().st_size
        keys = ['d', '+', '-', '-', 'h', 'h', '.', '.', 'Shift+ArrowRight', ',', '0', 'x', '3', 'Control+k', '?']
        for key in keys:
            person.page.keyboard.press(key)
        assert person.page.is_visible('.help')
        person.page.keyboard.press('k')  # the page behind the help hears nothing
        person.page.keyboard.press('Escape')
        assert not person.page.is_visible('.help') and path.stat().st_size == size
        assert person.text('.slider output') == '50 %'
        assert person.page.get_attribute('[data-kind="1"] .layer', 'src').startswith('/picture/4/1-difference?')
        widths = person.page.evaluate('[...document.querySelectorAll(".plane")].map(p => p.clientWidth)')
        assert len(widths) == 4 and len(set(widths)) == 1 and widths[0] > 300
        assert person.page.evaluate('document.documentElement.scrollHeight <= innerHeight && '
                                    'document.documentElement.scrollWidth <= innerWidth')
        if os.environ.get('TERRACE_REVIEW_SCREENSHOT'):
            person.page.screenshot(path=os.environ['TERRACE_REVIEW_SCREENSHOT'])
        assert person.complaints == [] and hosts(person.addresses) == {f'127.0.0.1:{server.port}'}
        assert server.end(signal.SIGKILL)[0] == -signal.SIGKILL
        person.page.close()

    with serving(repository, folder) as server:
        person = Reviewer(context)
        person.open(server.address, tiles[4])  # goes on where it was killed
        assert person.page.input_value('.opacity') == '60'
        person.page.keyboard.press('+')
        for number, key in zip(range(4, 10), ['2', 'k', '1', '2', 's', 'k']):
            person.press(key, tiles[number + 1] if number < 9 else 'done')
            expected[tiles[number]] = {'k': 'keep', 's': 'skip'}.get(key) or order[number][int(key) - 1]
            assert decided() == expected
        assert (person.page.input_value('.opacity'), person.text('.slider output')) == ('70', '70 %')
        assert person.page.is_visible('text=Every label is decided') and person.text('.count') == '10 of 10'
        person.press('u', tiles[9])
        del expected[tiles[9]]
        assert decided() == expected
        person.press('1', 'done')
        expected[tiles[9]] = order[9][0]
        assert decided() == expected
        assert person.complaints == [] and hosts(person.addresses) == {f'127.0.0.1:{server.port}'}
        person.page.reload()
        person.wait('done')
        status, out, errors = server.end(signal.SIGTERM)
    assert (status, errors) == (0, '')
    assert re.search(r'10 of 10 decided: 3 kept, 6 replaced, 1 skipped', out)
    assert sorted(entry.name for entry in folder.iterdir()) == [
        '.decisions.csv.lock', 'candidates.json', 'decisions.csv', 'predictions']
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ['candidates', 'data']
    context.close()


def test_a_label_that_has_changed_is_told_and_can_only_be_skipped(browser: Any, repository: Path,
                                                                  tmp_path: Path) -> None:
    folder = make_candidates(tmp_path, items=2, letters='abc')
    context = browser.new_context(viewport={'width': 900, 'height': 700}, color_scheme='dark')
    with serving(repository, folder, '--token') as server:
        assert re.search(r'/\?token=[0-9a-f]{32}$', server.address)  # made here: no list of processes shows it
        person = Reviewer(context)
        (tmp_path / 'data/masks/tile_00.png').write_bytes(b'no picture')
        person.open(server.address, 'tile_00')
        assert 'has changed since the candidates were made' in person.text('.problem')
        person.page.keyboard.press('k')
        person.page.wait_for_selector('.review[aria-busy=false]', timeout=WAIT)  # the server has refused it
        assert not (folder / 'decisions.csv').exists()
        person.press('s', 'tile_01')
        person.page.click('[data-choice="3"]')  # a mouse does as well
        person.wait('done')
        row = read_decisions(folder / 'decisions.csv')['tile_01']
        assert row.decision == row.order[2] and sorted(row.order) == ['a', 'b', 'c']
        assert server.end(signal.SIGINT)[0] == 0
    context.close()


def test_a_token_is_needed_where_one_is_set(browser: Any, repository: Path, tmp_path: Path) -> None:
    folder = make_candidates(tmp_path, items=1)

    def status(address: str, **headers: str) -> int:
        try:
            with urllib.request.urlopen(urllib.request.Request(address, headers=headers), timeout=20) as answer:
                return answer.status
        except urllib.error.HTTPError as error:
            return error.code

    with serving(repository, folder, '--token', TOKEN) as server:
        bare = f'http://127.0.0.1:{server.port}/'
        assert server.address == f'{bare}?token={TOKEN}'
        assert [status(bare), status(f'{bare}?token=wrong'), status(f'{bare}picture/0/image')] == [401, 401, 401]
        assert status(f'{bare}?token={TOKEN}', Host='evil.example') == 403
        assert status(f'{bare}_nicegui_ws/socket.io/?EIO=4&transport=polling') == 401
        context = browser.new_context()
        person = Reviewer(context)
        person.open(server.address, 'tile_00')
        assert person.page.url == bare  # no token in history
        assert person.page.evaluate('fetch("/picture/0/..%2F..%2Fcandidates.json").then(r => r.status)') in (404, 409)
        assert person.page.evaluate('fetch("/picture/7/image").then(r => r.status)') == 409
        person.press('k', 'done')
        context.close()
        assert server.end(signal.SIGINT)[0] == 0
