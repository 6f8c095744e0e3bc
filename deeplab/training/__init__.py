"""Training: loop, step, optimizers, schedules, callbacks, devices. Importing it imports no TensorFlow."""
