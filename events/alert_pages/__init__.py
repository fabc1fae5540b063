"""Owns the pages of alerts: what is watched, how it stands, whom that is told, and what was sent."""
