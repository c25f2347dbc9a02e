"""What the frozen prefix of a network makes of images, computed once a node."""
