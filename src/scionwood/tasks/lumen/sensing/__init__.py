"""Sensing: the host's counters and the sensors on the I2C bus, each of which may be missing, fail and come back at any time."""
