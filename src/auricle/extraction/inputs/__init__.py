"""From what a user names to utterances: folders, patterns, manifests, data sets, archives."""
