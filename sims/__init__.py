"""Worlds, roads, scenarios, judge and expert. Knows nothing of controllers or models."""
