"""``python -m seisbench_cdiffsd.cli`` is the same as ``cdiffsd``."""

import sys

from seisbench_cdiffsd.cli import main

sys.exit(main())
