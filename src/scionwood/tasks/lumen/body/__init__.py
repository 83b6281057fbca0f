"""The body: three LEDs, a drawing of 240 x 240 that grows with the session, and an inner voice. Each also has a twin without hardware."""
