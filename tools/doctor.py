#!/usr/bin/env python
"""Say what this machine has, lacks or shadows, a line each; exit status 1 when something needed is missing."""

from projects.engine.cli import run
from projects.engine.doctor import examine


def main() -> int:
    findings = examine()
    for finding in findings:
        print(finding)
    return int(any(finding.status == 'missing' for finding in findings))


if __name__ == '__main__':
    run(main)
