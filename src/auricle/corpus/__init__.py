"""Corpora: utterances of files, folders, manifests, archives and data sets, listed and read."""
