"""`python -m afterglow`: the same as the command `afterglow`."""

import sys

from afterglow.ui.cli import main

if __name__ == "__main__":
    sys.exit(main())
