"""What an experiment is: the frozen models of a study and of all that it is made of."""
