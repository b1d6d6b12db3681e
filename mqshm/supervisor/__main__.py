"""A supervisor in a process of its own, as a user of the broker starts it: `python .../supervisor/__main__.py NAME`.

By its path, since a new interpreter need not find the package where the user's own program has found it.
"""

import sys
from pathlib import Path

if __name__ == "__main__":
    if not __package__:
        sys.path[0] = str(Path(__file__).parents[2])
    from mqshm.supervisor.process import detached

    raise SystemExit(detached(sys.argv[1]))
