"""What all tests share."""

import os

# Tests run side by side: one thread each, or they fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
