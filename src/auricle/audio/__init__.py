"""Audio in: files, arrays and tensors become mono float32 waveforms at the encoder's rate."""
