"""Outside suites run where `scripts/conformance` has brought them; without it there are none."""

import os

if "PDFS_TEST_SUITES" not in os.environ:
    collect_ignore_glob = ["test_*.py"]
