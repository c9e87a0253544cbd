"""Nights: measure the champion again, continue the search, duel, judge, record."""
