"""The agent: reads how a host is, and tracks it."""
