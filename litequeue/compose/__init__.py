"""Calls of calls: chains, groups, chords and callbacks, and what is stored of them. Knows no SQL."""
