"""The report: every section, nothing from outside, all text escaped, errors in one line."""

import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.evaluation.calibration import Calibration
from projects.evaluation.folder import write_evaluation
from projects.evaluation.report import embed_picture, write_report
from projects.evaluation.report.samples import choose
from projects.evaluation.result import Evaluation, SampleResult
from projects.evaluation.score_table import Score, ScoreTable, read_score_tables, write_score_table
from projects.evaluation.workdir import read_run

EVIL = '<script>alert("x")</script>'


class Parts(HTMLParser):
    """Collects tags, ids and sources; checks that tags close."""

    VOID = {'meta', 'link', 'img', 'br', 'source'}

    def __init__(self):
        super().__init__()
        self.open, self.tags, self.ids, self.targets, self.sources = [], set(), [], [], []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        values = dict(attributes)
        self.ids += [values['id']] if 'id' in values else []
        self.targets += [values['href']] if 'href' in values else []
        self.sources += [values[key] for key in ('src', 'srcset') if key in values]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture
def work_dir(tmp_path, finished_run):
    return Path(shutil.copytree(finished_run, tmp_path / 'work'))


@pytest.fixture(scope='module')
def finished_run(tmp_path_factory):
    folder = tmp_path_factory.mktemp('run')
    generator = np.random.default_rng(0)
    samples = []
    for i in range(6):
        calibration = Calibration()
        calibration.add(generator.random(50), generator.random(50) < 0.5)
        samples.append(SampleResult(f'tile_{i}', np.array([[40 + i, 3], [7 - i, 50]]), calibration))
    for split in ('test', 'val'):
        evaluation = Evaluation.from_samples(samples, ['ground', EVIL], background=0)
        write_evaluation(evaluation, folder / 'evaluation' / split,
                         {'step': 'iter_20' if split == 'val' else None, 'checkpoint': EVIL})
    (folder / 'tiny_config.py').write_text('')
    for stamp, start in (('20250101_100000', 10), ('20250101_110000', 20)):
        log = folder / stamp / f'{stamp}.log'
        (folder / stamp / 'vis_data').mkdir(parents=True)
        log.write_text('2025/01/01 10:00:00 - mmengine - INFO - \nSystem environment:\n    CUDA available: False\n'
                       '    PyTorch: 2.13.0+cpu\nRuntime environment:\n    seed: 5\n    GPU number: 2\n'
                       '2025/01/01 10:02:05 - mmengine - INFO - end\n')
        (folder / stamp / 'vis_data' / 'scalars.json').write_text(
            json.dumps({'loss': 1.0, 'lr': 0.1, 'time': 0.25, 'iter': start, 'step': start}) + '\n'
            + json.dumps({'mIoU': 0.5, 'step': start}) + '\n')
    return folder


@pytest.fixture
def manifest(tmp_path):
    path = tmp_path / 'manifest.json'
    items = [{'id': str(i), 'split': split, 'group': 0, 'pixels': [10, 30]} for i, split in
             enumerate(['train', 'train', 'test'])]
    path.write_text(json.dumps({
        'version': 1, 'taxonomy': {'classes': ['ground', EVIL], 'palette': [[1, 2, 3], [4, 5, 6]], 'taxonomy': 'two'},
        'source': {'licence': EVIL}, 'split': {'rule': 'blocks', 'seed': 3}, 'items': items}))
    return path


def test_all_sections_and_nothing_from_outside(tmp_path, work_dir, manifest):
    gallery = tmp_path / 'show'
    gallery.mkdir()
    for i in range(6):
        Image.new('RGB', (60, 20), (i, 0, 0)).save(gallery / f'tile_{i}.png')
    picture = tmp_path / 'overview.png'
    Image.new('RGBA', (3000, 20), (0, 200, 0, 128)).save(picture)
    out = tmp_path / 'pages' / 'report.html'
    write_report(work_dir, out, gallery=gallery, manifest=manifest, figures=[(EVIL, picture)], gallery_limit=3)
    text = out.read_text()
    parts = Parts()
    parts.feed(text)
    assert not parts.open
    assert parts.ids == ['scores-test', 'classes-test', 'confusion-test', 'confidence-test', 'curves', 'gallery',
                         'samples', 'figure-0', 'data', 'lineage', 'cost', 'run']
    assert 'script' not in parts.tags and '<script' not in text and 'alert(&quot;x&quot;)' in text
    assert all(source.startswith('data:image/') for source in parts.sources)
    assert all(target.startswith('#') or target == 'data:,' for target in parts.targets)
    assert not re.search(r'https?://|url\(|@import', text)
    assert {target for target in parts.targets if target[0] == '#'} == {f'#{name}' for name in parts.ids}
    for fact in ('tiny_config.py', '2025-01-01 10:00', '0:04:10 in 2 starts', '2.13.0+cpu', 'Seed', '0.250', 'blocks',
                 'Latest validation (iter 20)', '3 of 6 pictures', 'tile_5 (best', 'tile_0 (worst',
                 'No lineage.json in work', 'How the starts ended is not recorded'):
        assert fact in text, fact
    assert 'width:75.000%' in text  # 30 of 40 pixels of each split


def test_scores_are_those_of_the_test(tmp_path, work_dir):
    write_report(work_dir, tmp_path / 'r.html', title='Title <b>')
    text = (tmp_path / 'r.html').read_text()
    # summed confusion: [[255, 18], [27, 300]]
    assert 'over the classes that occur in truth or prediction' in text
    assert re.search(r'mean IoU</span><span class="value">86\.0 %', text)  # (255/300 + 300/345) / 2 = 0.8598
    assert '<title>Title &lt;b&gt;</title>' in text
    assert 'Mean IoU is <b>86.0\u00a0%</b> on 6 test images. It knows <b>&lt;script&gt;' in text
    assert '</b> best (87.0\u00a0%) and <b>ground</b> least (85.0\u00a0%).' in text
    assert 'title="ground, right: 255 px">93.4</td>' in text  # 255 / 273


def test_a_training_alone_and_a_test_alone(tmp_path, work_dir):
    (work_dir / 'evaluation').rename(tmp_path / 'kept')
    write_report(work_dir, tmp_path / 'training.html')
    assert 'id="curves"' in (tmp_path / 'training.html').read_text()
    other = tmp_path / 'other'
    other.mkdir()
    (tmp_path / 'kept').rename(other / 'evaluation')
    write_report(other, tmp_path / 'test.html')
    assert 'id="curves"' not in (tmp_path / 'test.html').read_text()


def test_iterations_are_the_furthest_that_anything_tells(work_dir):
    assert dict(read_run(work_dir).facts)['Iterations'] == '20'
    scalars = work_dir / '20250101_110000' / 'vis_data' / 'scalars.json'
    scalars.write_text(scalars.read_text() + json.dumps({'mIoU': 0.5, 'step': 25}) + '\n')
    assert dict(read_run(work_dir).facts)['Iterations'] == '25'
    (work_dir / 'last_checkpoint').write_text('/elsewhere/iter_1207.pth')
    assert dict(read_run(work_dir).facts)['Iterations'] == '1,207'
    (work_dir / 'last_checkpoint').write_text('/elsewhere/epoch_3000.pth')
    assert dict(read_run(work_dir).facts)['Iterations'] == '25'


def test_a_training_too_short_to_log_has_iterations_and_duration(work_dir):
    for path in work_dir.glob('*/vis_data/scalars.json'):
        path.unlink()
    assert not {'Iterations', 'Duration'} & set(dict(read_run(work_dir).facts))  # only tests, as far as one can tell
    (work_dir / 'last_checkpoint').write_text('/elsewhere/iter_8.pth')
    log = work_dir / '20250101_100000' / '20250101_100000.log'
    log.write_text(log.read_text().replace('end', 'Checkpoints will be saved to /elsewhere.'))
    facts = dict(read_run(work_dir).facts)
    assert (facts['Iterations'], facts['Duration']) == ('8', '0:02:05')  # of the training, not of the later test


def test_pixels_without_a_prediction_are_told(tmp_path):
    sample = SampleResult('a', np.array([[6, 2], [0, 4]]), missed=np.array([8, 0]))
    write_evaluation(Evaluation.from_samples([sample], ['ground', 'roof']), tmp_path / 'evaluation' / 'test')
    write_report(tmp_path, tmp_path / 'r.html')
    text = (tmp_path / 'r.html').read_text()
    assert '20 labelled pixels · 8 of them without a prediction, counted as wrong' in text
    assert '2 px, 12.5 % of its truth' in text


def test_choice_of_pictures():
    scored = {f's{i}': i / 10 for i in range(10)}
    assert [stem for stem, _ in choose(scored, list(scored), 4)] == ['s9', 's6', 's3', 's0']
    assert choose(scored, list(scored), 4)[0][1] == 'best' and choose(scored, list(scored), 4)[-1][1] == 'worst'
    assert [stem for stem, _ in choose({}, list(scored), 5)] == ['s0', 's2', 's4', 's6', 's8']
    assert len(choose({}, ['a'], 5)) == 1 and len(choose(scored, list(scored), 50)) == 10


def test_large_pictures_are_reduced(tmp_path):
    path = tmp_path / 'noise.png'
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (900, 900, 3), np.uint8)).save(path)
    assert path.stat().st_size > 1_000_000
    uri = embed_picture(path, 300)
    assert uri.startswith('data:image/jpeg') and len(uri) < 150_000


@pytest.mark.parametrize(('options', 'message'), [
    (lambda p: dict(work_dirs=p / 'none'), 'no such work directory'),
    (lambda p: dict(work_dirs=p), 'expected a run'),
    (lambda p: dict(gallery=p / 'none'), 'no such gallery folder'),
    (lambda p: dict(gallery=p), 'no PNG'),
    (lambda p: dict(figures=[('a', p / 'broken.dat')]), 'broken.dat: not readable as a picture'),
    (lambda p: dict(manifest=p / 'broken.dat'), 'broken.dat: not a manifest'),
    (lambda p: dict(work_dirs=[p / 'work', p / 'work' / '..' / 'work']), 'given twice'),
    (lambda p: dict(work_dirs=[p / 'work', p / 'none']), 'none: no such work directory'),
    (lambda p: dict(gallery=[p, p]), 'expected one folder, or one for each of the 1 work directories, found 2'),
])
def test_bad_input_is_named(tmp_path, work_dir, options, message):
    (tmp_path / 'broken.dat').write_text('{')
    with pytest.raises(UserError, match=message):
        write_report(**{'work_dirs': work_dir, 'out_html': tmp_path / 'r.html', **options(tmp_path)})
    assert not (tmp_path / 'r.html').exists()


def test_many_classes_of_points_in_their_own_words(tmp_path):
    """A matrix of 14 classes, one of them nowhere; what is counted are points of patches."""
    confusion = np.diag(np.arange(1, 15))
    confusion[13, 13], confusion[1, 2] = 0, 3
    classes = [f'class_{k}' for k in range(14)]
    evaluation = Evaluation.from_samples(
        [SampleResult(f'patch_{k}', confusion) for k in range(4)], classes, nouns=('patches', 'points'))
    folder = tmp_path / 'work' / 'evaluation' / 'test'
    write_evaluation(evaluation, folder)
    table = ScoreTable('points', 'Points', (Score('mIoU'),), [{'group': 'all', 'images': 4, 'mIoU': 0.5}], [],
                       'patches')
    write_score_table(table, folder)
    assert read_score_tables(folder)[0][0] == table
    write_report(tmp_path / 'work', tmp_path / 'r.html')
    text = re.sub(r'<style>.*?</style>', '', (tmp_path / 'r.html').read_text(), flags=re.DOTALL)
    assert not re.search(r'\b(images|pixels|px)\b', text)
    assert text.count('Mean IoU') == 1 and 'Points: mIoU' not in text  # the same number once
    assert 'on 4 test patches' in text and 'Worst and best patches' in text
    assert f'4 patches · {4 * int(confusion.sum()):,} labelled points' in text and '12 points, 60.0 %' in text
    matrix = re.search(r'<table class="matrix confusion many">.*?</table>', text, re.DOTALL)[0]
    assert 'class_12' in matrix and 'class_13' not in matrix and matrix.count('<td') == 13 * 13
    assert 'title="class_1 taken for class_2: 12 points">60</td>' in matrix
    assert 'title="class_2 taken for class_1: 0 points"></td>' in matrix
