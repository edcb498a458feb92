"""What a plan takes: tokens and operations, and the time that they take on this machine."""
