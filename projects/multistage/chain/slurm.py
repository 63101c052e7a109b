"""A chain on a Slurm cluster: one job a stage, each begun when those that it needs have ended well."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from projects.engine.errors import UserError
from projects.engine.files import write_json, write_text
from projects.multistage.chain.definition import filled, needs_of
from projects.multistage.chain.run import DONE, WAITING, ChainRunner, Outcome
from projects.multistage.chain.stages import ROOT, TrainStage, WaitStage, options_as_arguments

# The signal comes to this script alone, two minutes before the time is up; it goes on to the stage, which saves.
SCRIPT = """#!/usr/bin/env bash
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
cd {folder} || exit 2
{command} &
process=$!
trap 'kill -USR1 "$process" 2>/dev/null || true' USR1 TERM
while true; do  # a trapped signal ends `wait` early
  wait "$process" && status=0 || status=$?
  if ! kill -0 "$process" 2>/dev/null; then
    wait "$process" 2>/dev/null && own=0 || own=$?
    if [ "$own" -ne 127 ]; then status=$own; fi
    break
  fi
done
if [ "$status" -eq 75 ]; then
  echo {stage}: saved, requeueing job "$SLURM_JOB_ID" >&2
  scontrol requeue "$SLURM_JOB_ID"
  exit
fi
exit "$status"
"""


def submit(runner: ChainRunner, arguments: Sequence[str]) -> Outcome:
    """Submit every stage that is left as a job of one node.

    ``--gpus N`` becomes ``--gres=gpu:N`` of the trainings. ``SBATCH_ARGS`` is added to every ``sbatch``
    (``-p PARTITION --time=…``). A stage whose job is still queued or running is not submitted twice.

    Args:
        runner: The chain; ``launcher`` is ``'slurm'``.
        arguments: Of ``tools/run_stages.py`` that each job repeats, the chain file first.

    Returns:
        Status 3 where jobs behind a stage that waits for a person were left out.

    Raises:
        UserError: ``sbatch`` is not there or refuses.
    """
    plan = runner.plan()
    path = runner.work_dir / 'slurm' / 'jobs.json'
    jobs: dict[str, str] = _read(path)
    own: dict[str, str] = {}  # of stages that are open
    waiting: list[str] = []
    message = ''
    for stage, decision in plan:
        if decision.action == 'skip':
            runner.tell(f'{stage.name}: {decision.why}, skipped')
            continue
        if isinstance(stage, WaitStage) or any(name in waiting for name in needs_of(stage)):
            waiting.append(stage.name)
            if isinstance(stage, WaitStage):
                text = filled(stage.text, runner.values(stage))
                message = message or (f'{stage.name} waits for a person: {text} (then the same command submits the '
                                      'rest)')
            continue
        if (job := jobs.get(stage.name)) and _is_queued(job):
            runner.tell(f'{stage.name}: job {job} is there already')
            own[stage.name] = job
            continue
        before = [own[name] for name in [*needs_of(stage), *([stage.gate.parent] if stage.gate else [])]
                  if name in own]
        own[stage.name] = jobs[stage.name] = _submit(runner, stage, list(dict.fromkeys(before)), arguments)
        write_json(path, jobs)
        runner.tell(f'{stage.name}: job {own[stage.name]}{f" after {chr(44).join(before)}" if before else ""}')
    if waiting:
        return Outcome(WAITING, message)
    return Outcome(DONE, f'{len(own)} job{"s" * (len(own) != 1)} submitted')


def _submit(runner: ChainRunner, stage: object, before: list[str], arguments: Sequence[str]) -> str:
    gpus = runner.choice.gpus if isinstance(stage, TrainStage) else None
    own = [*arguments, '--work-dir', str(runner.work_dir), '--only', stage.name]
    own += ['--launcher', 'pytorch', '--gpus', str(gpus)] if gpus else []
    command = shlex.join([os.environ.get('PYTHON', sys.executable), str(ROOT / 'tools/run_stages.py'), *own])
    script = runner.work_dir / 'slurm' / f'{stage.name}.sh'
    write_text(script, SCRIPT.format(folder=shlex.quote(str(Path.cwd())), command=command, stage=stage.name))
    options = [f'--job-name={runner.chain.name}-{stage.name}', f'--output={runner.work_dir}/slurm/{stage.name}-%j.log',
               '--kill-on-invalid-dep=yes', *([f'--gres=gpu:{gpus}'] if gpus else []),
               *([f'--dependency=afterok:{":".join(before)}'] if before else []),
               *shlex.split(os.environ.get('SBATCH_ARGS', ''))]
    try:
        done = subprocess.run(['sbatch', '--parsable', *options, str(script)], capture_output=True, text=True)
    except OSError as error:
        raise UserError(f'--launcher slurm: sbatch: {error.strerror}') from error
    if done.returncode:
        raise UserError(f'--launcher slurm: sbatch refused {stage.name}: {" ".join(done.stderr.split())}')
    return done.stdout.strip().partition(';')[0]  # with several clusters: ID;CLUSTER


def _is_queued(job: str) -> bool:
    try:
        done = subprocess.run(['squeue', '--noheader', '--jobs', job], capture_output=True, text=True)
    except OSError:
        return False
    return done.returncode == 0 and bool(done.stdout.strip())


def _read(path: Path) -> dict[str, str]:
    try:
        found = json.loads(path.read_text(encoding='utf-8'))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def repeated_arguments(args: object) -> list[str]:
    """Return what each job repeats of the arguments of ``tools/run_stages.py``."""
    given = [str(Path(args.chain).resolve())]
    for flag in ('stop_at_gates', 'accept_code'):
        given += [f'--{flag.replace("_", "-")}'] if getattr(args, flag) else []
    given += ['--set', *args.set] if args.set else []
    return given + (['--cfg-options', *options_as_arguments(args.cfg_options)] if args.cfg_options else [])
