"""The device loop: sensors, state, shape, expression and body as one process; and the page that shows it."""
