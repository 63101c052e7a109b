"""Training images of COD10K that are test images too: known names, and the user's own list."""

from collections.abc import Iterable
from pathlib import Path

from projects.engine.errors import UserError

# The first two carry the same name in both folders; the authors of COD10K announced them (SINet's README, 2021/10/09).
# The other five have another name in the test folder (Owl-4633, Deer-1762, Gecko-1892, Giraffe-1932, Gecko-1895);
# users found them by comparing contents. tools/camouflage/check.py compares the contents of what is really there.
COD10K_DUPLICATES = (
    'COD10K-CAM-1-Aquatic-3-Crab-32',
    'COD10K-CAM-2-Terrestrial-23-Cat-1506',
    'COD10K-CAM-3-Flying-53-Bird-3205',
    'COD10K-CAM-2-Terrestrial-28-Deer-1796',
    'COD10K-CAM-2-Terrestrial-26-Chameleon-1694',
    'COD10K-CAM-2-Terrestrial-32-Giraffe-1930',
    'COD10K-CAM-2-Terrestrial-31-Gecko-1928',
)


def duplicate_names(duplicates: str | Path | Iterable[str]) -> frozenset[str]:
    """Return the names (stems in lower case) of the training images to leave out.

    Args:
        duplicates: 'drop' for :data:`COD10K_DUPLICATES`, 'keep' for none, a text file with one name a line (empty
            lines and lines that begin with '#' do not count), or the names. A name may carry a suffix.

    Raises:
        UserError: neither a known word, nor a file, nor names.
    """
    if duplicates == 'keep':
        return frozenset()
    if duplicates == 'drop':
        names: Iterable[str] = COD10K_DUPLICATES
    elif isinstance(duplicates, (str, Path)):
        path = Path(duplicates).expanduser()
        if not path.is_file():
            raise UserError(f"duplicates: expected 'drop', 'keep', a file of names or a list of names, "
                            f'found {str(duplicates)!r}')
        try:
            lines = [line.strip() for line in path.read_text(encoding='utf-8').splitlines()]
        except UnicodeDecodeError as error:
            raise UserError(f'duplicates: {path}: expected a text file with one name a line, found {error}') from error
        names = [line for line in lines if line and not line.startswith('#')]
    else:
        names = list(duplicates)
        if not all(isinstance(name, str) for name in names):
            raise UserError(f'duplicates: expected names, found {names[:3]!r}')
    return frozenset(stem(name) for name in names)


def stem(name: str) -> str:
    """Return a file's name without folder and image suffix, in lower case."""
    path = Path(name)
    known = path.suffix.lower() in ('.jpg', '.jpeg', '.png', '.bmp', '.tif', '.tiff', '.webp')
    return (path.stem if known else path.name).casefold()
