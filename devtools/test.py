"""`dev.py test`: lint first, then every test (or what the pytest arguments choose)."""

import sys

import pytest

from devtools import lint

if __name__ == "__main__":
    problems = lint.main()
    sys.exit(problems or pytest.main(sys.argv[1:]))
