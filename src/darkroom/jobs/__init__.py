"""Jobs: requests on their way to becoming files. Only `worker` may import torch."""
