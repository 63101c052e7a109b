#!/usr/bin/env python
"""Write the label files of the seed's layout, or read them back: tools/roofline/make_labels.py DIR --out DIR2.

From DIR/annotations.json and DIR/images/ to DIR2/train/ and DIR2/valid/ with NAME.png and NAME_label.npz; images are
scaled into a square frame without a change of their proportions. With --to-graph the other way round, in the pixels
of the PNG files. Coordinate systems and resolutions are not kept: the .npz has no room for them.
"""

import argparse
from pathlib import Path

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError

FORWARD = dict(image_size=512, map_size=128, types=1, negatives=2000)


def parse() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('source', type=Path, metavar='DIR', help='folder to read')
    parser.add_argument('--out', type=Path, required=True, metavar='DIR2', help='folder to write: new or empty')
    parser.add_argument('--to-graph', action='store_true', help="read the seed's layout, write annotations.json")
    parser.add_argument('--image-size', type=int, metavar='PX', help='side of the images (default: 512)')
    parser.add_argument('--map-size', type=int, metavar='CELLS', help='side of the heat maps (default: 128)')
    parser.add_argument('--types', type=int, metavar='T', help='classes of junctions, n_jtyp (default: 1)')
    parser.add_argument('--negatives', type=int, metavar='N',
                        help='at most so many hard negatives an image (default: 2000)')
    return parser.parse_args()


def main() -> int:
    args = parse()
    given = {name: getattr(args, name) for name in FORWARD if getattr(args, name) is not None}
    if args.to_graph:
        if given:
            raise UserError(f'--{next(iter(given)).replace("_", "-")}: expected without --to-graph: the files say it')
        return to_graph(args.source, args.out)
    from projects.roofline.label_folder import write_label_folder

    options = {**FORWARD, **given}
    made = write_label_folder(args.source, args.out, options['image_size'], options['map_size'], options['types'],
                              options['negatives'])
    print(f'{args.out}: {", ".join(f"{number} {folder}" for folder, number in made.items())} images with labels')
    return 0


def to_graph(source: Path, out: Path) -> int:
    from projects.roofline.importing.seed_folder import read_seed_folder
    from projects.roofline.importing.writing import write_import
    from projects.roofline.label_folder import check_new_folder

    check_new_folder(out)
    reading = read_seed_folder(source)
    write_import(out, reading.images)
    for note in reading.notes:
        print(note)
    print(f'{out}: {len(reading.images)} images with '
          f'{sum(len(image.annotation.graph.lines) for image in reading.images):,} lines')
    return 0


if __name__ == '__main__':
    run(main)
