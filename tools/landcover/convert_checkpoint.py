#!/usr/bin/env python
"""Convert a published GeoSeg FTUNetFormer checkpoint: tools/landcover/convert_checkpoint.py IN OUT."""


from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.landcover.checkpoints import convert_file


def main() -> None:
    parser = Parser(
        description='Convert a published GeoSeg FTUNetFormer checkpoint (also a Lightning file) to this project.')
    parser.add_argument('source', metavar='IN', help='the published file')
    parser.add_argument('target', metavar='OUT', help='the checkpoint to write (.pth)')
    parser.add_argument('--taxonomy', help='the classes it was trained on (e.g. landcover6): stored, checked at load')
    parser.add_argument('--overwrite', action='store_true', help='replace OUT when it exists')
    args = parser.parse_args()
    startup.start()
    count = convert_file(args.source, args.target, args.taxonomy, args.overwrite)
    print(f'{args.target}: {count} tensors')


if __name__ == '__main__':
    run(main)
