"""The parts of `benches/compare.py`, which measures River beside nginx and HAProxy on one machine."""
