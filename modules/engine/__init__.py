"""Jobs go in here and events come out: one task becomes pictures, and the studio keeps models and order."""
