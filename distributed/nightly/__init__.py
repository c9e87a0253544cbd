"""Nights: the champion measured again, the search continued, a duel, a verdict, a record."""
