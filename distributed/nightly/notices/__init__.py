"""Notices of nights: what is news, to whom it goes, and delivery that never fails a night."""
