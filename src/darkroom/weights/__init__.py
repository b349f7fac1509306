"""Files to tensors and back. Knows no sampler, no device plan and no request."""
