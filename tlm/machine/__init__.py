"""What merely runs an experiment: places, device, precision, memory."""
