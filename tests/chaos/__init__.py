"""What long sweeps on shared machines do to software, done on purpose; docs/reliability.md has the figures."""
