"""From data sets to batches of tensors: samplers, worker processes, collating, copying to the device."""
