"""Small against large: models on the same tasks at equal length: measured, rated blind, told with the design's power."""
