"""Audio input: files, arrays and tensors to mono float32 waveforms at the rate of the encoder."""
