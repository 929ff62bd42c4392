"""Toyland: pictures whose captions are true by construction, the world that Pocket is trained on."""
