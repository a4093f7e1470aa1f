"""Governed models on Dagster: declare, train, register, approve, decide, and trace every decision."""
