"""The report of several runs: the answer, differences, lineage back to the data, cost."""

import json
import re

import pytest
from PIL import Image

from projects.engine.errors import UserError
from projects.evaluation.config_difference import config_differences
from projects.evaluation.report import write_report
from projects.evaluation.report.data import _amount
from projects.evaluation.report.page import signed


def visible(path) -> str:
    """Return a page's words without its tags and pictures."""
    page = path.read_text()
    page = re.sub(r'<style>.*?</style>', '', page, flags=re.DOTALL)
    page = page.replace('&nbsp;', ' ').replace('\xa0', ' ')
    return ' '.join(re.sub(r'<[^>]*>', ' ', page).split())


def section(path, anchor) -> str:
    return re.search(rf'<section id="{anchor}">(.*?)</section>', path.read_text(), re.DOTALL)[1]


@pytest.fixture
def stages(make_run, parent_of):
    base = make_run('base', [50, 60, 70, 80])
    return base, make_run('last', [90, 80, 60, 80], stage='finetune', parents=[parent_of(base)])


def test_the_page_begins_with_the_answer(stages, tmp_path):
    out = tmp_path / 'r.html'
    write_report(stages[::-1], out)
    words = visible(out)
    # 260 and 310 of 400 field pixels are right, all 200 of roof: (0.65 + 200/340) / 2 and (0.775 + 200/290) / 2
    assert ('finetune is best: mean IoU 73.2 % on the test images, 11.3 points above baseline (61.9 %). '
            'field gained most (+12.5). Image by image finetune is better on 2 of 4 and worse on 1. '
            'Each stage ran once: how much another seed would change is not known.') in words
    assert words.index('In short finetune is best') < words.index('Stages stage')
    assert 'baseline → finetune' in words and 'net_tiny · 2 stages · ordered by lineage' in words


def test_differences_have_signs_and_the_best_is_marked(stages, tmp_path):
    out = tmp_path / 'r.html'
    write_report(stages, out)
    table = section(out, 'stages')
    assert re.search(r'class="best"><span class="score">73.2 %</span><br><small><span class="good">\+11.3', table)
    assert re.search(r'class="plain"><span class="score">61.9 %</span></td>', table)
    classes = section(out, 'classes')
    assert classes.index('field') < classes.index('roof')  # +12.5 before +10.1
    assert '<span class="good">+12.5</span>' in classes and '<span class="good">+10.1</span>' in classes
    confusion = section(out, 'confusion')
    assert 'title="field, right: +12.5 points">+12.5</td>' in confusion
    assert '--tone:var(--good)" title="field taken for roof: −12.5 points">−12.5</td>' in confusion
    images = section(out, 'samples')
    assert images.index('gained most') < images.index('tile_0') < images.index('lost most') < images.rindex('tile_2')
    assert '<span class="bad">−' in images


def test_a_worse_stage_and_a_lower_calibration_error_are_coloured_rightly(make_run, tmp_path):
    out = tmp_path / 'r.html'
    write_report([make_run('a', [80] * 4), make_run('b', [70] * 4, stage='finetune')], out)
    assert 'baseline is best' in visible(out)
    assert '<span class="bad">−' in section(out, 'stages') and '<span class="good">' not in section(out, 'stages')


def test_seeds_tell_noise(make_run, tmp_path):
    base = [make_run(f'b{seed}', [50 + 10 * seed] * 4, seed=seed) for seed in range(3)]
    last = [make_run(f'f{seed}', [52 + 10 * seed] * 4, seed=seed, stage='finetune') for seed in range(3)]
    far = [make_run(f'g{seed}', [95 + seed] * 4, seed=seed, stage='distil') for seed in range(3)]
    write_report([*base, *last], tmp_path / 'near.html')
    words = visible(tmp_path / 'near.html')
    assert 'That is within noise: by seed alone such a difference scatters by ±' in words
    assert '(3 runs of finetune and 3 runs of baseline)' in words and 'seeds 0, 1, 2' in words
    assert '2 stages in 6 runs' in words and 'baseline (seed 1)' in words
    write_report([*base, *far], tmp_path / 'far.html')
    assert 'That is more than noise' in visible(tmp_path / 'far.html')


def test_repetitions_alone_tell_their_scatter(make_run, tmp_path):
    write_report([make_run(f'b{seed}', [50 + 10 * seed] * 4, seed=seed) for seed in range(3)], tmp_path / 'r.html')
    words = visible(tmp_path / 'r.html')
    # (0.5 + 0.5) / 2, (0.6 + 50/90) / 2, (0.7 + 50/80) / 2
    assert ('baseline repeated: mean IoU 58.0 % ± 8.1 points on the test images, over 3 of 3 runs that differ in the '
            'seed alone (50.0 % to 66.2 %).') in words
    assert 'baseline (seed 2)' in words and '1 stage in 3 runs' in words


def test_what_cannot_be_compared_is_not(make_run, tmp_path):
    out = tmp_path / 'r.html'
    write_report([make_run('a', [80] * 4), make_run('b', [70] * 4, stage='finetune', classes=('x', 'y'))], out)
    words = visible(out)
    assert 'No comparison of scores: finetune has other classes than baseline, so their numbers must not be' in words
    assert 'Left out: the stages have different classes.' in words
    assert 'class="good"' not in section(out, 'stages') and 'class="best"' not in section(out, 'stages')


def test_the_page_tells_what_differs_in_the_configs(make_run, tmp_path):
    folders = [make_run('a', [80] * 4, lineage=False, config='x = dict(lr=1e-3, y=[dict(k=1)], z=(1, 2))\nw = 3\n'),
               make_run('b', [70] * 4, lineage=False, seed=1, config='x = dict(lr=5e-4, y=[dict(k=2)], z=(1, 2))\n')]
    write_report(folders, tmp_path / 'r.html')
    table = section(tmp_path / 'r.html', 'config')
    assert re.findall(r'<code>(.*?)</code>', table) == ['x.lr', '0.001', '0.0005', 'x.y.0.k', '1', '2', 'w', '3']
    assert table.count('–') == 1
    assert config_differences(['a = {', 'a = {"b": 1, "c": f()}']) == [('a.b', [None, '1']), ('a.c', [None, 'f()'])]


def test_runs_without_scores_still_have_curves(make_run, tmp_path):
    folders = [make_run('a', [80] * 4), make_run('b', [70] * 4, stage='finetune')]
    for folder in folders:
        (folder / 'evaluation').rename(folder / 'kept')
    write_report(folders, tmp_path / 'r.html')
    assert 'None of these runs was evaluated yet' in visible(tmp_path / 'r.html')
    assert section(tmp_path / 'r.html', 'curves').count('<img') == 3  # validation mIoU, loss, learning rate


def test_lineage_is_a_chain_back_to_the_data(stages, tmp_path):
    out = tmp_path / 'r.html'
    write_report(stages, out)
    chain = section(out, 'lineage')
    cards = re.findall(r'<li class="(\w+)">.*?<p class="title">(.*?)</p>', chain)
    assert cards == [('data', 'village'), ('stage', 'baseline: net_s0-baseline_tiny'),
                     ('stage', 'finetune: net_s2-finetune_tiny')]
    for words in ('train 1,234 · val 6 · test 8', 'commit <code>abcdef0123</code>', 'with local changes',
                  'starts from <code>best_mIoU_iter_10.pth</code> of <b>baseline</b>', 'the very file that stage wrote',
                  'best validation mIoU 50.0 % at iteration 10', 'test mIoU 75.0 %', 'started 2025-01-01 10:00 UTC'):
        assert words in chain, words


def test_an_ancestor_that_was_not_given_and_a_foreign_file(make_run, parent_of, tmp_path):
    base = make_run('base', [50] * 4, parents=[
        {'role': 'initialise', 'file': 'imagenet.pth', 'path': 'x', 'sha256': 'a1' * 32, 'lineage': None}])
    teacher = make_run('teacher', [50] * 4, stage='pretrain')
    last = make_run('last', [90] * 4, stage='finetune', parents=[
        parent_of(base, sha256='b' * 64), parent_of(teacher, role='teacher')])
    write_report(last, tmp_path / 'r.html')
    chain = section(tmp_path / 'r.html', 'lineage')
    cards = re.findall(r'<li class="(\w+)">.*?<p class="title">(.*?)</p>', chain)
    assert cards == [('data', 'village'), ('weights', 'imagenet.pth'), ('stage', 'baseline: net_s0-baseline_tiny'),
                     ('stage', 'pretrain: net_s2-pretrain_tiny'), ('stage', 'finetune: net_s2-finetune_tiny')]
    assert chain.count('not among the directories of this report') == 2
    assert 'not the file that stage wrote' in chain and 'is taught by' in chain


def test_cost_tells_starts_and_how_they_ended(make_run, tmp_path):
    starts = [dict(started='2025-01-01T10:00:00+00:00', ended=None, from_iteration=0, to_iteration=4, status='failed',
                   reason='killed', seconds=30.0, peak_memory_mib=1024.0, gpu_memory_mib=512.0, energy_wh=1.0),
              dict(started='2025-01-01T11:00:00+00:00', ended='2025-01-01T11:01:00+00:00', from_iteration=4,
                   to_iteration=2000, status='preempted', reason='SIGTERM', seconds=None, peak_memory_mib=3072.0,
                   gpu_memory_mib=1536.0, energy_wh=2000.0)]
    runs = make_run('a', [80] * 4, starts=starts), make_run('b', [70] * 4, stage='finetune')
    write_report(runs, tmp_path / 'r.html')
    words = ' '.join(re.sub(r'<[^>]*>', ' ', section(tmp_path / 'r.html', 'cost')).split())
    assert 'baseline 0:01:30 2,000 0.250 3.0 GiB 1.5 GiB 2.00 kWh 2, preempted' in words
    assert 'finetune 0:01:00 10 0.250 2.0 GiB – 1.5 Wh 1, finished' in words
    assert 'together 0:02:30' in words
    assert 'baseline 1 2025-01-01 10:00 0 – 4 0:00:30 failed (killed)' in words
    assert 'baseline 2 2025-01-01 11:00 4 – 2,000 0:01:00 preempted (SIGTERM)' in words
    assert 'finetune 1 2025' not in words  # a run that simply finished has nothing more to tell


def test_galleries_stand_below_each_other(stages, tmp_path):
    folders = []
    for name in ('show_a', 'show_b'):
        folders.append(tmp_path / name)
        folders[-1].mkdir()
        for index in range(4):
            Image.new('RGB', (60, 20), (index, 0, 0)).save(folders[-1] / f'tile_{index}.png')
    write_report(stages, tmp_path / 'r.html', gallery=folders, gallery_limit=2)
    gallery = section(tmp_path / 'r.html', 'gallery')
    assert re.findall(r'<h3>(tile_\d)', gallery) == ['tile_0', 'tile_2']  # the largest gain, the largest loss
    assert gallery.count('<img') == 4 and gallery.index('baseline (mIoU') < gallery.index('finetune (mIoU')
    for path in folders[0].glob('*.png'):
        path.rename(path.with_name(f'other_{path.name}'))
    with pytest.raises(UserError, match='no picture has the same name'):
        write_report(stages, tmp_path / 'r.html', gallery=folders)


def test_a_score_of_other_weights_is_no_headline(stages, tmp_path):
    path = stages[1] / 'lineage.json'
    record = json.loads(path.read_text())
    record['metrics']['tested'] = {'file': 'other.pth', 'sha256': 'f' * 64}
    record['starts'][0]['changed'] = ['config model.depth']
    path.write_text(json.dumps(record))
    write_report(stages, tmp_path / 'r.html')
    words = visible(tmp_path / 'r.html')
    assert 'finetune is best' not in words and 'test mIoU 75.0 %' in words and '73.2' not in words
    assert words.count('tested was other.pth, weights that this run did not write') == 1
    assert 'changed before start 1: config model.depth' in words
    write_report(stages[1], tmp_path / 'one.html')
    words = visible(tmp_path / 'one.html')
    assert 'left out: of other.pth, weights that this run did not write' in words and '73.2' not in words


def test_an_edited_lineage_is_one_line(stages, tmp_path):
    path = stages[1] / 'lineage.json'
    path.write_text(json.dumps({**json.loads(path.read_text()), 'metrics': {'best': 3}}))
    with pytest.raises(UserError, match='last/lineage.json: key metrics.best: expected dict, found 3'):
        write_report(stages, tmp_path / 'r.html')


def test_a_damaged_lineage_is_named(stages, tmp_path):
    (stages[1] / 'lineage.json').write_text('{"version": 7}')
    with pytest.raises(UserError, match='last/lineage.json: version: expected 1, found 7'):
        write_report(stages, tmp_path / 'r.html')


def test_no_gain_is_written_in_one_way_and_small_sets_are_counted():
    assert [signed(value) for value in (0.0, 0.0004, -0.0004, 0.001, -0.001)] == [
        '±0.0', '±0.0', '±0.0', '+0.1', '−0.1']
    assert [_amount(value) for value in (0, 49_152, 2_500_000)] == ['0', '49,152', '2.5 M']


def test_a_folder_as_the_page_is_said(tmp_path):
    (tmp_path / 'file').write_text('')
    with pytest.raises(UserError, match='is a folder; expected the file to write, like .*report.html'):
        write_report(tmp_path, tmp_path)
    with pytest.raises(UserError, match='file/r.html: cannot be written, .*file is a file'):
        write_report(tmp_path, tmp_path / 'file/r.html')
