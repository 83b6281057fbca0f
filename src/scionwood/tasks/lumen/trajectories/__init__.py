"""Trajectories: windows of states on a regular grid, and what shape they have."""
