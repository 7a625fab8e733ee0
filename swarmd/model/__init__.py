"""The nouns: specs, rows, states, errors.  Pure."""
