"""The file in which the fit of an ensemble is kept (``ensemble.json``): weights, temperatures and views."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from projects.engine.errors import UserError
from projects.engine.files import read_versioned_json, sha256_of, write_json
from projects.multiscale.views import check_views

VERSION = 1


@dataclass(frozen=True)
class FittedMember:
    """One network: its checkpoint's name and SHA-256, its weight and its temperature."""

    file: str
    sha256: str
    weight: float
    temperature: float


@dataclass(frozen=True)
class EnsembleFile:
    """What :class:`projects.multiscale.ensemble.EnsembleTTA` needs to know beside the networks."""

    members: tuple[FittedMember, ...]
    temperature: float
    merge: str
    scales: tuple[float, ...]
    flips: tuple[str, ...]

    def of(self, checkpoints: Sequence[str | Path], path: str | Path) -> tuple[list[float], list[float]]:
        """Return weights and temperatures in the order of these checkpoints, which are matched by their bytes.

        Raises:
            UserError: They are not the members of this file, which stands at ``path``.
        """
        known = {member.sha256: member for member in self.members}
        hashes = [sha256_of(checkpoint) for checkpoint in checkpoints]
        for checkpoint, digest in zip(checkpoints, hashes):
            if digest not in known:
                raise UserError(f'{path}: members: expected {", ".join(member.file for member in self.members)}, '
                                f'found {checkpoint}, whose bytes (sha256 {digest[:12]}…) were not fitted')
        left_out = [member.file for member in self.members if member.sha256 not in hashes]
        if left_out:
            raise UserError(f'{path}: members: expected also {", ".join(left_out)}: name it with --also')
        if len(hashes) != len(self.members):
            raise UserError(f'{path}: members: expected {len(self.members)} checkpoints, found {len(hashes)}')
        return [known[digest].weight for digest in hashes], [known[digest].temperature for digest in hashes]


def write_ensemble(path: str | Path, ensemble: EnsembleFile, **facts: Any) -> None:
    """Write an ensemble atomically; ``facts`` are further keys for people, which reading leaves aside."""
    write_json(path, {'version': VERSION, **asdict(ensemble), **facts})


def read_ensemble(path: str | Path) -> EnsembleFile:
    """Read an ensemble.

    Raises:
        UserError: The file is missing, no JSON, of another version, or a key is missing or wrong.
    """
    content = read_versioned_json(path, VERSION, 'tools/fit_ensemble.py')
    try:
        members = tuple(FittedMember(str(item['file']), str(item['sha256']), float(item['weight']),
                                     float(item['temperature'])) for item in content['members'])
        ensemble = EnsembleFile(members, float(content['temperature']), content['merge'], tuple(content['scales']),
                                tuple(content['flips']))
    except KeyError as error:
        raise UserError(f'{path}: key {error} is missing') from error
    except (TypeError, ValueError) as error:
        raise UserError(f'{path}: not an ensemble: {error}') from error
    if not members or len({member.sha256 for member in members}) < len(members):
        raise UserError(f'{path}: members: expected one or more different checkpoints, found '
                        f'{[member.file for member in members]}')
    check_views(ensemble.scales, ensemble.flips, ensemble.merge, str(path))
    return ensemble
