"""Pictures of representations; needs matplotlib (`pip install 'auricle[plot]'`)."""
