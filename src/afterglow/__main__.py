"""`python -m afterglow`: the same as the command `afterglow`."""

import sys

if __name__ == "__main__":
    # `python -m` puts the current directory first: a queue.py that lies there is not for us.
    if not sys.flags.safe_path:
        del sys.path[0]
    from afterglow.ui.cli import main

    sys.exit(main())
