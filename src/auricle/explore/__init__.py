"""The explore page: a local page in the browser that draws what encoders make of speech."""
