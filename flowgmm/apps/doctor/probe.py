"""Report of a job on a node: its environment, its GPU, and whether a lock of ours holds there.

Run by `flowgmm doctor` through srun; prints one line of JSON.
"""

import json
import platform
import sys
from pathlib import Path

__all__ = ["probe"]


def probe(lock: Path) -> dict[str, object]:
    """Look at this machine.

    Arguments:
        lock: File that another process has locked.

    Returns:
        ``versions``, ``gpu`` (a name or None) and ``sees_lock``.
    """
    import torch
    from filelock import FileLock, Timeout

    try:
        with FileLock(lock, timeout=0):
            sees_lock = False
    except Timeout:
        sees_lock = True
    return {
        "versions": f"Python {platform.python_version()}, torch {torch.__version__}",
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "sees_lock": sees_lock,
    }


if __name__ == "__main__":
    print(json.dumps(probe(Path(sys.argv[1]))))
