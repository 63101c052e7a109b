#!/usr/bin/env python
"""Read labelled roofs of other formats into annotations.json and images/, which RooflineDataset trains on.

Formats: wireframe (JSON of RoofMapSet, L-CNN, HAWP), rid (GeoJSON of RID and RID2), roofgraph (NAME.verts and
NAME.faces, JSON or .npz with verts and faces, or an annotations.json), seed (train/ and valid/ with NAME_label.npz).
"""

import argparse
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError

FORMATS = ('wireframe', 'rid', 'roofgraph', 'seed')


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, metavar='SOURCE', help='file or folder of labels')
    parser.add_argument('--format', required=True, choices=FORMATS)
    parser.add_argument('--out', type=Path, required=True, metavar='DIR', help='folder to write: new or empty')
    parser.add_argument('--images', type=Path, metavar='DIR',
                        help='where the images lie (default: beside the labels; rid: none, labels only)')
    parser.add_argument('--labels-only', action='store_true', help='wireframe, roofgraph: images need not be there')
    parser.add_argument('--order', default='xy', metavar='xy|yx',
                        help='wireframe: order of coordinates, checked against the image sizes (default: %(default)s)')
    parser.add_argument('--repair', action='store_true',
                        help='wireframe: cut lines off at the border, drop those of no length or given twice')
    parser.add_argument('--snap', metavar='2px|0.3m',
                        help='ends this close are one, lines are split where they touch or cross (default: rid 0.3m, '
                        'wireframe not at all)')
    parser.add_argument('--resolution', type=float, metavar='METRES', help='of a pixel: rid without images; roofgraph '
                        'whose images are not georeferenced, for line types from heights')
    parser.add_argument('--margin', type=int, default=16, metavar='PX',
                        help='rid without images: around the roofs (default: %(default)s)')
    parser.add_argument('--crs', metavar='EPSG:N', help='rid: of images that do not name theirs, or of the frames '
                        '(default: the UTM zone)')
    parser.add_argument('--azimuth', default='south', metavar='south|north',
                        help='rid: what azimuth 0 is, clockwise (default: %(default)s)')
    parser.add_argument('--val-share', type=float, default=0.0, metavar='S',
                        help='share of images for val (default: the splits of the source)')
    parser.add_argument('--test-share', type=float, default=0.0, metavar='S', help='share of images for test')
    parser.add_argument('--group', metavar='PATTERN',
                        help="regular expression for the map sheet in a file name, which stays in one split: '^(.+)_'")
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='of the splits (default: %(default)s)')
    parser.add_argument('--link', action='store_true', help='link the images instead of copying them')
    parser.add_argument('--dry-run', action='store_true', help='read and report, write nothing')
    parser.add_argument('--overwrite', action='store_true', help='replace the import that is in DIR')
    return parser.parse_args()


def main() -> int:
    args = parse()
    from projects.roofline.importing.writing import SplitOptions, split_images, write_import

    reading = split_images(read(args), SplitOptions(args.val_share, args.test_share, args.group, args.seed))
    if not args.dry_run:
        write_import(args.out, reading.images, args.link, args.overwrite)
    for note in reading.notes:
        print(note)
    print(report(reading, 'read, nothing written' if args.dry_run else str(args.out)))
    return 0


def read(args: argparse.Namespace):
    """Return the Reading of the format."""
    from projects.roofline.importing.images import ImageFolder
    from projects.roofline.importing.tolerance import read_tolerance

    snap = None if args.snap is None else read_tolerance(args.snap)
    refuse_foreign(args)
    if args.resolution is not None and not 0.001 <= args.resolution <= 10:
        raise UserError(f'--resolution: expected metres a pixel, 0.001 to 10, found {args.resolution:g}')
    beside = args.source if args.source.is_dir() else args.source.parent
    if args.format == 'seed':
        from projects.roofline.importing.seed_folder import read_seed_folder

        return read_seed_folder(args.source)
    if args.format == 'rid':
        from projects.roofline.geometry.place import read_crs
        from projects.roofline.importing.segments import SegmentOptions, read_segments
        from projects.roofline.importing.tolerance import Tolerance

        if args.azimuth not in ('south', 'north'):
            raise UserError(f'--azimuth: expected south or north, found {args.azimuth!r}')
        if not 0 <= args.margin <= 10_000:
            raise UserError(f'--margin: expected 0 to 10,000 pixels, found {args.margin}')
        return read_segments(args.source, None if args.images is None else ImageFolder(args.images), SegmentOptions(
            Tolerance(0.3, 'm') if snap is None else snap, args.resolution, args.margin,
            None if args.crs is None else read_crs(args.crs), args.azimuth))
    images = ImageFolder(args.images or beside)
    if args.format == 'roofgraph':
        from projects.roofline.importing.roof_graphs import read_roof_graphs

        return read_roof_graphs(args.source, images, args.labels_only, args.resolution)
    from projects.roofline.importing.wireframe_json import WireframeOptions, read_wireframes

    return read_wireframes(args.source, images,
                           WireframeOptions(args.order, snap, args.repair, args.labels_only))


def refuse_foreign(args: argparse.Namespace) -> None:
    """Refuse a flag that the format has no use for: it would do nothing."""
    for formats, flags in ((('rid',), dict(margin=16, crs=None, azimuth='south')),
                           (('rid', 'roofgraph'), dict(resolution=None)),
                           (('wireframe',), dict(order='xy', repair=False)),
                           (('wireframe', 'rid'), dict(snap=None)),
                           (('wireframe', 'roofgraph'), dict(labels_only=False)),
                           (('wireframe', 'rid', 'roofgraph'), dict(images=None))):
        for name, default in flags.items():
            if getattr(args, name) != default and args.format not in formats:
                raise UserError(f'--{name.replace("_", "-")}: expected with --format {" or ".join(formats)} only, '
                                f'found --format {args.format}')


def report(reading, place: str) -> str:
    """Return one line of counts."""
    from projects.roofline.importing.splits import count_splits

    graphs = [image.annotation.graph for image in reading.images]
    empty = sum(graph.empty for graph in graphs)
    return (f'{place}: {count_splits([image.annotation.split for image in reading.images])} images with '
            f'{sum(len(graph.junctions) for graph in graphs):,} junctions, '
            f'{sum(len(graph.lines) for graph in graphs):,} lines, {sum(len(graph.faces) for graph in graphs):,} faces'
            + (f'; {empty} without lines' if empty else ''))


if __name__ == '__main__':
    run(main)
