"""The explore page: a local web page that draws representations of speech."""
