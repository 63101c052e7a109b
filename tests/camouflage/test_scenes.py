"""Camouflage scenes: the same to the byte, true masks, the asked areas, a difficulty that is one."""

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from projects.camouflage.scenes import scene as drawing
from projects.camouflage.scenes import write as writing
from projects.camouflage.scenes.background import KINDS, Background
from projects.camouflage.scenes.coat import colour_moments, colour_transfer
from projects.camouflage.scenes.layout import draw_layout
from projects.camouflage.scenes.palettes import RANGES
from projects.camouflage.scenes.raster import fill
from projects.camouflage.scenes.scene import SceneOptions, make_scene
from projects.camouflage.scenes.silhouettes import SHAPES
from projects.camouflage.scenes.spectra import phase_randomised, power_noise, smooth_noise
from projects.camouflage.scenes.textures import FAMILIES, draw_texture
from projects.camouflage.scenes.write import write_scenes
from projects.engine.errors import UserError

SMALL = SceneOptions(size=(96, 96))


def digests(folder: Path) -> dict[str, str]:
    return {path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in sorted(folder.rglob('*')) if path.is_file()}


def test_images_depend_on_seed_and_index_alone(tmp_path):
    few = write_scenes(tmp_path / 'few', dict(train=3, val=1, test=0), 5, SMALL).folder
    many = write_scenes(tmp_path / 'many', dict(train=5, val=2, test=1), 5, SMALL, workers=2).folder
    a, b = digests(few), digests(many)
    assert all(a[name] == b[name] for name in a if name != 'scenes.json')
    assert len(set(b.values())) == len(b), 'two images of the set are the same'
    again = write_scenes(tmp_path / 'again', dict(train=3, val=1, test=0), 5, SMALL).folder
    assert digests(again) == a
    other = write_scenes(tmp_path / 'other', dict(train=3, val=1, test=0), 6, SMALL).folder
    assert digests(other)['train/images/00000.png'] != a['train/images/00000.png']


def test_a_scene_does_not_depend_on_the_number_of_threads():
    threads = cv2.getNumThreads()
    try:
        for index in range(6):
            seen = []
            for number in (1, 3):
                cv2.setNumThreads(number)
                seen.append(make_scene(2, 0, index, replace(SMALL, size=(160, 128))).image)
            np.testing.assert_array_equal(*seen)
    finally:
        cv2.setNumThreads(threads)


def test_layout_on_disk(tmp_path):
    options = SceneOptions(size=(96, 128), objects=(2, 2), area=(0.01, 0.2))
    made = write_scenes(tmp_path / 'scenes', dict(train=2, val=1, test=0), 1, options, 'jpg')
    names = set(digests(made.folder))
    assert names == {f'{split}/{kind}/{k:05d}.{suffix}' for split, k in (('train', 0), ('train', 1), ('val', 0))
                     for kind, suffix in (('images', 'jpg'), ('masks', 'png'))} | {'scenes.json'}
    note = json.loads((made.folder / 'scenes.json').read_text())
    assert (note['seed'], note['size'], note['format']) == (1, [96, 128], 'jpg')
    assert [e['kind'] for e in note['images'] if e['split'] == 'train'] == list(KINDS)
    for entry in note['images']:
        image, mask = cv2.imread(str(made.folder / entry['image'])), cv2.imread(str(made.folder / entry['mask']), -1)
        assert image.shape == (96, 128, 3) and mask.shape == (96, 128)
        assert set(np.unique(mask)) == {0, 255}
        assert entry['area'] == pytest.approx((mask > 0).mean(), abs=1e-6)
        assert len(entry['objects']) == 2
        boxes = np.zeros_like(mask)
        for one in entry['objects']:
            x0, y0, x1, y1 = one['box']
            boxes[y0:y1, x0:x1] = 255
        assert not (mask & ~boxes).any()
        assert sum(one['area'] for one in entry['objects']) == pytest.approx(entry['area'], abs=2e-6)


def test_png_holds_the_scene_exactly(tmp_path):
    folder = write_scenes(tmp_path / 's', dict(train=1), 3, SMALL).folder
    scene = make_scene(3, 0, 0, SMALL)
    image = cv2.imread(str(folder / 'train/images/00000.png'))[..., ::-1]
    np.testing.assert_array_equal(image, scene.image)
    np.testing.assert_array_equal(cv2.imread(str(folder / 'train/masks/00000.png'), -1), scene.mask)


@pytest.mark.parametrize(('area', 'objects'), [((0.01, 0.4), (1, 1)), ((0.005, 0.03), (1, 3)), ((0.3, 0.35), (1, 1)),
                                               ((0.05, 0.1), (4, 4))])
def test_areas_and_numbers_are_the_asked_ones(area, objects):
    for seed in range(12):
        placed = draw_layout(np.random.default_rng(seed), (96, 128), bool(seed % 2), area, objects)
        assert objects[0] <= len(placed) <= objects[1]
        for one in placed:
            assert area[0] <= one.visible.mean() <= area[1]


def test_the_mask_is_what_one_sees(monkeypatch):
    """With magenta coats on grey ground, under plain light, the mask is what is magenta."""
    def grey(rng, kind, h, w, light):
        texture = draw_texture(np.random.default_rng(0), 'noise', 'green')
        return Background(np.full((h, w, 3), 0.5, np.float32), [texture], np.zeros((h, w), np.uint8), 0.4, 0.0)

    def magenta(rng, ground, alpha, box, turn, length, difficulty):
        return np.broadcast_to(np.float32([0.9, 0, 0.9]), (box[2] - box[0], box[3] - box[1], 3)).copy()
    monkeypatch.setattr(drawing, 'draw_background', grey)
    monkeypatch.setattr(drawing, 'draw_coat', magenta)
    monkeypatch.setattr(drawing, '_eyes', lambda rng, coat, *rest: coat)
    monkeypatch.setattr(drawing, '_illuminate', lambda rng, image, aquatic: image)
    monkeypatch.setattr(drawing, 'develop', lambda rng, image: (np.clip(image, 0, 1) * 255).astype(np.uint8))
    overlaps = []
    for index in range(20):
        scene = make_scene(8, 0, index, replace(SMALL, size=(160, 160), area=(0.05, 0.3)))
        red, green = scene.image[..., 0].astype(float), scene.image[..., 1].astype(float)
        seen, mask = green < 0.5 * red, scene.mask > 0
        overlaps.append((seen & mask).sum() / (seen | mask).sum())
    assert min(overlaps) > 0.75 and np.mean(overlaps) > 0.93, overlaps


def test_what_is_hidden_is_no_object():
    hidden = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        one, = draw_layout(rng, (96, 96), False, (0.05, 0.3), (1, 1))
        behind = (one.alpha >= 0.5) & (one.occluder >= 0.5)
        hidden += bool(behind.sum() > 10)
        assert not (one.visible & behind).any() and (one.visible | behind == (one.alpha >= 0.5)).all()
    assert hidden >= 4, 'hardly anything lies before the objects'


def test_objects_do_not_overlap():
    for seed in range(6):
        placed = draw_layout(np.random.default_rng(seed), (96, 96), True, (0.01, 0.2), (3, 3))
        assert sum(one.visible.astype(int) for one in placed).max() == 1


def test_objects_lie_near_the_centre_as_in_photographs():
    centres = []
    for seed in range(40):
        one, = draw_layout(np.random.default_rng(seed), (96, 96), False, (0.01, 0.1), (1, 1))
        ys, xs = np.nonzero(one.visible)
        centres.append(np.hypot(ys.mean() / 96 - 0.5, xs.mean() / 96 - 0.5))
    assert 0.1 < np.mean(centres) < 0.3  # 0.38 is a uniform one


def conspicuousness(scene) -> float:
    """Distance of colour and gradient statistics between an object and the ring around it."""
    mask = scene.mask > 0
    ring = (cv2.dilate(scene.mask, np.ones((25, 25))) > 0) & ~(cv2.dilate(scene.mask, np.ones((5, 5))) > 0)
    lab = cv2.cvtColor(scene.image, cv2.COLOR_RGB2LAB).astype(float)
    gradient = np.abs(cv2.Laplacian(lab[..., 0], cv2.CV_64F))[..., None]
    features = np.concatenate([lab, gradient], -1)
    means = features[mask].mean(0) - features[ring].mean(0)
    spreads = features[mask].std(0) - features[ring].std(0)
    return float(np.linalg.norm(means) + np.linalg.norm(spreads))


def test_difficulty_makes_objects_less_conspicuous():
    means = []
    for difficulty in (0.0, 0.5, 1.0):
        options = replace(SMALL, difficulty=(difficulty, difficulty), area=(0.03, 0.3))
        means.append(np.mean([conspicuousness(make_scene(11, 0, k, options)) for k in range(24)]))
    assert means[0] > 1.2 * means[1] > 1.3 * means[2], means


def test_difficulty_changes_neither_mask_nor_kind():
    easy, hard = (make_scene(1, 0, 3, replace(SMALL, difficulty=(d, d))) for d in (0.0, 1.0))
    np.testing.assert_array_equal(easy.mask, hard.mask)
    assert (easy.kind, easy.difficulty, hard.difficulty) == (hard.kind, 0.0, 1.0)
    assert (easy.image != hard.image).any()


def test_difficulties_fill_their_range():
    values = [make_scene(1, 0, k, replace(SMALL, size=(64, 64), difficulty=(0.4, 0.6))).difficulty for k in range(12)]
    assert 0.4 <= min(values) < 0.45 and 0.55 < max(values) <= 0.6


def test_kinds_are_told_apart_by_their_colours():
    """A threshold on blue and green against red is right more often than not; a coin would be at 0.5."""
    blue = {kind: [] for kind in KINDS}
    for kind in KINDS:
        for k in range(24):
            r, g, b = make_scene(4, 0, k, replace(SMALL, size=(64, 64), kinds=(kind,))).image.mean((0, 1))
            blue[kind].append((g + b) / (r + g + b))
    cut = np.median(blue['terrestrial'] + blue['aquatic'])
    right = (np.mean(np.array(blue['aquatic']) > cut) + np.mean(np.array(blue['terrestrial']) <= cut)) / 2
    assert right > 0.7, right


@pytest.mark.parametrize('family', FAMILIES)
def test_every_texture_family(family):
    rng = np.random.default_rng(0)
    for palette in list(RANGES)[::4]:
        texture = draw_texture(rng, family, palette)
        first = texture.draw(np.random.default_rng(1), 48, 64, 0.5, 0.3)
        assert first.shape == (48, 64, 3) and first.dtype == np.float32
        assert np.isfinite(first).all() and first.min() >= 0 and first.max() <= 1 and first.std() > 0.003
        np.testing.assert_array_equal(first, texture.draw(np.random.default_rng(1), 48, 64, 0.5, 0.3))
        assert np.abs(first - texture.draw(np.random.default_rng(2), 48, 64, 0.5, 0.3)).mean() > 1e-3


@pytest.mark.parametrize('name', SHAPES)
def test_every_silhouette_is_a_connected_body_with_eyes_on_it(name):
    for seed in range(5):
        shape = SHAPES[name][0](np.random.default_rng(seed))
        alpha = fill([part * 60 + 160 for part in shape.parts], 320, 320) > 0.5
        regions, _, stats, _ = cv2.connectedComponentsWithStats(alpha.astype(np.uint8))
        assert alpha.sum() > 200
        assert stats[1:, cv2.CC_STAT_AREA].max() > 0.9 * alpha.sum(), f'{regions - 1} pieces'


def test_colour_transfer_gives_mean_and_covariance():
    rng = np.random.default_rng(0)
    image = rng.normal(0.5, 0.1, (40, 40, 3)).astype(np.float32)
    target = np.array([[0.02, 0.01, 0.0], [0.01, 0.02, 0.005], [0.0, 0.005, 0.01]])
    mean, covariance = colour_moments(colour_transfer(image, np.array([0.2, 0.5, 0.7]), target).reshape(-1, 3))
    np.testing.assert_allclose(mean, [0.2, 0.5, 0.7], atol=1e-4)
    np.testing.assert_allclose(covariance, target, atol=3e-4)


def test_noise_has_the_asked_spectrum():
    field = power_noise(np.random.default_rng(0), 256, 256, 1.2, largest=1.0)
    spectrum = np.abs(np.fft.rfft2(field))
    radius = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.rfftfreq(256)[None])
    low, high = (spectrum[(radius > r * 0.8) & (radius < r * 1.25)].mean() for r in (0.03, 0.3))
    assert np.log10(low / high) == pytest.approx(1.2, abs=0.06)


def test_phase_randomised_texture_keeps_the_correlations():
    rng = np.random.default_rng(0)
    common = power_noise(rng, 64, 64, 1.0)
    patch = np.stack([common, common * 0.5, rng.standard_normal((64, 64), dtype=np.float32)], -1) + np.float32(3)
    out = phase_randomised(rng, patch, 64, 64)
    np.testing.assert_allclose(np.cov(out.reshape(-1, 3).T), np.cov(patch.reshape(-1, 3).T), rtol=0.05, atol=0.02)
    np.testing.assert_allclose(out.mean((0, 1)), patch.mean((0, 1)), atol=1e-3)
    assert abs(np.corrcoef(out[..., 0].ravel(), patch[..., 0].ravel())[0, 1]) < 0.4


def test_smooth_noise_is_soft_and_bounded():
    field = smooth_noise(np.random.default_rng(0), 90, 130, 5)
    assert field.shape == (90, 130) and np.abs(field).max() < 1.6 and field.std() > 0.2
    assert np.abs(np.diff(field, axis=1)).max() < 0.25


@pytest.mark.parametrize(('change', 'message'), [
    (dict(size=(96, 20)), '--size: expected 64 to 4096'),
    (dict(difficulty=(0.5, 1.5)), '--difficulty: expected 0 <= LOW <= HIGH <= 1'),
    (dict(difficulty=(0.5, float('nan'))), '--difficulty'),
    (dict(area=(0.3, 0.1)), '--area: expected 0 <= LOW <= HIGH'),
    (dict(area=(0.0, 0.1)), 'at least 16 pixels'),
    (dict(area=(0.1, 0.1)), 'a range of at least 2'),
    (dict(objects=(0, 1)), '--objects: expected 1 <= LOW'),
    (dict(objects=(1, 10), area=(0.1, 0.2)), '--objects: expected at most 4 objects'),
    (dict(kinds=('marine',)), '--kinds: expected some of terrestrial, aquatic or all, each once, found marine'),
    (dict(kinds=()), '--kinds'),
])
def test_bad_options(tmp_path, change, message):
    with pytest.raises(UserError) as error:
        write_scenes(tmp_path / 's', dict(train=1), 0, replace(SMALL, **change))
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(('arguments', 'message'), [
    (dict(numbers=dict(train=0)), '--number: expected 1'), (dict(numbers=dict(train=1, val=-1)), '--val: expected 0'),
    (dict(seed=-1), '--seed'), (dict(image_format='gif'), '--format: expected png or jpg'),
    (dict(workers=0), '--workers'),
])
def test_bad_arguments(tmp_path, arguments, message):
    with pytest.raises(UserError) as error:
        write_scenes(tmp_path / 's', **{'numbers': dict(train=1), 'seed': 0, 'options': SMALL, **arguments})
    assert message in str(error.value)
    assert not list(tmp_path.iterdir())


def test_nothing_of_the_users_is_lost(tmp_path):
    folder = tmp_path / 's'
    folder.mkdir()
    (folder / 'thesis.txt').write_text('years of work')
    for overwrite, message in ((False, 'expected an empty folder'), (True, 'found no scenes.json')):
        with pytest.raises(UserError, match=message):
            write_scenes(folder, dict(train=1), 0, SMALL, overwrite=overwrite)
    (folder / 'thesis.txt').unlink()
    write_scenes(folder, dict(train=2, val=1), 0, SMALL)
    with pytest.raises(UserError, match='--overwrite'):
        write_scenes(folder, dict(train=1), 0, SMALL)
    (folder / 'train' / 'notes.txt').write_text('mine')
    with pytest.raises(UserError, match=r'train/notes\.txt'):
        write_scenes(folder, dict(train=1), 0, SMALL, overwrite=True)
    (folder / 'train' / 'notes.txt').unlink()
    (folder / 'scenes.json').write_text('{}')
    with pytest.raises(UserError, match='found something else'):
        write_scenes(folder, dict(train=1), 0, SMALL, overwrite=True)


def test_overwriting_leaves_the_new_scenes_alone(tmp_path):
    folder = tmp_path / 's'
    write_scenes(folder, dict(train=2, val=1), 0, SMALL)
    write_scenes(folder, dict(train=1), 1, SMALL, overwrite=True)
    write_scenes(tmp_path / 'fresh', dict(train=1), 1, SMALL)
    assert digests(folder) == digests(tmp_path / 'fresh')
    assert {path.name for path in tmp_path.iterdir()} == {'s', 'fresh'}


def test_what_came_into_the_folder_meanwhile_stays(tmp_path, monkeypatch):
    folder = tmp_path / 's'

    def meanwhile(*arguments):
        folder.mkdir()
        (folder / 'thesis.txt').write_text('years of work')
        return make_scene(*arguments)
    monkeypatch.setattr(writing, 'make_scene', meanwhile)
    with pytest.raises(UserError, match='expected an empty folder'):
        write_scenes(folder, dict(train=1), 0, SMALL)
    assert (folder / 'thesis.txt').read_text() == 'years of work'
    assert [path for path in tmp_path.iterdir() if path != folder] == []


@pytest.mark.parametrize('old', [False, True])
def test_nothing_is_half_written(tmp_path, monkeypatch, old):
    folder = tmp_path / 's'
    if old:
        write_scenes(folder, dict(train=1), 0, SMALL)
    before = digests(folder)

    def fails(seed, stream, index, options):
        if index == 1:
            raise KeyboardInterrupt
        return make_scene(seed, stream, index, options)
    monkeypatch.setattr(writing, 'make_scene', fails)
    with pytest.raises(KeyboardInterrupt):
        write_scenes(folder, dict(train=3), 1, SMALL, overwrite=True)
    assert digests(folder) == before
    assert folder.exists() == old
    assert [path for path in tmp_path.iterdir() if path != folder] == []


def run_tool(repository, *arguments):
    return subprocess.run([sys.executable, str(repository / 'tools/camouflage/make_scenes.py'), *map(str, arguments)],
                          capture_output=True, text=True, timeout=120)


def test_the_tool(repository, tmp_path):
    done = run_tool(repository, '--out', tmp_path / 's', '--number', 2, '--test', 1, '--size', 96, 64, '--seed', 4,
                    '--difficulty', 0.3, '--kinds', 'aquatic', '--area', 0.05, 0.2, '--objects', 1, 2)
    assert done.returncode == 0, done.stderr
    assert '2 train, 1 test images' in done.stdout
    note = json.loads((tmp_path / 's' / 'scenes.json').read_text())
    assert note['size'] == [64, 96] and note['kinds'] == ['aquatic'] and note['difficulty'] == [0.3, 0.3]
    assert cv2.imread(str(tmp_path / 's/train/images/00001.png')).shape == (64, 96, 3)
    assert {entry['kind'] for entry in note['images']} == {'aquatic'}


@pytest.mark.parametrize('arguments', [('--size', 96, 96, 96), ('--area', 0.5, 0.1), ('--kinds', 'all', 'x'),
                                       ('--number', 'many')])
def test_the_tool_tells_a_mistake_in_one_line(repository, tmp_path, arguments):
    done = run_tool(repository, '--out', tmp_path / 's', *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith('error: ') and done.stderr.count('\n') == 1
    assert str(arguments[0]) in done.stderr
    assert not list(tmp_path.iterdir())
