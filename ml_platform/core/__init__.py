"""Errors, canonical digests, clock, ids, fields and contracts, the lake, settings: what stages share."""
