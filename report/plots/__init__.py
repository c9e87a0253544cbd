"""A study as pictures: the search, the metrics next to the references, the generator.

Figures are built as objects, without pyplot's global state, so that threads can draw.
"""
