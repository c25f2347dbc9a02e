"""How the classifier head is fitted in round 0."""
