"""The tasks that ship with Scionwood, each found by entry point like a stranger's own."""
