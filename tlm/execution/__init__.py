"""Making the artifacts of steps: in this process or a child, here or on another machine."""
