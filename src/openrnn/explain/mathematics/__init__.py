"""A step as mathematics: its graph in larger words, symbols for its values, and formulas."""
