"""Labels for new texts, from the artifacts of a study."""
