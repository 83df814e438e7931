"""From a name or a path to a ready encoder."""
