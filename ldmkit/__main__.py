"""``python -m ldmkit``, the same as ``ldmkit``."""

import sys

from ldmkit.cli import main

if __name__ == "__main__":
    sys.exit(main())
