"""`python -m iotml`."""

import sys

from iotml.cli import main

sys.exit(main())
