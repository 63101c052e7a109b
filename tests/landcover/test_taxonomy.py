"""Taxonomies, their hash, and the maps between them."""

import numpy as np
import pytest

from projects.engine.errors import UserError
from projects.landcover.taxonomy import REMAPS, TAXONOMIES, Remap, Taxonomy, get_remap, get_taxonomy


def test_landcover6_is_the_contract():
    taxonomy = get_taxonomy('landcover6')
    assert taxonomy.classes == (
        'Background',
        'Forest Land',
        'Grassland',
        'Cropland',
        'Settlement',
        'SemiNatural Grassland',
    )
    assert taxonomy.palette == (
        (11, 246, 210),
        (250, 62, 119),
        (168, 232, 84),
        (242, 180, 92),
        (116, 116, 116),
        (255, 214, 33),
    )
    assert (taxonomy.background, taxonomy.ignore_index) == (0, 255)


def test_hash_is_stable_and_ignores_the_name():
    # Stored in every checkpoint and manifest: a change of this value makes all of them unusable.
    expected = '70e4b7d749d946501352d01bde243969732c9f6dcc1f462d552dd89b00ad9541'
    taxonomy = get_taxonomy('landcover6')
    assert taxonomy.hash == expected
    assert Taxonomy('other', taxonomy.classes, taxonomy.palette).hash == expected
    swapped = (taxonomy.classes[1], taxonomy.classes[0], *taxonomy.classes[2:])
    assert Taxonomy('landcover6', swapped, taxonomy.palette).hash != expected


@pytest.mark.parametrize('name', TAXONOMIES)
def test_metainfo_round_trip(name):
    taxonomy = get_taxonomy(name)
    again = get_taxonomy(taxonomy.metainfo)
    assert again.hash == taxonomy.hash and again.name == name and again.background == taxonomy.background


def test_edited_metainfo_is_refused():
    metainfo = get_taxonomy('landcover6').metainfo
    metainfo['classes'][0], metainfo['classes'][1] = metainfo['classes'][1], metainfo['classes'][0]
    with pytest.raises(UserError, match='taxonomy_hash'):
        get_taxonomy(metainfo)


def test_unknown_name_suggests():
    with pytest.raises(UserError, match="did you mean 'landcover6'"):
        get_taxonomy('landcover')


@pytest.mark.parametrize(
    'changes, message',
    [
        ({'palette': [(0, 0, 0)]}, 'palette must have 2 colours'),
        ({'palette': [(0, 0, 0), (0, 0, 256)]}, '0..255'),
        ({'classes': ('a', 'a')}, 'different names'),
        ({'background': 2}, 'background'),
        ({'ignore_index': 1}, 'ignore_index must be 255, found 1'),
        ({'ignore_index': 254}, 'ignore_index must be 255, found 254'),
        ({'file_values': (1, 1)}, 'file_values'),
        ({'no_data': (0,)}, 'no_data'),
        ({'colour': 1}, r"unknown keys \['colour'\]"),
    ],
)
def test_contradictory_taxonomies_are_refused(changes, message):
    content = {'name': 't', 'classes': ('a', 'b'), 'palette': [(0, 0, 0), (1, 1, 1)], **changes}
    with pytest.raises(UserError, match=message):
        get_taxonomy(content)


def test_decode_loveda_counts_from_one():
    mask = np.array([[0, 1, 7, 255]], np.uint8)
    assert get_taxonomy('loveda').decode(mask, 'm.png').tolist() == [[255, 0, 6, 255]]


def test_foreign_labels_are_named_with_counts():
    mask = np.array([[0, 6, 6, 9, 255]], np.uint8)
    with pytest.raises(UserError, match=r'tile\.png.*6 \(2 px\), 9 \(1 px\), expected 0\.\.5, 255'):
        get_taxonomy('landcover6').validate(mask, 'tile.png')
    get_taxonomy('landcover6').validate(np.array([[0, 5, 255]], np.uint8), 'tile.png')


@pytest.mark.parametrize('key', REMAPS, ids='-'.join)
def test_shipped_matrices_are_row_stochastic(key):
    matrix = REMAPS[key].matrix
    assert (matrix >= 0).all()
    ignored = {'cover4': ('clutter', 'car', 'background', 'impervious other')}.get(key[1], ())
    np.testing.assert_allclose(matrix.sum(1), [name not in ignored for name in REMAPS[key].source.classes])


@pytest.mark.parametrize('source', ['dronedeploy', 'loveda', 'chesapeake'])
def test_cover4_is_what_three_data_sets_share(source):
    remap = get_remap(source, 'cover4')
    expected = {'building': 2, 'vegetation': 0, 'water': 1, 'ground': 3, 'road': 3, 'barren': 3, 'forest': 0,
                'agriculture': 0, 'tree canopy': 0, 'low vegetation': 0, 'impervious road': 3}
    assert remap.hard.tolist() == [expected.get(name, 255) for name in remap.source.classes]


def test_openearthmap_by_name():
    remap = get_remap('openearthmap', 'landcover6', 'by_name')
    # unknown, bareland, rangeland, developed, road, tree, water, agriculture, building
    assert remap.hard.tolist() == [0, 5, 2, 4, 4, 1, 0, 3, 4]
    assert remap.matrix[2].tolist() == [0, 0, 0.7, 0, 0, 0.3]


def test_openearthmap_by_confusion():
    remap = get_remap('openearthmap', 'landcover6', 'by_confusion')
    assert remap.hard.tolist() == [0, 2, 2, 4, 4, 1, 0, 2, 4]
    assert remap.apply(np.array([[1, 8, 255]], np.uint8)).tolist() == [[2, 4, 255]]


def test_village_to_landcover6():
    village, six = get_taxonomy('village'), get_taxonomy('landcover6')
    hard = dict(zip(village.classes, (six.classes[i] for i in get_remap('village', 'landcover6').hard)))
    expected = {
        'Forest Land': {'tree', 'hedge'},
        'Grassland': {'meadow', 'garden'},
        'Cropland': {'crop', 'bare_field'},
        'Settlement': {'road', 'courtyard', 'building', 'car', 'path'},
        'SemiNatural Grassland': {'semi_natural_grass'},
        'Background': {'unknown', 'water', 'bare_ground'},
    }
    assert {goal: {name for name in hard if hard[name] == goal} for goal in six.classes} == expected


def test_two_maps_and_no_choice_is_an_error():
    with pytest.raises(UserError, match=r"choose one of \['by_confusion', 'by_name'\]"):
        get_remap('openearthmap', 'landcover6')
    with pytest.raises(UserError, match='unknown variant'):
        get_remap('openearthmap', 'landcover6', 'by_nam')
    with pytest.raises(UserError, match='there is none'):
        get_remap('loveda', 'landcover6')


def test_remap_by_class_names_may_ignore():
    remap = get_remap(
        'dronedeploy',
        'landcover6',
        {
            'building': 'Settlement',
            'clutter': None,
            'vegetation': {'Grassland': 0.4, 'Forest Land': 0.6},
            'water': 'Background',
            'ground': 'Settlement',
            'car': 'Settlement',
        },
    )
    assert remap.hard.tolist() == [4, 255, 1, 0, 4, 4]
    with pytest.raises(UserError, match='unknown target class'):
        get_remap('loveda', 'landcover6', dict.fromkeys(get_taxonomy('loveda').classes, 'Forrest'))
    with pytest.raises(UserError, match='missing'):
        get_remap('loveda', 'landcover6', {'road': 'Settlement'})


def test_matrix_rows_must_be_shares():
    six = get_taxonomy('landcover6')
    with pytest.raises(UserError, match=r'Forest Land \(0\.5\)'):
        Remap(six, six, np.diag([1, 0.5, 1, 1, 1, 1]))


def test_identity_between_equal_taxonomies():
    assert get_remap('landcover6', 'landcover6').hard.tolist() == [0, 1, 2, 3, 4, 5]
    with pytest.raises(UserError, match=r"equal, so the identity is used: leave remap out \(None\), found 'by_name'"):
        get_remap('landcover6', 'landcover6', 'by_name')
