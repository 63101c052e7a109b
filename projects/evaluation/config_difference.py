"""What the resolved configs of several runs differ in, key by key. Nothing in them is executed."""

from collections.abc import Sequence

from projects.engine.config_text import flat_config

# Where a run lies, what it loaded and how it was seeded is told elsewhere.
LEFT_OUT = ('work_dir', 'load_from', 'resume', 'randomness', 'experiment_name', 'experiment', 'launcher', 'cfg')


def config_differences(texts: Sequence[str]) -> list[tuple[str, list[str | None]]]:
    """Return each dotted key that is not the same everywhere, and its value in each config as it is written.

    Args:
        texts: Python configs of assignments, as MMEngine writes them. One that does not parse counts as empty.

    Returns:
        Keys in the order of the first config that has them; None where a config does not have the key. What is equal
        below a key that all have is left out.
    """
    flat = [{key: value for key, value in flat_config(text).items() if key.partition('.')[0] not in LEFT_OUT}
            for text in texts]
    keys = dict.fromkeys(key for one in flat for key in one)
    return [(key, [one.get(key) for one in flat]) for key in keys if len({one.get(key) for one in flat}) > 1]
