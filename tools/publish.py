#!/usr/bin/env python
"""Give a model away: tools/publish.py CHECKPOINT OUT writes weights (safetensors), config, lineage and model card."""

from projects.engine import startup
from projects.engine.cli import Parser, run
from projects.multistage.publish import publish


def main() -> None:
    parser = Parser(description='Write a folder with weights (safetensors), config, lineage, model card, checksums.')
    parser.add_argument('checkpoint', help='a checkpoint of a training')
    parser.add_argument('out', metavar='OUT', help='the folder to make')
    parser.add_argument('--force', action='store_true', help='replace what publishing made in OUT; other files stay')
    args = parser.parse_args()
    startup.start()
    print(publish(args.checkpoint, args.out, args.force))


if __name__ == '__main__':
    run(main)
