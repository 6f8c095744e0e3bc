"""TensorFlow-1-named checkpoints: names and arrays in, files out, and back."""
