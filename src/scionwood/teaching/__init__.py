"""Teachers: clients that ask them, the journal of every call, the filter that keeps what agrees with gold."""
