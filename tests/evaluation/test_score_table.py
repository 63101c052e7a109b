"""Tables of a task's own scores: files that come back as they were, missing values, what the report makes of them."""

import math

import pytest

from projects.engine.errors import UserError
from projects.evaluation.report import write_report
from projects.evaluation.score_table import Score, ScoreTable, read_score_tables, write_score_table

SCORES = (Score('length', 'of lines'), Score('error', smaller_is_better=True))


def table(length=0.5, error=0.25):
    return ScoreTable('lines', 'Roof lines', SCORES, [dict(group='all', images=2, length=length, error=error)],
                      [dict(sample_id='a', town=None, length=length, error=0.5)])


def test_files_come_back(tmp_path):
    write_score_table(table(), tmp_path, {'split': 'val'})
    (tmp_path / 'scores.json').write_text('{"kind": 1}')  # other files of the folder
    assert read_score_tables(tmp_path) == [(table(), {'split': 'val'})]
    assert (tmp_path / 'lines.csv').read_text() == 'group,images,length,error\nall,2,0.5,0.25\n'
    assert (tmp_path / 'lines_images.csv').read_text() == 'sample_id,town,length,error\na,,0.5,0.5\n'
    assert read_score_tables(tmp_path / 'none') == []


def test_missing_scores(tmp_path):
    write_score_table(table(length=math.nan), tmp_path)
    [(found, _)] = read_score_tables(tmp_path)
    assert math.isnan(found.groups[0]['length']) and found.images[0]['town'] is None
    assert found.text().splitlines()[-1].split() == ['all', '2', '–', '0.2500']


def test_a_damaged_table_is_named(tmp_path):
    write_score_table(table(), tmp_path)
    path = tmp_path / 'lines.json'
    path.write_text(path.read_text().replace('"title"', '"tilte"'))
    with pytest.raises(UserError, match=r"lines.json: not a score table \(KeyError: 'title'\)"):
        read_score_tables(tmp_path)
    path.write_text(path.read_text()[:-20])
    with pytest.raises(UserError, match='lines.json: not readable as JSON'):
        read_score_tables(tmp_path)


def test_a_test_of_other_weights_has_no_table(make_run, tmp_path):
    """What is left out of the scores is left out of the tables."""
    tested = {'test': {'mIoU': 0.75}, 'tested': {'sha256': '0' * 64, 'file': 'other.pth'}}
    for name, more, shown in (('own', {}, True), ('foreign', {'metrics': tested}, False)):
        folder = make_run(name, [90, 80], **more)
        write_score_table(table(), folder / 'evaluation' / 'test')
        write_report(folder, tmp_path / f'{name}.html')
        assert ('Roof lines' in (tmp_path / f'{name}.html').read_text()) == shown
    assert 'left out: of other.pth' in (tmp_path / 'foreign.html').read_text()


def test_repetitions_are_one_row(make_run, tmp_path):
    folders = [make_run('one', [90, 80], seed=1), make_run('two', [90, 80], seed=2)]
    for folder, error in zip(folders, (0.2, 0.4)):
        write_score_table(table(error=error), folder / 'evaluation' / 'test')
    write_report(folders, tmp_path / 'both.html')
    page = (tmp_path / 'both.html').read_text()
    section = page[page.index('<section id="lines-compared"'):]
    assert '<span class="score">0.300</span><br><small>± 0.141</small>' in section[:section.index('</section>')]
    assert 'class="best"' not in section[:section.index('</section>')]
