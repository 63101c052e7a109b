#!/usr/bin/env python
"""One checkpoint out of one for each scale: tools/lidar/assemble_experts.py CONFIG 50=A.pth 100=B.pth … --out FILE."""

from projects.engine import startup
from projects.engine.cli import Parser, add_cfg_options, run


def main() -> None:
    parser = Parser(description='Put the experts of the scales together as one checkpoint of ScaleExperts.')
    parser.add_argument('config', help='a Python config whose model is ScaleExperts')
    parser.add_argument('experts', nargs='+', metavar='SIZE=CHECKPOINT', help='the expert of each patch size')
    parser.add_argument('--out', required=True, metavar='FILE.pth', help='the checkpoint, in a folder of its own')
    add_cfg_options(parser)
    args = parser.parse_args()
    startup.start()
    from projects.lidar.prediction.experts import assemble_experts, read_pairs

    print(assemble_experts(args.config, read_pairs(args.experts), args.out, args.cfg_options))


if __name__ == '__main__':
    run(main)
