"""How fast the layers are, beside their peers, in one process run."""
