"""The store: recordings of readings and states in SQLite, and the files that they are brought in from and shipped as."""
