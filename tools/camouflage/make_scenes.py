#!/usr/bin/env python
"""Make camouflage scenes: images and masks of objects that look like what they lie on, from self-made textures."""

from projects.engine.cli import Parser, run
from projects.engine.errors import UserError


def main() -> int:
    parser = Parser(description=__doc__)
    parser.add_argument('--out', required=True, metavar='DIR', help='folder to write: new or empty')
    parser.add_argument('--number', type=int, default=1000, metavar='N', help='training images (default: %(default)s)')
    parser.add_argument('--val', type=int, default=0, metavar='N', help='validation images (default: %(default)s)')
    parser.add_argument('--test', type=int, default=0, metavar='N', help='test images (default: %(default)s)')
    parser.add_argument('--size', type=int, nargs='+', default=[352], metavar='PX',
                        help='pixels a side, or width and height (default: 352)')
    parser.add_argument('--seed', type=int, default=0, metavar='S', help='which scenes (default: %(default)s)')
    parser.add_argument('--difficulty', type=float, nargs='+', default=[0.0, 1.0], metavar='D',
                        help='0 (another colour) to 1 (only subtle breaks), or a range (default: 0 1)')
    parser.add_argument('--kinds', nargs='+', default=['all'], metavar='KIND',
                        help='terrestrial, aquatic or all, taken in turn (default: all)')
    parser.add_argument('--area', type=float, nargs=2, default=[0.01, 0.4], metavar=('LOW', 'HIGH'),
                        help='share of the picture that an object shows (default: 0.01 0.4)')
    parser.add_argument('--objects', type=int, nargs=2, default=[1, 1], metavar=('MIN', 'MAX'),
                        help='objects in a picture (default: 1 1)')
    parser.add_argument('--format', default='png', metavar='png|jpg',
                        help='of the images: exact, or small at quality 95 (default: %(default)s)')
    parser.add_argument('--workers', type=int, default=1, metavar='N',
                        help='processes; the files are the same (default: %(default)s)')
    parser.add_argument('--overwrite', action='store_true', help='replace the scenes that are in DIR')
    args = parser.parse_args()
    for flag, values in (('size', args.size), ('difficulty', args.difficulty)):
        if len(values) > 2:
            raise UserError(f'--{flag}: expected one value or two, found {len(values)}')

    from projects.camouflage.scenes.background import KINDS
    from projects.camouflage.scenes.scene import SceneOptions
    from projects.camouflage.scenes.write import write_scenes

    options = SceneOptions(
        size=(args.size[-1], args.size[0]), difficulty=(args.difficulty[0], args.difficulty[-1]),
        area=tuple(args.area), objects=tuple(args.objects),
        kinds=KINDS if args.kinds == ['all'] else tuple(args.kinds))
    made = write_scenes(args.out, dict(train=args.number, val=args.val, test=args.test), args.seed, options,
                        args.format, args.workers, args.overwrite)
    counts = ', '.join(f'{number} {split}' for split, number in made.numbers.items() if number)
    total = sum(made.numbers.values())
    print(f'{counts} images in {made.folder}, {made.seconds:.1f} s ({total / made.seconds:.1f} a second); '
          f'an object shows {made.area:.1%} of its picture on average')
    return 0


if __name__ == '__main__':
    run(main)
