"""The evidence: what a tuned method does on forget sets, originals and references of its own."""
