"""What happens around training steps: one file per callback."""
