"""How good Pocket is, in numbers: what looks at pictures, what asks for them, and what is made of the two."""
