"""The report in a real browser: no error, nothing fetched, a picture on a desk's and on a phone's screen."""

import io
import json
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from projects.evaluation.report import write_report

BROWSER = next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
pytestmark = pytest.mark.skipif(BROWSER is None, reason='no chromium, chromium-browser or google-chrome on PATH')
# The browser's own requests end at once: no name is resolved.
QUIET = ['--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run',
         '--disable-background-networking', '--disable-component-update', '--host-resolver-rules=MAP * ~NOTFOUND',
         '--hide-scrollbars', '--enable-logging=stderr', '--v=0']


def opened(page, folder, size, *options):
    """Open a page; return its console lines, what it asked the network for, and a screenshot."""
    folder.mkdir()
    picture, log = folder / 'page.png', folder / 'net.json'
    done = subprocess.run(
        [BROWSER, *QUIET, f'--user-data-dir={folder / "profile"}', f'--log-net-log={log}',
         f'--window-size={size[0]},{size[1]}', f'--screenshot={picture}', *options, page.as_uri()],
        capture_output=True, text=True, timeout=120)
    assert picture.is_file(), done.stderr[-2000:]
    console = [line for line in done.stderr.splitlines() if ':CONSOLE' in line]
    text = log.read_text()
    events = json.loads(text if text.rstrip().endswith('}') else text.rstrip().rstrip(',') + ']}')
    start = events['constants']['logEventTypes']['URL_REQUEST_START_JOB']
    asked = [event['params']['url'] for event in events['events']
             if event['type'] == start and event.get('params', {}).get('initiator', 'not an origin') != 'not an origin']
    return console, asked, np.asarray(Image.open(io.BytesIO(picture.read_bytes())).convert('RGB'))


@pytest.fixture
def page(make_run, parent_of, tmp_path):
    base = make_run('base', [50, 60, 70, 80], classes=('field', 'a class whose name is rather long'))
    last = make_run('last', [90, 80, 60, 80], stage='finetune', parents=[parent_of(base)],
                    classes=('field', 'a class whose name is rather long'))
    write_report([base, last], tmp_path / 'page.html')
    return tmp_path / 'page.html'


def test_two_stages_open_without_an_error_and_fetch_nothing(page, tmp_path):
    console, asked, light = opened(page, tmp_path / 'light', (1200, 1600))
    assert console == [] and asked == []
    assert light.shape == (1600, 1200, 3)
    assert light[:, :8].reshape(-1, 3).mean(0) == pytest.approx((245, 247, 250), abs=1)  # --page of the light theme
    assert len(np.unique(light.reshape(-1, 3), axis=0)) > 100  # something is drawn
    console, asked, dark = opened(page, tmp_path / 'dark', (1200, 1600), '--blink-settings=preferredColorScheme=0')
    assert console == [] and asked == []
    assert dark[:, :8].reshape(-1, 3).mean(0) == pytest.approx((18, 23, 29), abs=1)
    # The drawings follow: a page in the dark has no bright rectangle.
    assert (dark.min(2) > 200).mean() < 0.05 < (light.min(2) > 200).mean()


def test_nothing_is_wider_than_a_phone(page, tmp_path):
    """A frame as wide as a phone: the page inside must not be wider than it."""
    probe = tmp_path / 'probe.html'
    probe.write_text(f"""<iframe id="f" src="{page.as_uri()}" style="width:390px;height:800px;border:0"></iframe>
<script>f.onload = () => document.title = "wide " + f.contentDocument.documentElement.scrollWidth</script>""")
    done = subprocess.run(
        [BROWSER, *QUIET, f'--user-data-dir={tmp_path / "profile"}', '--allow-file-access-from-files', '--dump-dom',
         probe.as_uri()], capture_output=True, text=True, timeout=120)
    assert '<title>wide 390</title>' in done.stdout


def test_the_browser_would_tell(tmp_path):
    """A page that fetches and fails is seen as such: the checks above can fail."""
    bad = tmp_path / 'bad.html'
    bad.write_text('<link rel="icon" href="data:,"><img src="http://example.invalid/a.png"><script>boo()</script>')
    console, asked, _ = opened(bad, tmp_path / 'bad', (400, 300))
    assert 'boo is not defined' in console[0] and asked == ['http://example.invalid/a.png']
