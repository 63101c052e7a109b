"""CamouflageDataset: the layouts as they are distributed, the splits, what is left out and what is refused."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from projects.camouflage.datasets import CamouflageDataset, camouflage
from projects.camouflage.datasets.duplicates import COD10K_DUPLICATES
from projects.camouflage.datasets.layouts import dataset_name, find_layout
from projects.camouflage.datasets.listing import held_out
from projects.engine import startup
from projects.engine.config import load_config
from projects.engine.consistency import config_metainfo
from projects.engine.errors import UserError
from projects.engine.lineage_record import data_records
from projects.multistage.chain.contents import data_sets
from projects.multistage.publish import published_config

FOUND, TWICE = 'COD10K-CAM-3-Flying-53-Bird-3089', COD10K_DUPLICATES[0]


@pytest.fixture(scope='module', autouse=True)
def started() -> None:
    startup.start()


def image(path: Path, value: int = 90, size: tuple[int, int] = (6, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), value, np.uint8)).save(path)


def mask(path: Path, levels: tuple[int, int] = (0, 255), size: tuple[int, int] = (6, 8)) -> None:
    """Write a mask whose left half has the first level and whose right half the second."""
    path.parent.mkdir(parents=True, exist_ok=True)
    array = np.full(size, levels[0], np.uint8)
    array[:, size[1] // 2:] = levels[1]
    Image.fromarray(array).save(path)


def pairs(images: Path, masks: Path, stems: list[str], suffix: str = '.jpg') -> None:
    for stem in stems:
        image(images / f'{stem}{suffix}')
        mask(masks / f'{stem}.png')


def names(stem: str, number: int) -> list[str]:
    return [f'{stem}{index:03d}' for index in range(number)]


def ids(dataset: CamouflageDataset) -> list[str]:
    return [dataset.get_data_info(index)['sample_id'] for index in range(len(dataset))]


@pytest.fixture
def cod10k(tmp_path: Path) -> Path:
    root = tmp_path / 'COD10K-v3'
    pairs(root / 'Train/Image', root / 'Train/GT_Object', [*names('COD10K-CAM-1-Aquatic-1-Eel-', 40), TWICE])
    pairs(root / 'Test/Image', root / 'Test/GT_Object', [FOUND, TWICE])
    pairs(root / 'Train/Image', root / 'Train/GT_Object', ['COD10K-NonCAM-1-Aquatic-1-Eel-7'])
    (root / 'Train/GT_Edge').mkdir()
    return root


def test_cod10k_as_its_authors_distribute_it(cod10k):
    test = CamouflageDataset(str(cod10k), 'test')
    assert ids(test) == sorted([f'COD10K/{TWICE}', f'COD10K/{FOUND}'])
    info = test.get_data_info(1)
    assert (info['img_path'], info['seg_map_path']) == (
        str(cod10k / f'Test/Image/{FOUND}.jpg'), str(cod10k / f'Test/GT_Object/{FOUND}.png'))
    assert (info['dataset'], info['split'], info['mask_values']) == ('COD10K', 'test', '0/255')
    train, val = ids(CamouflageDataset(str(cod10k), 'train')), ids(CamouflageDataset(str(cod10k), 'val'))
    assert len(train) + len(val) == 40 and val and not set(train) & set(val)
    assert all('-Eel-' in one and 'NonCAM' not in one for one in train + val)
    with_others = CamouflageDataset(str(cod10k), 'train', non_camouflaged=True, val_share=0)
    assert len(with_others) == 41 and 'COD10K/COD10K-NonCAM-1-Aquatic-1-Eel-7' in ids(with_others)


@pytest.mark.parametrize(('layout', 'folders', 'expected'), [
    ('camo', {'Images/Train': (['camourflage_00001'], 'GT'), 'Images/Test': (['camourflage_00002'], 'GT')},
     {'train': ['CAMO/camourflage_00001'], 'test': ['CAMO/camourflage_00002']}),
    ('imgs', {'image': (['animal-1', 'Animal-2'], 'gt')}, {'test': ['CAMO/Animal-2', 'CAMO/animal-1']}),
    ('repackaged', {'TrainDataset/Imgs': (['COD10K-CAM-1', 'camourflage_00001', 'other'], 'TrainDataset/GT'),
                    'TestDataset/CHAMELEON/Imgs': (['animal-1'], 'TestDataset/CHAMELEON/GT'),
                    'TestDataset/nc4k/Image': (['1'], 'TestDataset/nc4k/GT')},
     {'train': ['CAMO/camourflage_00001', 'COD10K/COD10K-CAM-1', 'TrainDataset/other'],
      'test': ['CHAMELEON/animal-1', 'NC4K/1']}),
    ('plain', {'images': (['b', 'a'], 'masks')}, {'train': ['CAMO/a', 'CAMO/b']}),
    ('scenes', {'train/images': (['s0'], 'train/masks'), 'val/images': (['s1'], 'val/masks'),
                'test/images': (['s2'], 'test/masks')},
     {'train': ['camo-set/s0'], 'val': ['camo-set/s1'], 'test': ['camo-set/s2']}),
])
def test_the_layouts_are_told_by_what_is_there(tmp_path, layout, folders, expected):
    root = tmp_path / 'camo-set'
    for images, (stems, masks) in folders.items():
        pairs(root / images, root / masks, stems, suffix='.JPG')
    assert find_layout(root)[0] == layout
    for split, wanted in expected.items():
        assert ids(CamouflageDataset(str(root), split, val_share=0)) == wanted
    assert len(CamouflageDataset(str(root), 'all', layout=layout)) == sum(map(len, expected.values()))
    for split in {'train', 'val', 'test'} - set(expected):
        with pytest.raises(UserError, match=rf'no {split} images \(layout {layout} has: {", ".join(expected)}\)'):
            CamouflageDataset(str(root), split, val_share=0)


def test_a_training_folder_of_its_own_is_one(tmp_path):
    pairs(tmp_path / 'TrainDataset/Imgs', tmp_path / 'TrainDataset/GT', ['camourflage_00001', 'x'])
    assert ids(CamouflageDataset(str(tmp_path / 'TrainDataset'), 'train', val_share=0)) == [
        'CAMO/camourflage_00001', 'TrainDataset/x']


def test_scenes_say_their_kind_and_difficulty(tmp_path):
    for split in ('train', 'test'):
        pairs(tmp_path / split / 'images', tmp_path / split / 'masks', ['0000'], suffix='.png')
    rows = [dict(split='train', image='train/images/0000.png', kind='sand', difficulty=0.25),
            dict(split='test', image='test/images/0000.png', kind='leaves', difficulty=0.75)]
    (tmp_path / 'scenes.json').write_text(json.dumps({'seed': 1, 'images': rows}))
    info = CamouflageDataset(str(tmp_path), 'test').get_data_info(0)
    assert (info['kind'], info['difficulty']) == ('leaves', 0.75)
    assert info['sample_id'] == f'{tmp_path.name}/0000'
    whole = CamouflageDataset(str(tmp_path), 'all', val_share=0)
    assert ids(whole) == [f'{tmp_path.name}/train/0000', f'{tmp_path.name}/test/0000']
    assert whole.get_data_info(0)['kind'] == 'sand'
    (tmp_path / 'scenes.json').write_text('{"seed": 1}')
    with pytest.raises(UserError, match='scenes.json: expected the facts of generated scenes'):
        CamouflageDataset(str(tmp_path), 'test')


def test_several_roots_and_their_names(tmp_path, cod10k):
    pairs(tmp_path / 'CHAMELEON/Imgs', tmp_path / 'CHAMELEON/GT', ['animal-1'])
    pairs(tmp_path / 'mine/Imgs', tmp_path / 'mine/GT', ['animal-1'])
    roots = [str(cod10k), str(tmp_path / 'CHAMELEON')]
    assert ids(CamouflageDataset(roots, 'test'))[2:] == ['CHAMELEON/animal-1']
    assert len(CamouflageDataset(roots, 'train', val_share=0)) == 40
    by_name = CamouflageDataset(dict(NC4K=str(tmp_path / 'mine'), CHAMELEON=str(tmp_path / 'CHAMELEON')), 'test')
    assert ids(by_name) == ['NC4K/animal-1', 'CHAMELEON/animal-1']
    assert by_name.get_data_info(0)['dataset'] == 'NC4K'
    with pytest.raises(UserError, match=r'CHAMELEON/animal-1: stands for several images.*dict\(NAME=FOLDER'):
        CamouflageDataset([str(tmp_path / 'CHAMELEON')] * 2, 'test')
    for wrong in ([], {}, '', [3], None):
        with pytest.raises(UserError, match='data_root: expected a folder, a list of folders'):
            CamouflageDataset(wrong)


def test_known_names_of_data_sets():
    assert [dataset_name(name) for name in ('COD10K-v3', 'CAMO-V.1.0-CVIU2019', 'CAMO', 'camouflage', 'nc4k')] == [
        'COD10K', 'CAMO', 'CAMO', 'camouflage', 'NC4K']


def test_training_images_that_are_test_images_are_left_out_and_said(cod10k, monkeypatch, tmp_path):
    logged = []
    monkeypatch.setattr(camouflage, 'print_log', lambda text, *_: logged.append(text))
    dropped = ids(CamouflageDataset(str(cod10k), 'train', val_share=0))
    assert logged == [f'1 training images are left out, which are test images too: COD10K/{TWICE}']
    kept = ids(CamouflageDataset(str(cod10k), 'train', val_share=0, duplicates='keep'))
    assert len(logged) == 1 and set(kept) - set(dropped) == {f'COD10K/{TWICE}'}
    assert f'COD10K/{TWICE}' in ids(CamouflageDataset(str(cod10k), 'test'))  # the test set stays whole
    own = [f'{FOUND}.png', 'COD10K-CAM-1-Aquatic-1-Eel-003.jpg']
    (tmp_path / 'own.txt').write_text('# mine\n\n' + '\n'.join(own) + '\n')
    for duplicates in (own, str(tmp_path / 'own.txt')):
        left = ids(CamouflageDataset(str(cod10k), 'train', val_share=0, duplicates=duplicates))
        assert set(kept) - set(left) == {'COD10K/COD10K-CAM-1-Aquatic-1-Eel-003'}
    for share in (0.05, 0.9):  # neither is a duplicate held out for validation
        assert f'COD10K/{TWICE}' not in ids(CamouflageDataset(str(cod10k), 'val', val_share=share))
    with pytest.raises(UserError, match="duplicates: expected 'drop', 'keep', a file of names.*found 'dorp'"):
        CamouflageDataset(str(cod10k), 'train', duplicates='dorp')
    assert len(set(COD10K_DUPLICATES)) == 7


def test_what_is_held_out_depends_on_names_alone():
    stems = names('image', 4000)
    held = held_out(stems, 0.05)
    assert 150 < len(held) < 250 and held == held_out(stems[::-1], 0.05)
    assert held & set(stems[:1000]) == held_out(stems[:1000], 0.05)
    assert held < held_out(stems, 0.1)
    assert held_out(stems, 0) == set() and held_out(['alone'], 0.5) == set()
    assert len(held_out(['one', 'two'], 1e-9)) == 1
    # sha256('image004') begins with 0a44: which images are held out must never change between versions.
    assert held_out(stems[:10], 1e-9) == {'image004'}


def test_val_is_never_a_test_folder(cod10k):
    test = set(ids(CamouflageDataset(str(cod10k), 'test')))
    for share in (0.01, 0.5, 0.99):
        val = ids(CamouflageDataset(str(cod10k), 'val', val_share=share))
        assert val and not test & set(val)
        assert all('/Train/' in info['img_path'] for info in CamouflageDataset(str(cod10k), 'val', val_share=share))
    with pytest.raises(UserError, match='no val images'):
        CamouflageDataset(str(cod10k), 'val', val_share=0)
    with pytest.raises(UserError, match='val_share: expected a number from 0 to below 1, found 1'):
        CamouflageDataset(str(cod10k), 'val', val_share=1)


def test_what_does_not_pair_is_named(tmp_path):
    pairs(tmp_path / 'images', tmp_path / 'masks', ['a', 'b'])
    image(tmp_path / 'images/lonely.jpg')
    with pytest.raises(UserError, match=r'1 files do not fit: .*images/lonely.jpg: image without mask$'):
        CamouflageDataset(str(tmp_path))
    data = CamouflageDataset(str(tmp_path), test_mode=True, pipeline=[
        dict(type='LoadPhotograph'), dict(type='LoadCamouflageMask'), dict(type='PackSegInputs')])
    assert data.get_data_info(2)['seg_map_path'] is None and 'gt_sem_seg' not in data[2]['data_samples']
    mask(tmp_path / 'masks/lonely.png')
    mask(tmp_path / 'masks/orphan.png')
    with pytest.raises(UserError, match=r'masks/orphan.png: mask without image$'):
        CamouflageDataset(str(tmp_path))
    (tmp_path / 'masks/orphan.png').unlink()
    image(tmp_path / 'images/a.png')
    with pytest.raises(UserError, match=r'images/a.png: has the same name as a.jpg$'):
        CamouflageDataset(str(tmp_path))


def test_a_problem_of_the_test_folder_does_not_stop_a_training(cod10k):
    image(cod10k / 'Test/Image/COD10K-CAM-9.jpg')
    assert len(CamouflageDataset(str(cod10k), 'train', val_share=0)) == 40
    with pytest.raises(UserError, match='image without mask'):
        CamouflageDataset(str(cod10k), 'test')


def test_a_shared_folder_of_masks_serves_both_splits(tmp_path):
    pairs(tmp_path / 'Images/Train', tmp_path / 'GT', ['c1'])
    pairs(tmp_path / 'Images/Test', tmp_path / 'GT', ['c2'])
    assert ids(CamouflageDataset(str(tmp_path), 'test')) == ['CAMO/c2']
    mask(tmp_path / 'GT/c3.png')
    with pytest.raises(UserError, match='GT/c3.png: mask without image'):
        CamouflageDataset(str(tmp_path), 'test')


def test_nothing_or_too_much_there(tmp_path):
    with pytest.raises(UserError, match='away: no such folder'):
        CamouflageDataset(str(tmp_path / 'away'))
    (tmp_path / 'notes').mkdir()
    with pytest.raises(UserError, match=r'found notes/ \(looked for cod10k: Train/Image \+ Train/GT_Object.*plain: '):
        CamouflageDataset(str(tmp_path))
    pairs(tmp_path / 'Imgs', tmp_path / 'GT', ['a'])
    pairs(tmp_path / 'images', tmp_path / 'masks', ['b'])
    with pytest.raises(UserError, match=r'fits several layouts \(imgs, plain\): say which one with layout='):
        CamouflageDataset(str(tmp_path))
    assert len(CamouflageDataset(str(tmp_path), layout='plain')) == 1
    with pytest.raises(UserError, match="layout: expected 'auto' or one of cod10k, .*found 'coco'"):
        CamouflageDataset(str(tmp_path), layout='coco')
    with pytest.raises(UserError, match="split: expected one of train, val, test, all, found 'tset'"):
        CamouflageDataset(str(tmp_path), 'tset', layout='plain')
    with pytest.raises(UserError, match="mask_values: expected one of auto, 0/255, 0/1, found '0-1'"):
        CamouflageDataset(str(tmp_path), layout='plain', mask_values='0-1')


def test_lineage_chain_and_publishing_know_every_root(tmp_path):
    roots = [str(tmp_path / name) for name in ('a', 'b')]
    for root in (roots, dict(zip('xy', roots))):
        loader = dict(dataset=dict(type='CamouflageDataset', data_root=root, split='train'))
        assert [record['name'] for record in data_records(dict(train_dataloader=loader), tmp_path)] == ['a', 'b']
        assert list(data_sets(loader)) == [(one, 'train') for one in roots]
        published = published_config(dict(train_dataloader=loader), {})['train_dataloader']['dataset']['data_root']
        assert published == (['data/a', 'data/b'] if isinstance(root, list) else dict(x='data/a', y='data/b'))


def test_the_base_config_names_the_classes(repository, tmp_path):
    child = tmp_path / 'child.py'
    bases = [str(repository / 'configs' / name) for name in (
        '_base_/runtime.py', '_base_/schedules/cosine_epochs.py', 'camouflage/_base_/data_camouflage.py')]
    child.write_text(f"_base_ = {bases!r}\nmodel = dict(type='EncoderDecoder')\ndata_root = ['one', 'two']\n"
                     "test_split = 'all'\n")
    config = load_config(child)
    assert config.train_dataloader.dataset.data_root == ['one', 'two']
    splits = [config[f'{split}_dataloader'].dataset.split for split in ('train', 'val', 'test')]
    assert splits == ['train', 'val', 'all']
    meta = config_metainfo(config)
    assert meta['classes'] == ('background', 'camouflaged object') and len(meta['classes']) == config.num_classes


def test_real_photographs(shared_data):
    root = shared_data / 'camouflage'
    pipeline = [dict(type='LoadPhotograph'), dict(type='LoadCamouflageMask'), dict(type='PackSegInputs')]
    dataset = CamouflageDataset(str(root), 'all', pipeline=pipeline)
    shares = {}
    for index in range(len(dataset)):
        sample = dataset[index]['data_samples']
        shares[dataset.get_data_info(index)['sample_id'].split('/')[1]] = float(sample.gt_sem_seg.data.float().mean())
        assert tuple(sample.gt_sem_seg.data.shape[1:]) == tuple(sample.ori_shape)
    stated = {row[1]: float(row[7]) for line in (root / 'SOURCES.md').read_text().splitlines()
              if len(row := line.split('|')) == 11 and row[7].strip()[:2] == '0.'}
    assert len(dataset) == 9 and shares == pytest.approx(stated, abs=1e-4)
    with pytest.raises(UserError, match='29 files do not fit.*image without mask'):
        CamouflageDataset(str(root / 'unlabelled'))
    assert len(CamouflageDataset(str(root / 'unlabelled'), test_mode=True)) == 29
