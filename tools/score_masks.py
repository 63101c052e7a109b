#!/usr/bin/env python
"""Score a folder of predicted masks: tools/score_masks.py --pred-dir DIR --gt-dir DIR --taxonomy NAME."""


from projects.engine.cli import Parser, run
from projects.engine.errors import UserError
from projects.evaluation.folder import write_evaluation
from projects.evaluation.masks import RULES, score_folders


def main() -> None:
    parser = Parser(
        description='Score index masks (PNG or TIFF, pixels are class ids) against true ones, matched by stem.')
    parser.add_argument('--pred-dir', required=True, metavar='DIR', help='predicted masks')
    parser.add_argument('--gt-dir', required=True, metavar='DIR', help='true masks')
    named = parser.add_mutually_exclusive_group(required=True)
    named.add_argument('--taxonomy', metavar='NAME', help='a land-cover taxonomy: classes, colours, background')
    named.add_argument('--classes', metavar='NAME,NAME', help='class names in the order of their ids')
    named.add_argument('--num-classes', type=int, metavar='N', help='number of classes')
    parser.add_argument('--background', type=int, metavar='ID',
                        help="class left out of mIoU_foreground (default: the taxonomy's, else none)")
    parser.add_argument('--ignore-index', type=int, metavar='LABEL',
                        help="true label that is not counted (default: the taxonomy's, else 255)")
    parser.add_argument('--unpredicted', choices=RULES, default='error',
                        help='predicted 255 (no data in the image) on labelled ground: an error (default), a miss of '
                             'the true class, or skip the pixel')
    parser.add_argument('--raw-truth', action='store_true',
                        help="true masks as published, with the file values of --taxonomy (LoveDA's 1..7, 0 = none)")
    parser.add_argument('--out', metavar='DIR', help='write tables and pictures')
    args = parser.parse_args()
    if args.raw_truth and (not args.taxonomy or args.ignore_index is not None):
        raise UserError('--raw-truth: expected --taxonomy and no --ignore-index: the taxonomy says what files hold')
    options = {'background': args.background, 'unpredicted': args.unpredicted,
               'ignore_index': 255 if args.ignore_index is None else args.ignore_index}
    if args.taxonomy:
        from projects.landcover.taxonomy import get_taxonomy

        taxonomy = get_taxonomy(args.taxonomy)
        meta = taxonomy.metainfo
        options['decode'] = taxonomy.decode if args.raw_truth else None
        classes, options['palette'] = meta['classes'], meta['palette']
        for key in ('background', 'ignore_index'):
            if getattr(args, key) is None:
                options[key] = meta[key]
    elif args.classes:
        classes = [name.strip() for name in args.classes.split(',')]
        if not all(classes) or len(set(classes)) != len(classes):
            raise UserError(f'--classes: expected different names separated by commas, found {args.classes!r}')
    else:
        if not 1 <= args.num_classes <= 255:
            raise UserError(f'--num-classes: expected 1..255, found {args.num_classes}')
        classes = [f'class {i}' for i in range(args.num_classes)]
    evaluation, unpredicted = score_folders(args.pred_dir, args.gt_dir, classes, **options)
    print(evaluation.text())
    facts = {'predictions': args.pred_dir, 'truth': args.gt_dir}
    if args.unpredicted != 'error':
        facts |= {'unpredicted': args.unpredicted, 'unpredicted_pixels': unpredicted}
        done = 'counted as misses' if args.unpredicted == 'miss' else 'left out'
        print(f'labelled pixels that are not predicted: {unpredicted:,}, {done}')
    if args.out:
        write_evaluation(evaluation, args.out, facts)
        print(f'tables and pictures: {args.out}')


if __name__ == '__main__':
    run(main)
