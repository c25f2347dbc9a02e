"""What a group of configuration keys is, and the little that a method may know of an experiment."""
