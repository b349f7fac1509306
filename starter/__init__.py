"""The starter model: data, training, evaluation and export (see README.md; entry command: make)."""

import os

# Read when torch loads its OpenMP: waiting threads sleep, since other work shares the cores.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "0")
