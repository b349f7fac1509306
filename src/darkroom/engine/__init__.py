"""One device: what it can do, the models on it, and the denoisers that tasks call."""
