"""Loads a model and runs it once, in a process of its own: the library crashes on one that is corrupt."""

from __future__ import annotations

import sys

import numpy as np
from pymicro_wakeword import MicroWakeWord

if __name__ == "__main__":
    network = MicroWakeWord.from_config(sys.argv[1])
    for _ in range(network.stride):
        network.process_streaming_prob(np.zeros((1, 1, 40), np.float32))
