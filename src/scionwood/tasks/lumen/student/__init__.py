"""The student: random forests that decide on the device what a teacher would express, from the numbers of one window."""
